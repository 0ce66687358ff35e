# ruff: noqa: INP001 - the folder is a part of a namespace of others, which has no __init__.py

"""`optimum-cli export qwen3-asr-onnx`, where optimum 2.1 and later looks for commands of others."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

__all__ = ["REGISTER_COMMANDS"]


class Qwen3AsrOnnxCommand(BaseOptimumCLICommand):
    """The verb `export` of qwen3-asr-onnx. Whatever is heavy is imported when it runs."""

    COMMAND = CommandInfo(name="qwen3-asr-onnx", help="Qwen3-ASR and Qwen3-ForcedAligner to ONNX, by qwen3-asr-onnx")

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Add the arguments of the verb as optimum's own exporters have them."""
        from qwen3_asr_onnx_export.cli import add_options

        parser.add_argument("-m", "--model", dest="checkpoint", required=True, help="checkpoint directory, or a hub id")
        parser.add_argument("bundle", metavar="output", help="directory to create")
        add_options(parser)

    def run(self) -> None:
        """Export, and end the process with the verb's exit status if that is not 0."""
        from pathlib import Path

        from qwen3_asr_onnx.commands.cli import ended, run
        from qwen3_asr_onnx_export.cli import COMMAND

        self.args.command, self.args.bundle = COMMAND, Path(self.args.bundle)
        status = ended(lambda: run(self.args))
        if status:
            sys.exit(status)


REGISTER_COMMANDS = [(Qwen3AsrOnnxCommand, ExportCommand)]
