"""The verbs `quantize` and `sweep`. Import nothing heavy until they run."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path

from qwen3_asr_onnx.commands.arguments import at_least_one
from qwen3_asr_onnx.commands.command import EXIT_OK, Command

from .recipes.published import published_recipes

__all__ = ["COMMAND", "SWEEP"]


def _add_arguments(parser: ArgumentParser) -> None:
    names = ", ".join(published_recipes())
    parser.add_argument("bundle", type=Path, help="bundle directory that `export` wrote; the variant is added to it")
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE", help=f"one of {names}; or a .toml file")
    parser.add_argument(
        "-o",
        "--output-dir",
        dest="output",
        type=Path,
        metavar="DIR",
        help="leave the bundle alone and write a new one of this variant only",
    )
    _add_calibration(parser)
    parser.add_argument("--default", action="store_true", help="make it the variant that is used when none is named")
    parser.add_argument("--overwrite", action="store_true", help="replace the variant, or --output-dir, if it exists")
    parser.add_argument("--force", dest="overwrite", action="store_true", help=SUPPRESS)  # its name before 0.1
    parser.add_argument("--threads", type=at_least_one, help="cores to use (default: all)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary")


def _add_calibration(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        nargs="+",
        default=[],
        metavar="FILE",
        help="audio files, or .jsonl manifests of them, for recipes that are calibrated",
    )


def _run(args: Namespace) -> int:
    from .recipes.recipe import load_recipe

    recipe = load_recipe(args.recipe)
    from .apply import quantize_bundle, quantize_into
    from .calibration.clips import load_clips

    calibration = tuple(clip.waveform for clip in load_clips(args.calibration))
    options = {"calibration": calibration, "force": args.overwrite, "progress": not args.quiet, "threads": args.threads}
    if args.output is None:
        bundle = quantize_bundle(args.bundle, recipe, default=args.default, **options)
    else:
        bundle = quantize_into(args.output, args.bundle, recipe, **options)
    if not args.quiet:
        files = bundle.manifest.variants[recipe.name].files
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
        "--recipes",
        required=True,
        metavar="LIST",
        help="comma-separated names of published recipes and .toml files, which may hold a [grid]",
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="FILE",
        help="audio files, or .jsonl manifests with path and text, to count word errors on",
    )
    _add_calibration(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("sweep.jsonl"),
        help="rows; measured ones are kept (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw size, error and speed as .svg or .png")
    parser.add_argument(
        "--max-new-tokens", type=at_least_one, default=128, help="most tokens per compared clip (default: %(default)s)"
    )
    parser.add_argument("--threads", type=at_least_one, help="cores to use (default: all)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _run_sweep(args: Namespace) -> int:
    from .recipes.grid import load_recipes

    recipes = load_recipes(args.recipes)
    from qwen3_asr_onnx.commands.console import emit, progress_bar, say
    from qwen3_asr_onnx.commands.signals import exit_status

    from .calibration.clips import load_clips
    from .sweep.report import check_plot, plot, table
    from .sweep.sweep import SweepPlan, run_sweep

    if args.plot is not None:
        check_plot(args.plot)
    clips = load_clips(args.data)
    plan = SweepPlan(
        args.bundle,
        recipes,
        clips,
        args.output,
        calibration=tuple(clip.waveform for clip in load_clips(args.calibration)),
        max_new_tokens=args.max_new_tokens,
        threads=args.threads,
    )
    total = (1 + len(recipes)) * len(plan.measures)
    try:
        with progress_bar(total=total, unit="measurement", quiet=args.quiet) as bar:
            rows = run_sweep(plan, lambda variant, measure: bar.set_postfix_str(f"{variant}: {measure}"), bar.update)
    except KeyboardInterrupt as interrupt:
        say(f"interrupted; what is measured is in {args.output}, the same command goes on from there")
        return exit_status(interrupt)
    emit(table(rows))
    if args.plot is not None:
        plot(rows, args.plot)
    return EXIT_OK


SWEEP = Command(
    name="sweep",
    help="make several variants and compare each with float32: size, speed, agreement",
    add_arguments=_add_sweep_arguments,
    run=_run_sweep,
)
