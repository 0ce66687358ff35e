"""Rows of results -> the figures of every table and plot: error rates, shares, speed, memory, paired tests.

Every utterance that was asked for is counted exactly once per system: scored, without speech, without units left after
normalisation, undecodable, or not reached. What a failed system wrote is nothing: its words count as deleted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np

from qwen3_asr_onnx_eval.results.rows import ResultRow, Results

from .intervals import Interval, PairedTest, holm, paired_test, ratio_interval, share_interval
from .utterance import UtteranceScore, score_utterance

__all__ = ["ErrorRate", "Pair", "Speed", "Summary", "SystemSummary", "compare_pair", "score_row", "summarize"]

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Errors over units of a set of utterances.

    Attributes:
        metric: "WER", "CER", or "WER/CER" where words and characters are pooled.
        interval: the rate with its 95 % interval.
        n: utterances scored.
        n_units: units of their references.
        substitutions: of units.
        deletions: of units.
        insertions: of units.
        n_empty: utterances for which nothing was written, failures among them.
        n_exact: utterances without an error.
    """

    metric: str
    interval: Interval
    n: int
    n_units: int
    substitutions: int
    deletions: int
    insertions: int
    n_empty: int
    n_exact: int


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast: medians over repeats per utterance, over all utterances that were transcribed.

    Attributes:
        rtf: seconds of computing per second of audio, with its interval.
        latency_s: percentile -> seconds from samples to text of one utterance.
        audio_s: seconds of audio.
        harness_share: what the harness adds to a round trip, over the computing: input, output, decoding of answers.
    """

    rtf: Interval
    latency_s: Mapping[int, float]
    audio_s: float
    harness_share: float


@dataclass(frozen=True, slots=True)
class SystemSummary:
    """Everything about one system.

    Attributes:
        name: of the system.
        n_scored: utterances with speech and a reference, failures among them.
        n_no_speech: utterances whose reference is blank.
        n_no_units: utterances whose reference has no unit left after normalisation; not scored.
        n_undecodable: utterances whose audio cannot be decoded; not scored.
        n_failed: utterances on which the system failed.
        n_missing: utterances not reached yet.
        overall: None where nothing was scored.
        by_language: language -> rate; "unknown" where the dataset names none.
        by_subset: part of the dataset -> rate, where it has parts.
        language_id: share of utterances whose language was named right; None where forced, or never told.
        hallucination: share of utterances without speech on which words were written; None without such utterances.
        n_invented: words (or characters) written there.
        speed: None where nothing was transcribed.
        peak_rss: highest resident bytes of its process.
        size_bytes: of its files; None where not known.
        load_s: seconds to load.
        normalizers: names of the normalisers used.
        info: as in the rows.
        settings: as in the rows.
        environments: machine and commit, each once.
    """

    name: str
    n_scored: int
    n_no_speech: int
    n_no_units: int
    n_undecodable: int
    n_failed: int
    n_missing: int
    overall: ErrorRate | None
    by_language: Mapping[str, ErrorRate]
    by_subset: Mapping[str, ErrorRate]
    language_id: Interval | None
    hallucination: Interval | None
    n_invented: int
    speed: Speed | None
    peak_rss: int
    size_bytes: int | None
    load_s: float
    normalizers: tuple[str, ...]
    info: Mapping[str, Any]
    settings: Mapping[str, Any]
    environments: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems on the utterances that both have.

    Attributes:
        first: name.
        second: name.
        n: utterances compared.
        test: difference of the error rates, first minus second.
        p_adjusted: p after Holm's correction for the number of pairs in the report.
        rtf_ratio: computing time of the first over that of the second.
    """

    first: str
    second: str
    n: int
    test: PairedTest
    p_adjusted: float
    rtf_ratio: Interval | None


@dataclass(frozen=True, slots=True)
class Summary:
    """All systems of a results file, and all pairs of them."""

    results: Results
    systems: tuple[SystemSummary, ...]
    pairs: tuple[Pair, ...]


def summarize(results: Results) -> Summary:
    """Return all figures of a results file."""
    by_system = {name: [row for row in results.rows if row.system == name] for name in results.systems}
    systems = tuple(_system(name, rows, results.header.n_utterances) for name, rows in by_system.items())
    pairs = [compare_pair(a, by_system[a], b, by_system[b]) for a, b in itertools.combinations(by_system, 2)]
    found = [pair for pair in pairs if pair is not None]
    adjusted = holm([pair.test.p for pair in found])
    return Summary(
        results, systems, tuple(replace(pair, p_adjusted=p) for pair, p in zip(found, adjusted, strict=True))
    )


def score_row(row: ResultRow) -> UtteranceScore:
    """Return the counts of one row; a failed system wrote nothing."""
    return _score(row.reference, row.hypothesis or "", row.language)


@lru_cache(maxsize=65536)
def _score(reference: str, hypothesis: str, language: str) -> UtteranceScore:
    return score_utterance(reference, hypothesis, language)


def is_scored(row: ResultRow) -> bool:
    """Return whether a row counts for error rates: decodable, somebody speaks, and units are left to be right about."""
    return row.error_kind != "audio" and bool(row.reference.strip()) and score_row(row).n_units > 0


