"""Benchmark results -> one Markdown table per shape. Numbers in documents are generated from the JSON, never typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["embed", "report"]

TableRow = tuple[str, ...]
Run = dict[str, Any]

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
REFERENCE, UPSTREAM = "float32", ("float32", "bfloat16")
STAGES = (("mel_ms", "mel"), ("encoder_ms", "encoder"), ("prefill_ms", "prefill"), ("token_ms", "per token"))


PURPOSES = {
    "fp32": "checking, quantizing",
    "int8": "the text nearest to fp32",
    "int4": "little memory, or no VNNI",
    "fast": "8-bit products (VNNI, AMX, arm64)",
    "compact": "the smallest download",
    "lossless": "the text of float32, sooner",
}
"""What a variant is taken for."""

HEADLINE = ("take it for", "download", "load", "peak resident", "encoder", "prefill", "per token", "whole utterance")
"""Rows of the short table, for the first clip only."""


def report(results: dict[str, Any], *, headline: bool = False) -> str:
    """Return a caption and, per shape, a table: a row per figure, a column per model, the ratio to the reference.

    Times are medians. Each ratio is formed from rounds that were run in turns with transformers float32; a star marks
    one that was not.

    Args:
        results: what `bench.run_bench` returned, or its JSON read back.
        headline: the most important rows only, for documents.
    """
    lines = [_caption(results)]
    for name, shape in results["shapes"].items():
        kinds = _kinds(shape)
        header = (f"**{name}**", *(f"transformers {kind}" if kind in UPSTREAM else kind for kind in kinds))
        bandwidth = results["machine"]["read_bytes_per_s"]
        figures = _shape_rows(shape, kinds, results["clips"], bandwidth)
        if headline:
            first = results["clips"][0]
            wanted = {label for name in HEADLINE for label in (name, f"{name}, {first}")}
            figures = [row for row in figures if row[0] in wanted]
        rows = [header, ("---", *["---:"] * len(kinds)), *figures]
        lines += ["", *(f"| {' | '.join(row)} |" for row in rows)]
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
        "in brackets the ratio to transformers float32, below 1 is better. "
        "transformers maps bfloat16 weights and reads them at first use, not when loading." + _normalised(results)
    )


def _normalised(results: dict[str, Any]) -> str:
    """Return which models wrote as many tokens as they liked, "" where all wrote what was asked for."""
    groups = [group for shape in results["shapes"].values() for group in shape["groups"]]
    runs = [(kind, run) for group in groups for clip in group["runs"].values() for kind in clip for run in clip[kind]]
    written: dict[str, set[int]] = {}
    for kind, run in runs:
        if "n_written" in run:
            written.setdefault(kind, set()).add(run["n_written"])
    return "".join(
        f" {kind} writes as many tokens as it likes ({' or '.join(map(str, sorted(counts)))}): the time per token is "
        "the mean of all, and a whole utterance is counted with the tokens asked for."
        for kind, counts in written.items()
    )


def _kinds(shape: dict[str, Any]) -> list[str]:
    """Return the models of a shape, transformers first, each once."""
    found = dict.fromkeys(kind for group in shape["groups"] for kind in group["kinds"])
    return [*(kind for kind in UPSTREAM if kind in found), *(kind for kind in found if kind not in UPSTREAM)]


def _shape_rows(shape: dict[str, Any], kinds: Sequence[str], clips: Sequence[str], bandwidth: float) -> list[TableRow]:
    download = {kind: n_bytes for kind, n_bytes in shape["download_bytes"].items() if kind in kinds}
    rows = [
        _row("take it for", kinds, PURPOSES),
        _row("download", kinds, {kind: f"{n_bytes / 1e6:,.0f} MB" for kind, n_bytes in download.items()}),
        _row("made in; peak memory", kinds, _costs(shape)),
        _row("load", kinds, _with_ratio(_loads(shape), "{:.2f} s".format)),
        _row("resident after load", kinds, _with_ratio(_resident(shape), _gigabytes)),
    ]
    for clip in clips:
        rows.append(_row(f"peak resident, {clip}", kinds, _with_ratio(_peaks(shape, clip), _gigabytes)))
        rows += [_row(f"{label}, {clip}", kinds, _times(shape, clip, key)) for key, label in STAGES]
        rows.append(_row(f"whole utterance, {clip}", kinds, _times(shape, clip, None)))
        if any(passes := _passes(shape, clip)):
            rows.append(_row(f"passes of the judge; of the time per token, {clip}", kinds, passes))
    rows.append(_row(f"bytes per step / bandwidth, {clips[0]}", kinds, _floors(shape, clips[0], bandwidth)))
    (small_name, small), (large_name, large) = shape["capacity_ms"].items()
    ratio = f"{median(large) / median(small):.3f}"
    variant = next(kind for kind in kinds if kind not in UPSTREAM)
    rows.append(_row(f"step with a cache of {large_name} / {small_name} positions", kinds, {variant: ratio}))
    return rows


def _row(label: str, kinds: Sequence[str], cells: dict[str, str]) -> TableRow:
    return (label, *(cells.get(kind, "") for kind in kinds))


def _costs(shape: dict[str, Any]) -> dict[str, str]:
    """Return what making each variant took; the export is what "fp32" took."""
    cells = {}
    for name, cost in shape["costs"].items():
        peak = cost["max_rss"] or cost["peak_rss"]
        cells["fp32" if name == "export" else name] = f"{cost['wall_s']:.0f} s; {_gigabytes(peak)}"
    return cells


def _loads(shape: dict[str, Any]) -> dict[str, float]:
    """Return the median seconds to load each model; transformers was loaded once per group."""
    seconds: dict[str, list[float]] = {}
    for group in shape["groups"]:
        for kind, loaded in group["loaded"].items():
            seconds.setdefault(kind, []).append(loaded["load_s"])
    return {kind: median(values) for kind, values in {**seconds, **shape["load_s"]}.items()}


def _resident(shape: dict[str, Any]) -> dict[str, float]:
    return {kind: one["memory"]["rss"] for group in shape["groups"] for kind, one in group["loaded"].items()}


def _peaks(shape: dict[str, Any], clip: str) -> dict[str, float]:
    """Return the highest resident bytes of each model up to the end of a clip."""
    peaks: dict[str, float] = {}
    for group in shape["groups"]:
        for kind, runs in group["runs"][clip].items():
            peaks[kind] = max(peaks.get(kind, 0), *(run["memory"]["peak_rss"] for run in runs))
    return peaks


def _times(shape: dict[str, Any], clip: str, stage: str | None) -> dict[str, str]:
    """Return the median of a stage, or of the whole utterance, of each model with its ratio."""
    cells: dict[str, str] = {}
    anywhere = next(group["runs"][clip][REFERENCE] for group in shape["groups"] if REFERENCE in group["kinds"])
    for group in shape["groups"]:
        runs = group["runs"][clip]
        reference = _median_of(runs.get(REFERENCE, anywhere), stage)
        star = "" if REFERENCE in runs else "*"
        for kind, own in runs.items():
            value = _median_of(own, stage)
            ratio = "" if kind == REFERENCE else f" ({value / reference:.2f}{star})"
            cells.setdefault(kind, _milliseconds(value) + ratio)
    return cells


def _passes(shape: dict[str, Any], clip: str) -> dict[str, str]:
    """Return how often each model with a judge called it in a run, on average, and the share of the time that took."""
    return {
        kind: f"{mean(run['n_passes'] for run in runs):.1f}; {mean(run['judged'] for run in runs):.0%}"
        for group in shape["groups"]
        for kind, runs in group["runs"][clip].items()
        if "n_passes" in runs[0]
    }


def _median_of(runs: Sequence[Run], stage: str | None) -> float:
    if stage is None:
        whole = [run["mel_ms"] + run["encoder_ms"] + run["prefill_ms"] + sum(run["token_ms"]) for run in runs]
        return float(median(whole))
    samples: list[float] = []
    for run in runs:
        value = run[stage]
        samples += value if isinstance(value, list) else [value]
    return float(median(samples))


def _floors(shape: dict[str, Any], clip: str, bandwidth: float) -> dict[str, str]:
    """Return the least time of a step, all bytes read once, and by how much the measured one exceeds it."""
    cells = {}
    for group in shape["groups"]:
        for kind, runs in group["runs"][clip].items():
            if kind in shape["step_bytes"]:
                step = shape["step_bytes"][kind]
                positions = median(run["n_prompt"] + len(run["token_ms"]) / 2 for run in runs)
                floor_ms = 1e3 * (step["weights"] + step["per_position"] * positions) / bandwidth
                cells[kind] = f"{floor_ms:.1f} ms; x {_median_of(runs, 'token_ms') / floor_ms:.2f}"
    return cells


def _with_ratio(values: dict[str, float], show: Callable[[float], str]) -> dict[str, str]:
    reference = values[REFERENCE]
    return {
        kind: show(value) + ("" if kind == REFERENCE else f" ({value / reference:.2f})")
        for kind, value in values.items()
    }


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _gigabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"
