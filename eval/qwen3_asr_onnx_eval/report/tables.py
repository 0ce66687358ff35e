"""Figures -> tables of text cells, once for Markdown and HTML alike; and all raw figures as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from qwen3_asr_onnx_eval.scores.intervals import Interval
from qwen3_asr_onnx_eval.scores.summary import ErrorRate, Pair, Summary, score_row

__all__ = [
    "Table",
    "accuracy_table",
    "caption",
    "counts_table",
    "group_tables",
    "markdown",
    "pairs_table",
    "readme_table",
    "speed_table",
    "summary_csv",
    "utterances_csv",
]

MISSING = "–"

ROUGH_N = 50
"""Below this many utterances (or speakers) intervals are said to be rough (INVESTIGATION 014)."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown: the first column is text, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def accuracy_table(summary: Summary) -> Table:
    """Return one row per system: size, error rate, what was wrong, difference to the first, language id, silence."""
    header = ("system", "size", "error rate %", "sub / del / ins", "against the first, points", "p", "language id %",
              "words on silence %")  # fmt: skip
    baseline = summary.systems[0].name
    against = {pair.second: pair for pair in summary.pairs if pair.first == baseline}
    rows = []
    for one in summary.systems:
        rate, pair = one.overall, against.get(one.name)
        rows.append((
            one.name,
            megabytes(one.size_bytes),
            percent(rate.interval) if rate else MISSING,
            f"{rate.substitutions} / {rate.deletions} / {rate.insertions}" if rate else MISSING,
            points(pair.test.difference, negate=True) if pair else MISSING,
            p_value(pair.p_adjusted) if pair else MISSING,
            percent(one.language_id, 1) if one.language_id else MISSING,
            percent(one.hallucination, 1) if one.hallucination else MISSING,
        ))  # fmt: skip
    note = "Brackets: 95 % intervals."
    if summary.pairs:
        note += f" Differences are to {baseline} on the same utterances; p: permutation test, two-sided, Holm-adjusted"
        note += f" over {len(summary.pairs)} pair{'s' if len(summary.pairs) > 1 else ''} of systems."
    n = max((one.overall.interval.n for one in summary.systems if one.overall), default=0)
    if n < ROUGH_N:
        note += f" Intervals of only {n} utterances or speakers are rough."
    note += f" {_normalizers(summary)}"
    return Table("Accuracy", header, tuple(rows), note)


def speed_table(summary: Summary) -> Table:
    """Return one row per system: real-time factor, time against the first system, latencies, loading, memory."""
    header = ("system", "RTF", "time / time of the first", "latency s, p50", "p90", "p99", "load s", "peak memory")
    baseline = summary.systems[0].name
    against = {pair.second: pair for pair in summary.pairs if pair.first == baseline}
    rows = []
    for one in summary.systems:
        speed, pair = one.speed, against.get(one.name)
        rows.append((
            one.name,
            f"{speed.rtf.value:.3g} [{speed.rtf.low:.3g}, {speed.rtf.high:.3g}]" if speed else MISSING,
            ratio(pair.rtf_ratio, inverse=True) if pair and pair.rtf_ratio else MISSING,
            *(f"{value:.3f}" for value in speed.latency_s.values()),
            f"{one.load_s:.1f}",
            megabytes(one.peak_rss or None),
        ) if speed else (one.name, *[MISSING] * 7))  # fmt: skip
    note = (
        "RTF: seconds of computing per second of audio. Latency: from samples to text of one utterance. Peak memory: "
        "highest resident bytes of the system's process, mapped files included."
    )
    return Table("Speed and memory", header, tuple(rows), note)


def counts_table(summary: Summary) -> Table:
    """Return what became of every utterance: each is in exactly one of the first five counts."""
    header = ("system", "scored", "no speech", "no units", "undecodable", "not reached", "system failed",
              "wrote nothing", "exactly right", "units", "metric")  # fmt: skip
    rows = tuple(
        (
            one.name,
            *(str(n) for n in (one.n_scored, one.n_no_speech, one.n_no_units, one.n_undecodable, one.n_missing)),
            str(one.n_failed),
            str(one.overall.n_empty) if one.overall else MISSING,
            str(one.overall.n_exact) if one.overall else MISSING,
            str(one.overall.n_units) if one.overall else MISSING,
            one.overall.metric if one.overall else MISSING,
        )
        for one in summary.systems
    )
    header_of_results = summary.results.header
    listed = header_of_results.n_utterances + len(header_of_results.problems)
    note = (
        f"{listed} entries listed, {len(header_of_results.problems)} unusable, "
        f"{header_of_results.n_utterances} evaluated. "
        "“No units”: the reference is not blank, but nothing is left of it after normalisation. Where a system failed, "
        f"all words of the reference count as deleted. {_normalizers(summary)}"
    )
    return Table("Counts", header, rows, note)


def group_tables(summary: Summary) -> list[Table]:
    """Return the error rates by language and by subset, systems in columns; none where there is one group."""
    tables = []
    for title, groups in (
        ("By language", [one.by_language for one in summary.systems]),
        ("By subset", [one.by_subset for one in summary.systems]),
    ):
        names = dict.fromkeys(name for rates in groups for name in rates)
        rows = []
        for name in names:
            found: list[ErrorRate | None] = [rates.get(name) for rates in groups]
            some = next(rate for rate in found if rate is not None)
            cells = (percent(rate.interval) if rate else MISSING for rate in found)
            rows.append((name or "(none)", some.metric, str(some.n), *cells))
        if rows:
            header = ("", "metric", "n", *(one.name for one in summary.systems))
            tables.append(
                Table(title, header, tuple(rows), f"Error rates in %, with 95 % intervals. {_normalizers(summary)}")
            )
    return tables


