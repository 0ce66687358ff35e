"""Long audio into pieces the model can take, cut where it is quiet: a waveform in, sample ranges out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .types import SAMPLE_RATE, Waveform

__all__ = ["Piece", "split_at_quiet"]

_SEARCH_S = 5.0  # a cut is moved at most this far, so a piece may be 5 s longer than asked for
_WINDOW_SAMPLES = SAMPLE_RATE // 10  # loudness is judged over 100 ms

# Largest relative error of a float32 sum of 1600 non-negative terms in any order is 1600 * 2**-24; taken twice.
_FLOAT32_SUM_ERROR = 2 * _WINDOW_SAMPLES * 2.0**-24


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of samples of the input.

    Attributes:
        start_sample: first sample.
        end_sample: one past the last sample.
    """

    start_sample: int
    end_sample: int

    @property
    def start_s(self) -> float:
        """Seconds from the start of the input to the first sample."""
        return self.start_sample / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Seconds from the start of the input to the end of the piece."""
        return self.end_sample / SAMPLE_RATE


def split_at_quiet(waveform: Waveform, max_s: float = 1200.0) -> list[Piece]:
    """Return consecutive pieces that cover the waveform without gap or overlap.

    The boundaries are those of the official package (qwen-asr 0.0.6): while more than `max_s` remains, the quietest
    100 ms (sum of absolute values, the earliest of equals) within 5 s of the limit is found, and the cut is made before
    its quietest sample. A piece can therefore be up to 5 s longer than `max_s`. Limits under 10 s, which the official
    package never uses, search within half the limit: 5 s would reach back to the last cut and could stop advancing.

    Args:
        waveform: (n_samples,) float32, mono, 16 kHz.
        max_s: length to aim at, in seconds.

    Returns:
        At least one piece; a waveform no longer than `max_s` is one piece.
    """
    assert waveform.ndim == 1
    assert max_s > 0
    n_samples = waveform.shape[0]
    if n_samples / SAMPLE_RATE <= max_s:
        return [Piece(0, n_samples)]
    max_samples = max(1, int(max_s * SAMPLE_RATE))
    search_samples = int(min(_SEARCH_S, max_s / 2) * SAMPLE_RATE)
    pieces: list[Piece] = []
    start = 0
    while n_samples - start > max_samples:
        end = _quiet_cut(waveform, start, start + max_samples, search_samples)
        pieces.append(Piece(start, end))
        start = end
    return [*pieces, Piece(start, n_samples)]


def _quiet_cut(waveform: Waveform, start: int, target: int, search_samples: int) -> int:
    """Return the sample to cut at, at most `search_samples` from `target` and after `start`."""
    left = max(start, target - search_samples)
    right = min(waveform.shape[0], target + search_samples)
    if right - left <= _WINDOW_SAMPLES:
        return target
    loudness = np.abs(waveform[left:right])
    window = _quietest_window(loudness)
    cut = left + window + int(np.argmin(loudness[window : window + _WINDOW_SAMPLES]))
    return max(cut, start + 1)


def _quietest_window(loudness: npt.NDArray[np.float32]) -> int:
    """Return the start of the 100 ms with the smallest float32 sum.

    The reference is a float32 convolution, whose rounding decides between windows that are almost equal. A running sum
    in float64, ten times faster, narrows the search to the windows that rounding could make smallest; only the stretch
    that holds those is convolved.
    """
    running = np.concatenate(([0.0], np.cumsum(loudness, dtype=np.float64)))
    sums = running[_WINDOW_SAMPLES:] - running[:-_WINDOW_SAMPLES]
    quietest = int(np.argmin(sums))
    if not loudness[quietest : quietest + _WINDOW_SAMPLES].any():  # digital silence: nothing to round
        return quietest
    slack = running[-1] * 2.0**-40  # the running sum's own rounding, generously
    near = np.flatnonzero(sums * (1 - _FLOAT32_SUM_ERROR) - slack <= sums[quietest] * (1 + _FLOAT32_SUM_ERROR) + slack)
    first, last = int(near[0]), int(near[-1])
    if first == last:
        return first
    ones = np.ones(_WINDOW_SAMPLES, dtype=np.float32)
    return first + int(np.argmin(np.convolve(loudness[first : last + _WINDOW_SAMPLES], ones, mode="valid")))
