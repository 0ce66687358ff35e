"""The `quantize` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from qwen3_asr_onnx.command import EXIT_OK, Command

from .recipe import load_recipe, published_recipes

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    names = ", ".join(published_recipes())
    parser.add_argument("bundle", type=Path, help="bundle directory that `export` wrote; the variant is added to it")
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help=f"one of {names}; or a .toml file")
    parser.add_argument("--default", action="store_true", help="make it the variant that is used when none is named")
    parser.add_argument("--force", action="store_true", help="replace the variant if it exists")
    parser.add_argument("--threads", type=_positive, help="cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _run(args: Namespace) -> int:
    recipe = load_recipe(args.recipe)
    from .apply import quantize_bundle

    bundle = quantize_bundle(
        args.bundle,
        recipe,
        force=args.force,
        default=args.default,
        progress=not args.quiet,
        threads=args.threads,
    )
    if not args.quiet:
        files = dict.fromkeys(bundle.manifest.variants[recipe.name].files)
        size = sum(bundle.manifest.files[file].size for file in files)
        sys.stderr.write(f"{bundle.path}: variant {recipe.name}, {size / 1e6:,.1f} MB in {len(files)} files\n")
    return EXIT_OK


COMMAND = Command(
    name="quantize",
    help="add a smaller or faster variant to a bundle",
    add_arguments=_add_arguments,
    run=_run,
)