def compare_pair(name_a: str, rows_a: Iterable[ResultRow], name_b: str, rows_b: Iterable[ResultRow]) -> Pair | None:
    """Return how two systems differ on the utterances both have with the same reference and samples; None without any.

    The p value is not adjusted for other pairs.
    """
    other = {row.id: row for row in rows_b}
    both = [
        (row, other[row.id])
        for row in rows_a
        if row.id in other
        and is_scored(row)
        and (row.reference, row.language, row.audio_sha256)
        == (other[row.id].reference, other[row.id].language, other[row.id].audio_sha256)
    ]
    if not both:
        return None
    scores = [(score_row(a), score_row(b)) for a, b in both]
    test = paired_test(
        [a.errors for a, _ in scores],
        [b.errors for _, b in scores],
        [a.n_units for a, _ in scores],
        _speakers([a for a, _ in both]),
    )
    timed = [(median(a.seconds), median(b.seconds)) for a, b in both if a.seconds and b.seconds]
    ratio = ratio_interval([a for a, _ in timed], [b for _, b in timed]) if timed else None
    return Pair(name_a, name_b, len(both), test, test.p, ratio)


def _system(name: str, rows: Sequence[ResultRow], n_utterances: int) -> SystemSummary:
    scored = [row for row in rows if is_scored(row)]
    quiet = [row for row in rows if row.error_kind != "audio" and not row.reference.strip()]
    undecodable = [row for row in rows if row.error_kind == "audio"]
    answered_quiet = [row for row in quiet if not row.error]
    invented = [score_row(row).n_hypothesis_units for row in answered_quiet]
    last = rows[-1]
    return SystemSummary(
        name=name,
        n_scored=len(scored),
        n_no_speech=len(quiet),
        n_no_units=len(rows) - len(scored) - len(quiet) - len(undecodable),
        n_undecodable=len(undecodable),
        n_failed=sum(row.error_kind == "system" for row in rows),
        n_missing=n_utterances - len(rows),
        overall=_rate(scored),
        by_language=_grouped(scored, lambda row: row.language or "unknown"),
        by_subset=_grouped(scored, lambda row: row.subset),
        language_id=_language_id(scored),
        hallucination=share_interval(sum(n > 0 for n in invented), len(invented)) if invented else None,
        n_invented=sum(invented),
        speed=_speed(rows),
        peak_rss=max(row.peak_rss for row in rows),
        size_bytes=last.info.get("size_bytes"),
        load_s=last.load_s,
        normalizers=tuple(sorted({score_row(row).normalizer for row in scored})),
        info=last.info,
        settings=last.settings,
        environments=tuple({str(row.environment): row.environment for row in rows}.values()),
    )


def _rate(rows: Sequence[ResultRow]) -> ErrorRate | None:
    if not rows:
        return None
    scores = [score_row(row) for row in rows]
    interval = ratio_interval([s.errors for s in scores], [s.n_units for s in scores], _speakers(rows))
    units = {s.unit for s in scores}
    return ErrorRate(
        metric="WER/CER" if len(units) > 1 else "WER" if units == {"word"} else "CER",
        interval=interval,
        n=len(rows),
        n_units=sum(s.n_units for s in scores),
        substitutions=sum(s.substitutions for s in scores),
        deletions=sum(s.deletions for s in scores),
        insertions=sum(s.insertions for s in scores),
        n_empty=sum(s.n_hypothesis_units == 0 for s in scores),
        n_exact=sum(s.errors == 0 for s in scores),
    )


def _grouped(rows: Sequence[ResultRow], key: Callable[[ResultRow], str]) -> dict[str, ErrorRate]:
    """Return the rates by a key, groups in order of appearance; empty where there is one group only."""
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    rates = {name: _rate(group) for name, group in groups.items()}
    return {name: rate for name, rate in rates.items() if rate is not None} if len(groups) > 1 else {}


def _language_id(rows: Sequence[ResultRow]) -> Interval | None:
    told = [row for row in rows if row.language and not row.error and row.hypothesis_language is not None]
    if not told:
        return None
    return share_interval(sum(row.hypothesis_language == row.language for row in told), len(told))


def _speed(rows: Sequence[ResultRow]) -> Speed | None:
    timed = [row for row in rows if row.seconds and not row.error]
    if not timed:
        return None
    seconds = [median(row.seconds) for row in timed]
    latencies = np.percentile(seconds, PERCENTILES)
    return Speed(
        rtf=ratio_interval(seconds, [row.audio_s for row in timed]),
        latency_s={p: float(value) for p, value in zip(PERCENTILES, latencies, strict=True)},
        audio_s=sum(row.audio_s for row in timed),
        harness_share=sum(row.harness_s for row in timed) / sum(sum(row.seconds) for row in timed),
    )


def _speakers(rows: Sequence[ResultRow]) -> list[str] | None:
    """Return the speaker of each row, or None where the dataset does not name them all: utterances are resampled."""
    speakers = [row.speaker for row in rows]
    return speakers if all(speakers) and len(set(speakers)) > 1 else None
