"""What a verb of the command line is: the runtime's own verbs and those the workshops plug in are all `Command`s.

A workshop registers one under the entry-point group `qwen3_asr_onnx.commands`:

    [project.entry-points."qwen3_asr_onnx.commands"]
    export = "qwen3_asr_onnx_export.cli:COMMAND"
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["EXIT_FAILED", "EXIT_OK", "EXIT_USAGE", "Command"]

EXIT_OK = 0
EXIT_FAILED = 1
"""Some input could not be processed; the others were."""
EXIT_USAGE = 2
"""Wrong usage, options or bundle, or a package is missing: nothing was done. argparse uses the same number."""


@dataclass(frozen=True, slots=True)
class Command:
    """One verb.

    Attributes:
        name: what the user types after `qwen3-asr-onnx`.
        help: one line for the list of verbs.
        add_arguments: adds the verb's own arguments to its parser.
        run: does the work and returns the exit status. Errors of the package may leave it: the command line prints
            them and exits with `EXIT_USAGE`.
    """

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], object]
    run: Callable[[Namespace], int]
