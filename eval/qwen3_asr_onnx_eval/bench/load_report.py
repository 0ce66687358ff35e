"""Load results -> a Markdown table: a row per number of clients, the columns that others publish, and their figures."""

from __future__ import annotations

from typing import Any

__all__ = ["load_report"]

COLUMNS = (
    "clients",
    "requests/s",
    "audio s/s",
    "RTF",
    "first text, ms",
    "latency mean, s",
    "median",
    "p95",
    "answered",
    "errors",
    "429",
    "hung up",
    "WER",
    "texts a clip",
)

PUBLISHED = (
    (
        "SGLang, one H200, Earnings22 (sgl-project/sglang#22073)",
        4,
        8.5,
        None,
        None,
        None,
        (0.4352, 0.3483, 0.6952),
        23.58,
    ),
    ("transformers, batch 4, the same", 4, 3.05, None, None, None, (0.3276, 0.2837, 0.5034), 23.56),
    ("vLLM (the family's announcement)", 1, None, 106, 0.0094, 92, None, None),
    ("vLLM", 8, None, 543, 0.0147, 228, None, None),
    ("vLLM", 32, None, 1099, 0.0291, 820, None, None),
    ("vLLM", 128, None, 2000, 0.064, 3210, None, None),
)
"""Published of the 0.6B on GPUs: system, clients, requests/s, audio s/s, RTF, first text in ms, latencies, WER in %."""


def load_report(results: dict[str, Any]) -> str:
    """Return the tables of load results (`load.run_load`), with what went wrong below.

    RTF is latency over the length of the audio, as vLLM's figures have it: with n clients it is n times what the
    throughput says.
    """
    lines = [_caption(results), "", _line(COLUMNS), _line(("---:",) * len(COLUMNS))]
    lines += [_line(_level_row(level)) for level in results["levels"]]
    remarks = [f"- {level['concurrency']} clients: {text}" for level in results["levels"] for text in _remarks(level)]
    lines += ["", *remarks] if remarks else []
    lines += ["", "Published, on GPUs:", "", _line(("system", *COLUMNS[:8], "WER")), _line(("---", *["---:"] * 9))]
    lines += [_line(_published_row(*row)) for row in PUBLISHED]
    return "\n".join(lines) + "\n"


def _caption(results: dict[str, Any]) -> str:
    machine = results.get("machine", {})
    where = f"client on {machine['cpu']}, {machine['cores']} cores; " if machine else ""
    cut = "; interrupted" if results["interrupted"] else ""
    return (
        f"{results['server']}; {where}routes {', '.join(results['routes'])}; {results['clips']} clips, "
        f"{sum(results['clip_s']) / len(results['clip_s']):.1f} s on average; {results['hang_up']:.0%} hang up{cut}"
    )


def _level_row(level: dict[str, Any]) -> tuple[str, ...]:
    latency, first, wer = level["latency_s"], level["first_text_s"], level.get("wer")
    times = (latency["mean"], latency["median"], latency["p95"]) if latency else None
    clips = {entry["clip"] for entry in level["texts"]}
    return (
        *_figures(
            level["concurrency"],
            level["requests_per_s"],
            level["audio_s_per_s"],
            level["rtf"],
            1e3 * first["median"] if first else None,
            times,
        ),
        str(level["answered"]),
        str(sum(level["errors"].values())),
        str(level["refused"]),
        str(level["hung_up"]),
        _show(wer, "{:.2%}"),
        _show(len(level["texts"]) / len(clips) if clips else None, "{:.2f}"),
    )


def _published_row(
    system: str,
    clients: int,
    rate: float | None,
    audio: float | None,
    rtf: float | None,
    first_ms: float | None,
    times: tuple[float, float, float] | None,
    wer: float | None,
) -> tuple[str, ...]:
    return (system, *_figures(clients, rate, audio, rtf, first_ms, times), _show(wer, "{:.2f}%"))


def _figures(
    clients: int,
    rate: float | None,
    audio: float | None,
    rtf: float | None,
    first_ms: float | None,
    times: tuple[float, float, float] | None,
) -> tuple[str, ...]:
    latencies = ("", "", "") if times is None else tuple(f"{seconds:.3f}" for seconds in times)
    shown = (_show(rate, "{:.2f}"), _show(audio, "{:,.1f}"), _show(rtf, "{:.4f}"), _show(first_ms, "{:,.0f}"))
    return (str(clients), *shown, *latencies)


def _remarks(level: dict[str, Any]) -> list[str]:
    """Return what stands below the table for a level: errors by kind with one message each, and memory."""
    found = [f"{n} x {kind}: {level['messages'].get(kind, '')}" for kind, n in level["errors"].items()]
    memory = level["memory_bytes"]
    if memory:
        start, peak, end = (f"{memory[name] / 1e6:,.0f}" for name in ("start", "peak", "end"))
        found.append(f"server memory {start} MB at the start, {peak} at the peak, {end} at the end")
    return found


def _show(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
