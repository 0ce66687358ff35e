"""The `bench` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.command import EXIT_OK, Command
from qwen3_asr_onnx.errors import MissingExtra, OptionsError

__all__ = ["BENCH"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", default="0.6b,1.7b", help="comma-separated: 0.6b, 1.7b, tiny (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, help="write all raw measurements to this JSON file")
    parser.add_argument("--repeats", type=int, default=2, help="rounds of the 11 s clip (default: %(default)s)")
    parser.add_argument(
        "--cache-dir", type=Path, default=Path("build/bench"), help="checkpoints and bundles (default: %(default)s)"
    )
    parser.add_argument(
        "--against", default="float32,bfloat16", help="transformers dtypes to compare with (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the exported bundles")
    parser.add_argument("--report", type=Path, metavar="JSON", help="print the table of earlier results and stop")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="README",
        help="with --report: put the table between the bench markers of this file",
    )


def _run(args: Namespace) -> int:
    from qwen3_asr_onnx.console import emit

    from .bench_report import embed, report

    if args.report is not None:
        table = report(json.loads(args.report.read_text(encoding="utf-8")))
        if args.into is None:
            emit(table)
        else:
            args.into.write_text(embed(args.into.read_text(encoding="utf-8"), table), encoding="utf-8")
        return EXIT_OK
    if args.into is not None:
        raise OptionsError("--into takes the table of saved results: add --report JSON")
    try:
        from .bench import RIVALS, BenchPlan, run_bench
        from .random_checkpoint import BENCH_SHAPES
    except ModuleNotFoundError as error:
        raise MissingExtra(f"bench needs {error.name}: pip install 'qwen3-asr-onnx[eval,export]'") from error
    shapes = tuple(name.strip() for name in args.shapes.split(","))
    unknown = [name for name in shapes if name not in BENCH_SHAPES]
    if unknown:
        raise OptionsError(f"no shape {unknown[0]!r}; the shapes are: {', '.join(BENCH_SHAPES)}")
    kinds = tuple(kind for kind in RIVALS if kind in args.against.split(","))
    if set(args.against.split(",")) != set(kinds):
        raise OptionsError(f"--against is {args.against!r}; give float32, bfloat16, or both with a comma")
    if args.repeats < 1:
        raise OptionsError(f"--repeats is {args.repeats}; give at least 1")

    def save(results: dict[str, Any]) -> None:
        if args.output is not None:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    emit(report(run_bench(BenchPlan(shapes, args.cache_dir, args.repeats, kinds=kinds, keep=args.keep), save)))
    return EXIT_OK


BENCH = Command(
    name="bench",
    help="measure export, load, memory and speed against transformers on random full-size weights",
    add_arguments=_add_arguments,
    run=_run,
)
