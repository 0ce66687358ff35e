"""The verbs `quantize` and `sweep`. Import nothing heavy until they run."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from qwen3_asr_onnx.command import EXIT_OK, Command

from .recipe import load_recipe, published_recipes

__all__ = ["COMMAND", "SWEEP"]


def _add_arguments(parser: ArgumentParser) -> None:
    names = ", ".join(published_recipes())
    parser.add_argument("bundle", type=Path, help="bundle directory that `export` wrote; the variant is added to it")
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help=f"one of {names}; or a .toml file")
    parser.add_argument("--default", action="store_true", help="make it the variant that is used when none is named")
    parser.add_argument("--force", action="store_true", help="replace the variant if it exists")
    parser.add_argument("--threads", type=_positive, help="cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of cores")
    return int(text)


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


def _add_sweep_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="bundle directory with a float32 variant; the variants are added")
    parser.add_argument(
        "--recipes", required=True, metavar="LIST", help="comma-separated names of published recipes and .toml files"
    )
    parser.add_argument("--audio", required=True, nargs="+", metavar="FILE", help="clips to compare on")
    parser.add_argument(
        "--output", type=Path, default=Path("sweep.jsonl"), help="rows; measured ones are kept (default: %(default)s)"
    )
    parser.add_argument(
        "--max-new-tokens", type=_positive, default=128, help="most tokens per clip (default: %(default)s)"
    )
    parser.add_argument("--threads", type=_positive, help="cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="do not name each variant as its turn comes")


def _run_sweep(args: Namespace) -> int:
    recipes = tuple(load_recipe(name.strip()) for name in args.recipes.split(","))
    from qwen3_asr_onnx.audio import load_audio
    from qwen3_asr_onnx.console import emit, say

    from .sweep import SweepPlan, run_sweep, table

    clips = tuple(load_audio(path) for path in args.audio)
    plan = SweepPlan(args.bundle, recipes, clips, args.output, args.max_new_tokens, args.threads)
    emit(table(run_sweep(plan, None if args.quiet else lambda name: say(f"measuring {name}"))))
    return EXIT_OK


SWEEP = Command(
    name="sweep",
    help="make several variants and compare each with float32: size, speed, agreement",
    add_arguments=_add_sweep_arguments,
    run=_run_sweep,
)
