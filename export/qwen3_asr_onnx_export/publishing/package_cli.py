"""The `package` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from qwen3_asr_onnx.commands.command import EXIT_OK, Command
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_export.cli import LAYOUT_NAMES

from .archives import FORMATS

__all__ = ["PACKAGE"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="bundle to publish")
    parser.add_argument("output", type=Path, help="directory to create: archives, SHA256SUMS, README.md (a model card)")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME", help="a variant, repeatable (default: all)"
    )
    parser.add_argument(
        "--layout",
        action="append",
        choices=("bundle", *LAYOUT_NAMES),
        help="whose files: this program's (bundle, the default), or another's as `export --layout` makes; repeatable",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="tar.zst", help="(default: %(default)s)")
    parser.add_argument("--base-model", metavar="ID", default="", help="hub id of the checkpoint, for the card")
    parser.add_argument(
        "--measured",
        metavar="FILE",
        type=Path,
        help="Markdown for the card, such as `report` or `bench --report` print",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")


def _run(args: Namespace) -> int:
    from qwen3_asr_onnx.commands.console import emit

    from .package import package_bundle

    made = package_bundle(
        args.bundle,
        args.output,
        variants=args.variant,
        layouts=args.layout or ("bundle",),
        write_layout=_write_layout,
        compression=args.format,
        base_model=args.base_model,
        measured=_measured(args.measured),
        overwrite=args.overwrite,
        progress=not args.quiet,
    )
    if not args.quiet:
        size = sum(path.stat().st_size for path in made)
        sys.stderr.write(f"{args.output}: {size / 1e6:,.1f} MB in {len(made)} files\n")
    emit("".join(f"{path}\n" for path in made))
    return EXIT_OK


def _write_layout(bundle: Path, folder: Path, layout: str, variant: str) -> None:
    from qwen3_asr_onnx_export.layouts.packaging import write_layout

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_layout(bundle, folder, layout, variant=variant)


def _measured(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"--measured {path}: cannot be read ({error}); give a Markdown file") from error


PACKAGE = Command(
    name="package",
    help="make archives, digests and a model card of a bundle, to publish",
    add_arguments=_add_arguments,
    run=_run,
)
