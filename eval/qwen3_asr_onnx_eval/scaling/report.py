"""Scaling results -> tables and one page: every figure beside its floor, so that everyone sees how far the limit is."""

from __future__ import annotations

from typing import Any

from qwen3_asr_onnx_eval.report.page import templates
from qwen3_asr_onnx_eval.report.plots import line_plot
from qwen3_asr_onnx_eval.report.tables import Table, markdown

__all__ = ["scaling_markdown", "scaling_page", "scaling_tables"]

Figure = dict[str, Any]

TOKENS_PER_S = 3.0
"""Of speech, as a rule: English at 150 words a minute is a little above it, Chinese a little below."""

ENCODER, PREFILL, TOKEN, BATCH = "encoder", "prefill", "token", "step of a batch"


def scaling_markdown(results: dict[str, Any]) -> str:
    """Return the caption and all tables in Markdown."""
    parts = [f"{_caption(results)}\n"]
    parts += [f"**{table.title}**\n\n{markdown(table)}" for table in scaling_tables(results)]
    return "\n".join(parts)


def scaling_tables(results: dict[str, Any]) -> list[Table]:
    """Return the limits of the machine, cost against length, against batch, and starts."""
    return [_limits(results), _lengths(results), _batches(results), _starts(results)]


def scaling_page(results: dict[str, Any]) -> str:
    """Return a self-contained page with the tables and plots."""
    plots = [
        ("Encoder against length", _against(results, ENCODER, "audio_s", "length of the audio, s")),
        ("Prefill against length", _against(results, PREFILL, "audio_s", "length of the audio, s")),
        ("Time per token against length", _against(results, TOKEN, "audio_s", "length of the audio, s")),
        ("Time of a step against rows in the batch", _against(results, BATCH, "batch", "rows")),
    ]
    for run in results["memory"]:
        name = _name(run)
        samples = [(t, rss / 1e9) for t, rss in run["samples"]]
        plot = line_plot(
            f"memory of {name}", {name: samples}, "s", "resident, GB", logarithmic=False,
            marks=[(at, label) for at, label in run["marks"]],
        )  # fmt: skip
        plots.append((f"Memory over time, {name}: marks say what begins", plot))
    page: str = (
        templates()
        .get_template("scaling.html.j2")
        .render(
            title=f"Cost of {results['model']}", caption=_caption(results), tables=scaling_tables(results), plots=plots
        )
    )
    return page


def _caption(results: dict[str, Any]) -> str:
    machine, found = results["machine"], results["versions"]
    return (
        f"{results['model']}; {machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GB; "
        f"onnxruntime {found['onnxruntime']}; commit {results['commit']}, {results['started'][:10]}. Floor: the least "
        "time in which this machine can read the bytes or do the operations; “x 1.5” took one and a half floors."
    )


def _limits(results: dict[str, Any]) -> Table:
    header = ("threads", "reads", "float32 products", "int8 products")
    rows = tuple(
        (
            str(one["threads"]),
            f"{one['bytes_per_s'] / 1e9:.1f} GB/s",
            f"{one['float32_per_s'] / 1e9:.0f} Gop/s",
            f"{one['int8_per_s'] / 1e9:.0f} Gop/s" if one["int8_per_s"] else "–",
        )
        for one in results["limits"]
    )
    return Table("What the machine can do", header, rows)


def _lengths(results: dict[str, Any]) -> Table:
    header = (
        "",
        "audio",
        "encoder",
        "floors",
        "prefill",
        "floors",
        "per token",
        "floors",
        "x real time",
        "peak memory",
    )
    stages = {what: {_key(one): one for one in _of(results, what)} for what in (ENCODER, PREFILL, TOKEN)}
    rows = []
    for key, token in stages[TOKEN].items():
        encoder, prefill = stages[ENCODER][key], stages[PREFILL][key]
        whole_s = encoder["seconds"] + prefill["seconds"] + TOKENS_PER_S * token["audio_s"] * token["seconds"]
        cells = [cell for one in (encoder, prefill, token) for cell in (_seconds(one["seconds"]), _floors(one))]
        rows.append((
            _name(token), f"{token['audio_s']:g} s", *cells, f"{whole_s / token['audio_s']:.3f}",
            f"{token['peak_rss'] / 1e9:.2f} GB",
        ))  # fmt: skip
    note = (
        f"x real time: encoder, prefill and {TOKENS_PER_S:g} tokens per second of audio, over the length. Floors "
        "marked m are set by memory, a by arithmetic. Peak memory: of the process up to then, mapped files included."
    )
    return Table("Cost against length", header, tuple(rows), note)


def _batches(results: dict[str, Any]) -> Table:
    header = ("", "rows", "a step", "per row", "floors", "peak memory")
    rows = tuple(
        (_name(one), str(one["batch"]), _seconds(one["seconds"]), _seconds(one["seconds"] / one["batch"]), _floors(one),
         f"{one['peak_rss'] / 1e9:.2f} GB")
        for one in _of(results, BATCH)
    )  # fmt: skip
    return Table("Decoding several inputs together", header, rows)


def _starts(results: dict[str, Any]) -> Table:
    header = ("", "start", "process to ready", "of it Python", "loading", "first 5 s of audio", "resident then")
    rows = tuple(
        (
            _name(one),
            one["kind"],
            _seconds(one["start_s"]),
            _seconds(one["start_s"] - one["load_s"]),
            _seconds(one["load_s"]),
            _seconds(one["first_s"]),
            f"{one['rss'] / 1e9:.2f} GB",
        )
        for one in results["starts"]
    )
    return Table("Starts", header, rows, "Cold: the variant's files were dropped from the page cache before.")


def _against(results: dict[str, Any], what: str, x: str, x_title: str) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for one in _of(results, what):
        series.setdefault(_name(one), []).append((one[x], one["seconds"]))
    return line_plot(what, series, x_title, f"{what}, s")


def _of(results: dict[str, Any], what: str) -> list[Figure]:
    return [one for one in results["figures"] if one["what"] == what]


def _key(one: Figure) -> tuple[str, int, float, int]:
    return one["variant"], one["threads"], one["audio_s"], one["batch"]


def _name(one: Figure) -> str:
    return f"{one['variant']} x{one['threads']}"


def _floors(one: Figure) -> str:
    return f"x {one['seconds'] / one['floor_s']:.2f} {one['bound'][0]}"


def _seconds(value: float) -> str:
    return f"{1e3 * value:.1f} ms" if value < 0.1 else f"{1e3 * value:.0f} ms" if value < 1 else f"{value:.2f} s"
