"""What was said and what was written -> counts of wrong words and characters per clip, and rates with their intervals.

Case, punctuation and width are ignored. Scripts without spaces (Chinese, Japanese, Thai and the like) count each
character as a word. For published figures use the `eval` verb, which has a normaliser per language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.errors import MissingExtra

__all__ = ["ErrorCounts", "Rate", "count_errors", "difference", "rate", "words_of"]

N_RESAMPLES = 2000
SEED = 0

UNSPACED = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCounts:
    """Counts per clip.

    Attributes:
        errors: (n_clips,) substitutions, deletions and insertions.
        units: (n_clips,) words or characters that were said.
    """

    errors: Counts
    units: Counts


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate, or a difference of two, and its 95 % interval over clips."""

    value: float
    low: float
    high: float


def words_of(text: str) -> list[str]:
    """Return the words that count."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    parts = []
    for character in folded:
        category = unicodedata.category(character)[0]
        if category in "PSCZ":
            # An apostrophe joins what stands on its sides, all other marks part it.
            parts.append("" if character in "'’" else " ")
        elif unicodedata.name(character, "").startswith(UNSPACED):
            parts.append(f" {character} ")
        else:
            parts.append(character)
    return "".join(parts).split()


def count_errors(references: Sequence[str], hypotheses: Sequence[str], *, characters: bool = False) -> ErrorCounts:
    """Return the errors of each clip in words, or in characters without spaces.

    Raises:
        MissingExtra: jiwer is not installed.
    """
    pairs = [(words_of(said), words_of(heard)) for said, heard in zip(references, hypotheses, strict=True)]
    if characters:
        pairs = [(list("".join(said)), list("".join(heard))) for said, heard in pairs]
    errors = [_distance(said, heard) for said, heard in pairs]
    return ErrorCounts(np.array(errors, dtype=np.int64), np.array([len(said) for said, _ in pairs], dtype=np.int64))


def rate(counts: ErrorCounts) -> Rate:
    """Return errors per unit."""
    return _bootstrapped(counts.errors, counts.units)


def difference(counts: ErrorCounts, baseline: ErrorCounts) -> Rate:
    """Return how much higher the rate is than the baseline's, paired clip by clip."""
    return _bootstrapped(counts.errors - baseline.errors, counts.units)


def _distance(said: list[str], heard: list[str]) -> int:
    if not said:
        return len(heard)
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra("counting word errors needs jiwer: pip install 'qwen3-asr-onnx[sweep]'") from error
    found = jiwer.process_words(" ".join(said), " ".join(heard))
    return int(found.substitutions + found.deletions + found.insertions)


def _bootstrapped(errors: Counts, units: Counts) -> Rate:
    """Return sum(errors) / sum(units) with its accelerated bootstrap interval (Efron 1987).

    Clips are resampled, never words: errors come in clumps. Plain percentiles would be too narrow on the upper side
    (INVESTIGATION.md, entry 014).
    """
    value = float(errors.sum() / max(1, units.sum()))
    drawn = np.random.default_rng(SEED).integers(0, len(errors), (N_RESAMPLES, len(errors)))
    rates = errors[drawn].sum(axis=1) / np.maximum(1, units[drawn].sum(axis=1))
    left_out = (errors.sum() - errors) / np.maximum(1, units.sum() - units)
    pulls = left_out.mean() - left_out
    spread = float((pulls**2).sum())
    if spread == 0:
        return Rate(value, value, value)
    acceleration = float((pulls**3).sum()) / (6 * spread**1.5)
    normal = NormalDist()
    below = (float((rates < value).sum()) + float((rates == value).sum()) / 2) / N_RESAMPLES
    shift = normal.inv_cdf(min(max(below, 1 / N_RESAMPLES), 1 - 1 / N_RESAMPLES))
    ends = []
    for z in (normal.inv_cdf(0.025), normal.inv_cdf(0.975)):
        corrected = shift + (shift + z) / (1 - acceleration * (shift + z))
        ends.append(float(np.quantile(rates, normal.cdf(corrected))))
    return Rate(value, *ends)
