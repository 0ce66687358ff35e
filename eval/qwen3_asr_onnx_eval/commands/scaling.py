"""`bench --scaling`: what one bundle costs against length, threads and batch; its page, its history, its check."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.commands.command import EXIT_FAILED, EXIT_OK
from qwen3_asr_onnx.commands.console import emit, say
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["add_arguments", "is_meant", "run"]


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `bench --scaling` to the parser of `bench`."""
    group = parser.add_argument_group("scaling", "cost of one bundle against audio length, threads and batch")
    group.add_argument("--scaling", metavar="BUNDLE", type=Path, help="measure this bundle, full-size weights")
    group.add_argument("--lengths", default="5,15,60,300,1200", help="seconds of audio (default: %(default)s)")
    group.add_argument("--threads", default="1,2", help="thread counts (default: %(default)s)")
    group.add_argument("--batches", default="1,2,4,8", help="inputs decoded together (default: %(default)s)")
    group.add_argument("--tokens", default="24", help="tokens that a time per token is taken over")
    group.add_argument("--history", metavar="JSONL", type=Path, help="append this run; exit 1 where it got slower")
    group.add_argument("--page", metavar="HTML", type=Path, help="write tables and plots to this page")


def is_meant(args: Namespace) -> bool:
    """Return whether the arguments ask for scaling: a bundle is named, or --report names such results."""
    if args.report is None or args.scaling is not None:
        return args.scaling is not None
    return "figures" in json.loads(args.report.read_text(encoding="utf-8"))


def run(args: Namespace) -> int:
    """Measure, or read back with --report, and show; return 1 where a figure got slower than the history."""
    results = _measured(args) if args.report is None else json.loads(args.report.read_text(encoding="utf-8"))
    from qwen3_asr_onnx_eval.scaling.report import scaling_markdown, scaling_page

    emit(scaling_markdown(results))
    if args.page is not None:
        args.page.parent.mkdir(parents=True, exist_ok=True)
        args.page.write_text(scaling_page(results), encoding="utf-8")
    return EXIT_OK if args.history is None else _check(args.history, results)


def _measured(args: Namespace) -> dict[str, Any]:
    from qwen3_asr_onnx.bundle.files import Bundle
    from qwen3_asr_onnx.outputs.saving import write_atomically
    from qwen3_asr_onnx_eval.scaling.scaling import ScalingPlan, merge_results, run_scaling

    known = Bundle.open(args.scaling).manifest.variants
    variants = tuple(name for name in args.variants.split(",") if name in known)
    if not variants:
        raise OptionsError(f"{args.scaling}: none of {args.variants} in it; it has: {', '.join(known)}")
    plan = ScalingPlan(
        args.scaling,
        variants,
        tuple(_numbers("--lengths", args.lengths, 0.1)),
        tuple(int(n) for n in _numbers("--threads", args.threads, 1)),
        tuple(int(n) for n in _numbers("--batches", args.batches, 1)),
        int(_numbers("--tokens", args.tokens, 1)[0]),
        repeats=args.repeats,
    )

    earlier = json.loads(args.output.read_text(encoding="utf-8")) if args.output and args.output.exists() else None

    def save(results: dict[str, Any]) -> None:
        if args.output is not None:
            whole = results if earlier is None else merge_results(earlier, results)
            write_atomically(args.output, measured_json(whole, indent=1) + "\n")

    results = run_scaling(plan, (lambda _: None) if args.quiet else say, save)
    return results if earlier is None else merge_results(earlier, results)


def _check(path: Path, results: dict[str, Any]) -> int:
    from qwen3_asr_onnx_eval.scaling.history import append_history, find_regressions, read_history

    earlier = read_history(path)
    found = find_regressions(append_history(path, results), earlier)
    for one in found:
        say(f"slower: {one}")
    say(f"{len(found)} figures slower than in {len(earlier)} earlier runs; history: {path}")
    return EXIT_FAILED if found else EXIT_OK


def _numbers(option: str, text: str, low: float) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < low:
        raise OptionsError(f"{option} is {text!r}; give numbers of at least {low:g} with commas between them")
    return values
