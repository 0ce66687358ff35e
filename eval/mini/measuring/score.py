"""Error rates with their uncertainty.

Flows in: pairs of reference and hypothesis texts. Flows out: `Score` values: counts first, rates and 95 % bootstrap
intervals derived from them. Punctuation and case are ignored; Chinese is counted in characters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mini.language.sentences import bare

N_BOOTSTRAP = 1000


@dataclass(frozen=True, slots=True)
class Score:
    """Edit errors over reference units, with the interval of 1000 resamplings of the utterances."""

    errors: int
    units: int
    n: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Errors per reference unit."""
        return self.errors / max(1, self.units)

    def __str__(self) -> str:
        return f"{100 * self.rate:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}] (n={self.n})"


def units_of(text: str) -> list[str]:
    """Return the words of a text; every Chinese character is a unit of its own."""
    spaced = "".join(f" {c} " if "\u4e00" <= c <= "\u9fff" else c for c in bare(text))
    return spaced.split()


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Return the smallest number of substitutions, deletions and insertions."""
    row = list(range(len(hypothesis) + 1))
    for i, unit in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (unit != other))
    return row[-1]


def ratio_interval(amounts: Sequence[float], units: Sequence[int]) -> tuple[float, float, float]:
    """Return sum(amounts) / sum(units) over clips, and its 95 % interval when the clips are drawn anew."""
    numerators, denominators = np.array(amounts, dtype=float), np.array(units)
    samples = np.random.default_rng(0).integers(0, len(numerators), (N_BOOTSTRAP, len(numerators)))
    ratios = numerators[samples].sum(1) / np.maximum(1, denominators[samples].sum(1))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(numerators.sum() / max(1, denominators.sum())), float(low), float(high)


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Return the error rate of hypotheses against references of the same length."""
    pairs = [(units_of(r), units_of(h)) for r, h in zip(references, hypotheses, strict=True)]
    errors, units = [edit_distance(r, h) for r, h in pairs], [len(r) for r, _ in pairs]
    _, low, high = ratio_interval(errors, units)
    return Score(sum(errors), sum(units), len(pairs), low, high)


def share(hits: Sequence[bool]) -> Score:
    """Return the share of true values, in the same form as an error rate."""
    _, low, high = ratio_interval(hits, [1] * len(hits))
    return Score(sum(hits), len(hits), len(hits), low, high)


def difference(references: Sequence[str], texts: Sequence[str], baseline: Sequence[str]) -> str:
    """Return how much higher the error rate of `texts` is than that of `baseline` on the same clips, in points."""
    pairs = [(units_of(r), units_of(t), units_of(b)) for r, t, b in zip(references, texts, baseline, strict=True)]
    extra = [edit_distance(r, t) - edit_distance(r, b) for r, t, b in pairs]
    points = [100 * value for value in ratio_interval(extra, [len(r) for r, _, _ in pairs])]
    return "{:+.2f} points [{:+.2f}, {:+.2f}]".format(*points)
