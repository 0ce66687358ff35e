"""Load results -> a Markdown table: a row per number of clients, the columns that others publish, and their figures."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class _Figures(NamedTuple):
    """What we print and others publish: clients, requests/s, audio s/s, RTF, ms to the first text, and latencies."""

    clients: int
    rate: float | None = None
    audio: float | None = None
    rtf: float | None = None
    first_ms: float | None = None
    times: tuple[float, float, float] | None = None

    def cells(self) -> tuple[str, ...]:
        latencies = ("", "", "") if self.times is None else tuple(f"{seconds:.3f}" for seconds in self.times)
        return (
            str(self.clients),
            _show(self.rate, "{:.2f}"),
            _show(self.audio, "{:,.1f}"),
            _show(self.rtf, "{:.4f}"),
            _show(self.first_ms, "{:,.0f}"),
            *latencies,
        )


PUBLISHED: tuple[tuple[str, _Figures, float | None], ...] = (
    (
        "SGLang, one H200, Earnings22 (sgl-project/sglang#22073)",
        _Figures(4, rate=8.5, times=(0.4352, 0.3483, 0.6952)),
        23.58,
    ),
    ("transformers, batch 4, the same", _Figures(4, rate=3.05, times=(0.3276, 0.2837, 0.5034)), 23.56),
    (
        "vLLM (the family's announcement as summarised by BestHub)",
        _Figures(1, audio=106, rtf=0.0094, first_ms=92),
        None,
    ),
    ("vLLM", _Figures(8, audio=543, rtf=0.0147, first_ms=228), None),
    ("vLLM", _Figures(32, audio=1099, rtf=0.0291, first_ms=820), None),
    ("vLLM", _Figures(128, audio=2000, rtf=0.064, first_ms=3210), None),
)
"""Published of the 0.6B on GPUs: system, figures, WER in %."""


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
    lines += [_line((system, *figures.cells(), _show(wer, "{:.2f}%"))) for system, figures, wer in PUBLISHED]
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
        *_Figures(
            level["concurrency"],
            level["requests_per_s"],
            level["audio_s_per_s"],
            level["rtf"],
            1e3 * first["median"] if first else None,
            times,
        ).cells(),
        str(level["answered"]),
        str(sum(level["errors"].values())),
        str(level["refused"]),
        str(level["hung_up"]),
        _show(wer, "{:.2%}"),
        _show(len(level["texts"]) / len(clips) if clips else None, "{:.2f}"),
    )


def _remarks(level: dict[str, Any]) -> list[str]:
    """Return what stands below the table for a level: errors by kind with one message each, and memory."""
    found = [f"{n} x {kind}: {level['messages'].get(kind, '')}" for kind, n in level["errors"].items()]
    memory = level["memory_bytes"]
    if memory:
        start, warm, peak, end = (f"{memory[name] / 1e6:,.0f}" for name in ("start", "warm", "peak", "end"))
        grown = memory["end"] / memory["warm"] - 1
        found.append(
            f"server memory {start} MB at the start, {warm} after a fifth of the time, {peak} at the peak, "
            f"{end} at the end, which is {grown:+.1%}"
        )
    return found


def _show(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