def _normalizers(summary: Summary) -> str:
    """Return a sentence that names what made the strings comparable; figures by different ones are not comparable."""
    return f"Normalisers: {', '.join(sorted({name for one in summary.systems for name in one.normalizers}))}."


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """Return every pair of systems with its difference and significance."""
    header = ("first", "second", "n", "first − second, points", "p", "p (Holm)", "first better / worse on",
              "time, first / second")  # fmt: skip
    rows = tuple(
        (
            pair.first,
            pair.second,
            str(pair.n),
            points(pair.test.difference),
            p_value(pair.test.p),
            p_value(pair.p_adjusted),
            f"{pair.test.n_first_better} / {pair.test.n_second_better}",
            ratio(pair.rtf_ratio) if pair.rtf_ratio else MISSING,
        )
        for pair in pairs
    )
    return Table("Pairs", header, rows, "Paired on the same utterances: swapping labels at random, 9,999 times.")


def caption(summary: Summary) -> str:
    """Return one line that says what was measured, on what."""
    header, first = summary.results.header, summary.systems[0]
    machine = first.environments[-1]
    commits = sorted({str(env.get("commit")) for one in summary.systems for env in one.environments})
    dates = sorted(row.at[:10] for row in summary.results.rows)
    settings = first.settings
    return (
        f"{header.dataset}, {header.n_utterances} utterances, "
        f"{sum(row.audio_s for row in summary.results.rows if row.system == first.name) / 60:.0f} min of audio; "
        f"{machine['cpu']}, {settings['threads']} threads; commit {', '.join(commits)}; {dates[-1]}"
    )


def readme_table(summary: Summary) -> Table:
    """Return the columns a README has room for."""
    accuracy, speed = accuracy_table(summary), speed_table(summary)
    rows = tuple(
        (*one[:3], *one[4:8], fast[1], fast[3], fast[7]) for one, fast in zip(accuracy.rows, speed.rows, strict=True)
    )
    header = (*accuracy.header[:3], *accuracy.header[4:8], "RTF", "latency s, p50", "peak memory")
    return Table(accuracy.title, header, rows, accuracy.note)


def markdown(table: Table) -> str:
    """Return the table in Markdown, with its note below."""
    lines = [_line(table.header), _line(("---", *["---:"] * (len(table.header) - 1))), *map(_line, table.rows)]
    return "\n".join(lines) + "\n" + (f"\n{table.note}\n" if table.note else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def summary_csv(summary: Summary) -> str:
    """Return one line per system and group with unrounded figures."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["system", "group", "name", "metric", "utterances", "units", "substitutions", "deletions",
                     "insertions", "rate", "low", "high", "rtf", "peak_rss", "size_bytes"])  # fmt: skip
    for one in summary.systems:
        speed = [one.speed.rtf.value if one.speed else "", one.peak_rss, one.size_bytes or ""]
        groups = [("all", "", one.overall)] if one.overall else []
        groups += [("language", name, rate) for name, rate in one.by_language.items()]
        groups += [("subset", name, rate) for name, rate in one.by_subset.items()]
        for kind, name, rate in groups:
            interval = rate.interval
            writer.writerow([
                one.name, kind, name, rate.metric, rate.n, rate.n_units, rate.substitutions, rate.deletions,
                rate.insertions, interval.value, interval.low, interval.high, *(speed if kind == "all" else [""] * 3),
            ])  # fmt: skip
    return out.getvalue()


def utterances_csv(summary: Summary) -> str:
    """Return one line per system and utterance with its counts and strings."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["system", "id", "subset", "language", "audio_s", "units", "substitutions", "deletions",
                     "insertions", "seconds", "rtf", "error", "reference", "hypothesis", "told_language"])  # fmt: skip
    for row in summary.results.rows:
        score = score_row(row)
        seconds = median(row.seconds) if row.seconds else None
        writer.writerow([
            row.system, row.id, row.subset, row.language, row.audio_s, score.n_units, score.substitutions,
            score.deletions, score.insertions, seconds, seconds / row.audio_s if seconds and row.audio_s else None,
            row.error, row.reference, row.hypothesis, row.hypothesis_language,
        ])  # fmt: skip
    return out.getvalue()


def percent(interval: Interval, digits: int = 2) -> str:
    """Return a share as percent with its interval."""
    if math.isnan(interval.value):
        return MISSING
    value, low, high = (f"{100 * x:.{digits}f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def points(interval: Interval, *, negate: bool = False) -> str:
    """Return a difference in percentage points with its interval."""
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    if negate:
        value, low, high = -value, -high, -low
    return f"{value + 0.0:+.2f} [{low + 0.0:+.2f}, {high + 0.0:+.2f}]"


def ratio(interval: Interval, *, inverse: bool = False) -> str:
    """Return a ratio, or its inverse, with its interval."""
    value, low, high = interval.value, interval.low, interval.high
    if inverse:
        value, low, high = 1 / value, 1 / high, 1 / low
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def p_value(p: float) -> str:
    """Return a p value; below the smallest that 9,999 permutations can show, say so."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def megabytes(n_bytes: int | None) -> str:
    """Return bytes in MB or GB."""
    if n_bytes is None:
        return MISSING
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
