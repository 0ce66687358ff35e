"""Long audio with its transcript -> windows the aligner can take, and after each window how much of it is settled.

The decoder is causal: what it answers for a word depends on the audio and on the words before, never on those after. So
a window may be given more words than are spoken in it. The answers up to a pause inside the window are final, and the
next window begins in that pause with the word after it: nobody has to know beforehand where the transcript divides.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.errors import LimitError

from .times import Span

__all__ = ["Window", "WindowLimits", "choose_window", "settled_words"]

SURPLUS, SURPLUS_UNITS = 1.5, 32
"""A window gets this many times its proportional share of the words, and so many more: speech is not evenly dense."""

SHORTEST_WINDOW_S = 5.0

GUARD_MS = 1000
"""Nothing is settled so close to the end of a window: its last word may be cut in two."""


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """What one window may hold.

    Attributes:
        samples: most samples of audio.
        positions: positions for audio, units and slots together.
        block_samples: samples per convolution block of the encoder.
        block_tokens: positions that a block takes.
    """

    samples: int
    positions: int
    block_samples: int
    block_tokens: int

    def positions_left(self, n_samples: int) -> int:
        """Return the positions left for words; every block begun takes those of a whole one."""
        return self.positions - self.block_tokens * math.ceil(n_samples / self.block_samples)


@dataclass(frozen=True, slots=True)
class Window:
    """The next samples and units to align together; `last` when they are all that is left."""

    n_samples: int
    n_units: int
    last: bool


def choose_window(n_samples: int, costs: Sequence[int], limits: WindowLimits) -> Window:
    """Return the next window.

    Args:
        n_samples: samples left.
        costs: positions that each unit left takes, slots included.
        limits: what a window may hold.

    Raises:
        LimitError: there are more words than a model with these positions can place in so little audio.
    """
    sums = list(itertools.accumulate(costs))
    size = min(n_samples, limits.samples)
    while True:
        fitting = bisect.bisect_right(sums, limits.positions_left(size))
        if size == n_samples and fitting == len(costs):
            return Window(size, fitting, last=True)
        wanted = min(len(costs), math.ceil(SURPLUS * len(costs) * size / n_samples) + SURPLUS_UNITS)
        if size < n_samples and fitting >= wanted:
            return Window(size, wanted, last=False)
        size //= 2
        if size < SHORTEST_WINDOW_S * SAMPLE_RATE:
            raise LimitError(
                f"{len(costs)} words for {n_samples / SAMPLE_RATE:.1f} s of audio: with their slots more than the "
                f"model's {limits.positions} positions can hold; is this the transcript of this audio?"
            )


def settled_words(spans: Sequence[Span], window_ms: int) -> tuple[int, int]:
    """Return how many words of a window that is not the last are settled, and where the next window begins.

    The border lies in the longest pause of the window's second half, or after the last word that ends well inside it.

    Args:
        spans: the words as aligned, in order; there may be more than are spoken in the window.
        window_ms: length of the window.
    """
    inside = [
        (count, previous.end_ms, following.start_ms)
        for count, (previous, following) in enumerate(itertools.pairwise(spans), start=1)
        if following.start_ms <= window_ms - GUARD_MS
    ]
    late = [border for border in inside if border[1] >= window_ms // 2]
    if late:
        count, end_ms, start_ms = max(late, key=lambda border: (border[2] - border[1], border[0]))
    elif inside:
        count, end_ms, start_ms = inside[-1]
    else:
        # Not one word settled: its audio is still to come, and half of this window need not be heard again.
        first = spans[0].start_ms - GUARD_MS if spans else window_ms
        return 0, min(max(first, window_ms // 2), window_ms - GUARD_MS)
    return count, (end_ms + start_ms) // 2
