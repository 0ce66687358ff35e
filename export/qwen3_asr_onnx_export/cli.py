"""The `export` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from qwen3_asr_onnx.commands.command import EXIT_OK, Command

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="checkpoint directory, or a hub id such as Qwen/Qwen3-ASR-0.6B")
    parser.add_argument("bundle", type=Path, help="directory to create")
    parser.add_argument("--revision", help="branch, tag or commit, when the checkpoint is a hub id")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle if it exists")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare the graphs with transformers on random inputs"
    )
    parser.add_argument(
        "--trace", action="store_true", help="trace the graphs anew, even of a released shape, whose graphs come along"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")


def _run(args: Namespace) -> int:
    from qwen3_asr_onnx.bundle.hub import resolve

    from .pipeline import export_checkpoint

    checkpoint = resolve(args.checkpoint, revision=args.revision, kind="checkpoint")
    bundle = export_checkpoint(
        checkpoint,
        args.bundle,
        overwrite=args.overwrite,
        check=not args.no_check,
        trace=args.trace,
        progress=not args.quiet,
    )
    if not args.quiet:
        size = sum(record.size for record in bundle.manifest.files.values())
        sys.stderr.write(f"{bundle.path}: {size / 1e6:,.1f} MB, variants: {', '.join(bundle.manifest.variants)}\n")
    return EXIT_OK


COMMAND = Command(
    name="export",
    help="export a Qwen3-ASR checkpoint to an ONNX bundle",
    add_arguments=_add_arguments,
    run=_run,
)
