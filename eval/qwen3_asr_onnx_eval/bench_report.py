"""Benchmark results -> one Markdown table. Numbers in documents are generated from the JSON, never typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["embed", "report"]

Row = tuple[str, ...]
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
STAGES = (("mel_ms", "mel"), ("encoder_ms", "encoder"), ("prefill_ms", "prefill"), ("token_ms", "per token"))


def report(results: dict[str, Any]) -> str:
    """Return a caption and a table: ours, transformers float32 and bfloat16, and the ratios ours / theirs.

    Times are medians; ours is the median of the rounds run in turns with float32, and each ratio is formed from rounds
    run in turns with each other.

    Args:
        results: what `bench.run_bench` returned, or its JSON read back.
    """
    lines = [_caption(results), ""]
    header = ("", "ours", "transformers float32", "ratio", "transformers bfloat16", "ratio")
    rows: list[Row] = [header, ("---", *["---:"] * (len(header) - 1))]
    for name, shape in results["shapes"].items():
        rows += _shape_rows(name, shape, results["clips"])
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def embed(document: str, table: str) -> str:
    """Return the document with the table in the place of what is between its bench markers.

    Raises:
        OptionsError: the document lacks a marker.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise OptionsError(f"the document has no {BEGIN} followed by {END}; put both where the table belongs")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def _caption(results: dict[str, Any]) -> str:
    machine, found = results["machine"], results["versions"]
    packages = ", ".join(f"{name} {found[name]}" for name in ("onnxruntime", "torch", "transformers") if found[name])
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GB, reads "
        f"{machine['read_bytes_per_s'] / 1e9:.1f} GB/s; {packages}; "
        f"commit {results['commit']}, {results['started'][:10]}; "
        f"random weights, {results['repeats']} rounds (longer clips: 1) in turns, medians; "
        "ratio = ours / theirs, below 1 is better. "
        "transformers maps bfloat16 weights and reads them at first use, not when loading."
    )


def _shape_rows(name: str, shape: dict[str, Any], clips: Sequence[str]) -> list[Row]:
    workers, export = shape["workers"], shape["export"]
    rows: list[Row] = [
        _alone(f"{name} export", f"{export['wall_s']:.1f} s"),
        _alone(f"{name} export, peak resident", _gigabytes(export["max_rss"] or export["peak_rss"])),
        _alone(f"{name} export, peak private", _gigabytes(export["peak_private"])),
        _alone(
            f"{name} bundle (checkpoint {_gigabytes(shape['checkpoint_bytes'])})", _gigabytes(shape["bundle_bytes"])
        ),
        _compared(f"{name} load", {kind: one["load_s"] for kind, one in workers.items()}, "{:.1f} s".format),
        _compared(f"{name} resident after load", {k: w["memory"]["rss"] for k, w in workers.items()}, _gigabytes),
        _compared(f"{name} peak resident, {clips[-1]}", _peaks(shape, clips[-1]), _gigabytes),
    ]
    rows += [_stage_row(name, shape, clip, stage, label) for clip in clips for stage, label in STAGES]
    small, large = (median(times) for times in shape["capacity_ms"].values())
    first, second = shape["capacity_ms"]
    rows.append(_alone(f"{name} step, cache of {second} / {first} positions", f"{large / small:.3f}"))
    return rows


def _stage_row(name: str, shape: dict[str, Any], clip: str, stage: str, label: str) -> Row:
    cells = []
    ours_shown = "-"
    for kind in ("float32", "bfloat16"):
        pair = shape["pairs"].get(kind)
        if pair is None:
            cells += ["-", "-"]
            continue
        ours, theirs = (_median_of(pair["runs"][clip][side], stage) for side in ("ours", kind))
        if ours_shown == "-":
            ours_shown = _milliseconds(ours)
        cells += [_milliseconds(theirs), f"{ours / theirs:.2f}" + ("" if pair["in_turns"] else "*")]
    return (f"{name} {label}, {clip}", ours_shown, *cells)


def _median_of(runs: Sequence[dict[str, Any]], stage: str) -> float:
    samples: list[float] = []
    for run in runs:
        value = run[stage]
        samples += value if isinstance(value, list) else [value]
    return median(samples)


def _peaks(shape: dict[str, Any], clip: str) -> dict[str, float]:
    peaks: dict[str, float] = {}
    for kind, pair in shape["pairs"].items():
        for side in ("ours", kind):
            peak = max(run["memory"]["peak_rss"] for run in pair["runs"][clip][side])
            peaks[side] = max(peak, peaks.get(side, 0))
    return peaks


def _compared(label: str, values: dict[str, float], show: Callable[[float], str]) -> Row:
    cells = [show(values["ours"])]
    for kind in ("float32", "bfloat16"):
        cells += [show(values[kind]), f"{values['ours'] / values[kind]:.2f}"] if kind in values else ["-", "-"]
    return (label, *cells)


def _alone(label: str, value: str) -> Row:
    return (label, value, "", "", "", "")


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
