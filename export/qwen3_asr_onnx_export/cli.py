"""The `export` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from pathlib import Path

from qwen3_asr_onnx.commands.command import EXIT_OK, Command
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["COMMAND", "LAYOUT_NAMES", "add_options"]

LAYOUT_NAMES = ("sherpa", "wyoming", "split")
"""As in `layouts.packaging.LAYOUTS`, which imports what is heavy."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="checkpoint directory, or a hub id such as Qwen/Qwen3-ASR-0.6B; with --layout also a bundle directory",
    )
    parser.add_argument("bundle", type=Path, help="directory to create")
    add_options(parser)


def add_options(parser: ArgumentParser) -> None:
    """Add all options of `export`, without what it reads and writes."""
    parser.add_argument("--revision", help="branch, tag or commit, when the checkpoint is a hub id")
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle if it exists")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare the graphs with transformers on random inputs"
    )
    parser.add_argument(
        "--trace", action="store_true", help="trace the graphs anew, even of a released shape, whose graphs come along"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")
    _add_layout_arguments(parser.add_argument_group("files for other programs (docs/layouts.md)"))


def _add_layout_arguments(parser: _ArgumentGroup) -> None:
    parser.add_argument(
        "--layout",
        choices=LAYOUT_NAMES,
        help="instead of a bundle, files for sherpa-onnx and daobidao (sherpa), for wyoming-faster-whisper (wyoming), "
        "or for programs that read decoder_init and decoder_step (split)",
    )
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="of a bundle, one of its variants (default: its first); of a checkpoint, fp32 (default) or a recipe, as "
        "`quantize --recipe` takes it",
    )
    parser.add_argument(
        "--fp16-logits", action="store_true", help="logits in half precision, which sherpa-onnx takes: less memory"
    )
    parser.add_argument("--inline", action="store_true", help="weights inside the graphs, as far as 2 GB allow")


def _run(args: Namespace) -> int:
    if args.layout is not None:
        return _run_layout(args)
    if args.variant is not None or args.fp16_logits or args.inline:
        raise OptionsError("--variant, --fp16-logits and --inline are about other programs' files; give --layout too")
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


def _run_layout(args: Namespace) -> int:
    if args.trace:
        raise OptionsError("--trace is about bundles; leave it out with --layout")
    from qwen3_asr_onnx.bundle.hub import resolve

    from .layouts.packaging import write_layout

    write_layout(
        resolve(args.checkpoint, revision=args.revision, kind="checkpoint"),
        args.bundle,
        args.layout,
        variant=args.variant,
        half_logits=args.fp16_logits,
        inline=args.inline,
        overwrite=args.overwrite,
        progress=not args.quiet,
    )
    if not args.quiet:
        size = sum(path.stat().st_size for path in args.bundle.rglob("*"))
        sys.stderr.write(f"{args.bundle}: {size / 1e6:,.1f} MB, layout {args.layout}\n")
    return EXIT_OK


COMMAND = Command(
    name="export",
    help="export a Qwen3-ASR checkpoint to an ONNX bundle",
    add_arguments=_add_arguments,
    run=_run,
)
