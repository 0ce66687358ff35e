"""The `bench` verb. Imports nothing heavy until it runs."""

from __future__ import annotations

import importlib.util
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.commands.command import EXIT_OK, Command
from qwen3_asr_onnx.commands.places import check_place
from qwen3_asr_onnx.errors import MissingExtra, OptionsError

from . import load, scaling

__all__ = ["BENCH"]

PEER = "transcribe-cpp"
"""What `--against` takes beside transformers dtypes."""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", default="0.6b,1.7b", help="comma-separated: 0.6b, 1.7b, tiny (default: %(default)s)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write all raw measurements to this JSON file"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the 11 s clip (default: %(default)s)")
    parser.add_argument(
        "--cache-dir", type=Path, default=Path("build/bench"), help="checkpoints and bundles (default: %(default)s)"
    )
    parser.add_argument(
        "--against",
        default="float32,bfloat16",
        help="transformers dtypes to compare with, and transcribe-cpp: the same weights in "
        "Q8_0; needs the peers extra (default: %(default)s)",
    )
    parser.add_argument(
        "--variants",
        default="fp32,int8,int4,fast,compact",
        metavar="LIST",
        help="ours to measure: fp32 and published recipes (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the exported bundles")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of how far it is")
    parser.add_argument("--report", type=Path, metavar="JSON", help="print the table of earlier results and stop")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="README",
        help="with --report: put its headline rows between the bench markers of this file",
    )
    scaling.add_arguments(parser)
    load.add_arguments(parser)


def _run(args: Namespace) -> int:
    for path in (args.output, args.page, args.history):
        if path is not None:
            check_place(path)  # hours of measuring come first
    if load.is_meant(args):
        return load.run(args)
    return scaling.run(args) if scaling.is_meant(args) else _run_bench(args)


def _run_bench(args: Namespace) -> int:
    from qwen3_asr_onnx.commands.console import emit
    from qwen3_asr_onnx.outputs.saving import write_atomically
    from qwen3_asr_onnx_eval.bench.report import embed, report

    if args.report is not None:
        results = json.loads(args.report.read_text(encoding="utf-8"))
        if args.into is None:
            emit(report(results))
        else:
            document = args.into.read_text(encoding="utf-8")
            args.into.write_text(embed(document, report(results, headline=True)), encoding="utf-8")
        return EXIT_OK
    if args.into is not None:
        raise OptionsError("--into takes the table of saved results: add --report JSON")
    try:
        from qwen3_asr_onnx_eval.bench.bench import MORE_VARIANTS, VARIANTS, BenchPlan, run_bench
        from qwen3_asr_onnx_eval.bench.random_checkpoint import BENCH_SHAPES
        from qwen3_asr_onnx_eval.bench.worker import UPSTREAM
    except ModuleNotFoundError as error:
        raise MissingExtra(f"bench needs {error.name}: pip install 'qwen3-asr-onnx[eval,export]'") from error
    shapes, variants, upstream = _names(args, BENCH_SHAPES, (*VARIANTS, *MORE_VARIANTS), (*UPSTREAM, PEER))
    dtypes = tuple(kind for kind in upstream if kind != PEER)
    if args.repeats < 1:
        raise OptionsError(f"--repeats is {args.repeats}; give at least 1")

    def save(results: dict[str, Any]) -> None:
        if args.output is not None:
            write_atomically(args.output, measured_json(results, indent=1) + "\n")

    plan = BenchPlan(
        shapes,
        args.cache_dir,
        args.repeats,
        variants=variants,
        upstream=dtypes,
        transcribe_cpp=PEER in upstream,
        keep=args.keep,
        quiet=args.quiet,
    )
    emit(report(run_bench(plan, save)))
    return EXIT_OK


def _names(
    args: Namespace, known_shapes: Collection[str], known_variants: Collection[str], known_upstream: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return shapes, variants and transformers dtypes asked for.

    Raises:
        OptionsError: one of them is not known.
    """
    shapes = tuple(name.strip() for name in args.shapes.split(","))
    unknown = [name for name in shapes if name not in known_shapes]
    if unknown:
        raise OptionsError(f"no shape {unknown[0]!r}; the shapes are: {', '.join(known_shapes)}")
    upstream = tuple(kind for kind in known_upstream if kind in args.against.split(","))
    if set(args.against.split(",")) != set(upstream) or "float32" not in upstream:
        raise OptionsError(
            f"--against is {args.against!r}; give float32, which ratios are to, and if you like bfloat16 and {PEER}"
        )
    if PEER in upstream and not all(map(importlib.util.find_spec, ("gguf", "transcribe_cpp"))):
        raise MissingExtra(
            f"{PEER} beside the others needs gguf and transcribe-cpp: pip install 'qwen3-asr-onnx[peers]'"
        )
    variants = tuple(name.strip() for name in args.variants.split(","))
    unknown = [name for name in variants if name not in known_variants]
    if unknown:
        raise OptionsError(f"no variant {unknown[0]!r} to measure; there are: {', '.join(known_variants)}")
    return shapes, variants, upstream


BENCH = Command(
    name="bench",
    help="measure export, load, memory and speed against transformers on random full-size weights",
    add_arguments=_add_arguments,
    run=_run,
)
