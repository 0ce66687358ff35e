"""Long audio into clips the model can take, cut where it is quiet: blocks of samples in, clips with their place out.

A clip is handed out as soon as its end is known; no more than the longest clip and a few seconds are ever held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

__all__ = ["Clip", "SampleBuffer", "halve_at_quiet", "quietest_cut", "split_at_quiet"]

_SEARCH_S = 5.0  # a cut is moved at most this far, so a clip may be 5 s longer than asked for
_WINDOW_SAMPLES = SAMPLE_RATE // 10  # loudness is judged over 100 ms

# Largest relative error of a float32 sum of 1600 non-negative terms in any order is 1600 * 2**-24; taken twice.
_FLOAT32_SUM_ERROR = 2 * _WINDOW_SAMPLES * 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A stretch of the input, with its samples.

    Attributes:
        start_sample: index in the input of the first sample.
        samples: (n_samples,) float32, mono, 16 kHz, in [-1, 1].
        channel: of the input, counted from 1; None where all of them are one.
    """

    start_sample: int
    samples: Waveform
    channel: int | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return self.samples.size / SAMPLE_RATE

    @property
    def start_s(self) -> float:
        """Seconds from the start of the input to the first sample."""
        return self.start_sample / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Seconds from the start of the input to the end of the clip."""
        return (self.start_sample + self.samples.size) / SAMPLE_RATE


class SampleBuffer:
    """The part of an input that is still needed: grows at the end, is dropped from the front.

    Attributes:
        start: index in the input of the first sample held.
        end: one past the last sample held.
    """

    def __init__(self) -> None:
        self.start = self.end = 0
        self._blocks: list[Waveform] = []
        self._peak = 1.0

    def append(self, block: Waveform) -> None:
        """Add what follows."""
        if block.size:
            self._blocks.append(block)
            self.end += block.size
            self._peak = max(self._peak, float(block.max()), -float(block.min()))

    def samples(self) -> Waveform:
        """Return what is held, scaled into [-1, 1] by the loudest peak so far, if that is above 1.

        `load_audio` scales by the loudest peak of the whole, which is the same for an input that is one clip.
        """
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate(self._blocks)] if self._blocks else [np.empty(0, dtype=np.float32)]
        whole = self._blocks[0]
        # The division may round to just above 1.
        return whole if self._peak <= 1.0 else np.clip(whole / np.float32(self._peak), -1.0, 1.0)

    def clip(self, start: int, end: int) -> Clip:
        """Return the samples from `start` to `end`, counted in the input."""
        return Clip(start, self.samples()[start - self.start : end - self.start].copy())

    def drop_before(self, start: int) -> None:
        """Forget the samples before `start`, counted in the input."""
        excess = start - self.start
        while self._blocks and excess >= self._blocks[0].size:
            excess -= self._blocks.pop(0).size
        if excess and self._blocks:
            self._blocks[0] = self._blocks[0][excess:].copy()
        self.start = start


def split_at_quiet(blocks: Iterable[Waveform], max_s: float = 1200.0) -> Iterator[Clip]:
    """Yield consecutive clips that cover the input without gap or overlap.

    The boundaries are those of the official package (qwen-asr 0.0.6): while more than `max_s` remains, the quietest
    100 ms (sum of absolute values, the earliest of equals) within 5 s of the limit is found, and the cut is made before
    its quietest sample. A clip can therefore be up to 5 s longer than `max_s`. Limits under 10 s, which the official
    package never uses, search within half the limit: 5 s would reach back to the last cut and could stop advancing.

    Args:
        blocks: (n,) float32, mono, 16 kHz, following each other.
        max_s: length to aim at, in seconds.
    """
    assert max_s > 0
    max_samples = max(1, int(max_s * SAMPLE_RATE))
    search_samples = int(min(_SEARCH_S, max_s / 2) * SAMPLE_RATE)
    buffer = SampleBuffer()

    def cut() -> Clip:
        window = buffer.samples()[: max_samples + search_samples]
        clip = buffer.clip(buffer.start, buffer.start + quietest_cut(window, max_samples, search_samples))
        buffer.drop_before(clip.start_sample + clip.samples.size)
        return clip

    for block in blocks:
        buffer.append(block)
        while buffer.end - buffer.start >= max_samples + search_samples:
            yield cut()
    while buffer.end - buffer.start > max_samples:
        yield cut()
    if buffer.end > buffer.start:
        yield buffer.clip(buffer.start, buffer.end)


def halve_at_quiet(clip: Clip) -> tuple[Clip, Clip]:
    """Return two clips that make up the given one, cut at the quietest point of its middle half."""
    middle = clip.samples.size // 2
    cut = quietest_cut(clip.samples, middle, middle // 2)
    first = Clip(clip.start_sample, clip.samples[:cut], clip.channel)
    return first, Clip(clip.start_sample + cut, clip.samples[cut:], clip.channel)


def quietest_cut(waveform: Waveform, target: int, search_samples: int) -> int:
    """Return the sample to cut at, after the first and at most `search_samples` from `target`.

    Args:
        waveform: (n_samples,) float32.
        target: index to cut near.
        search_samples: how far to look.
    """
    left = max(0, target - search_samples)
    right = min(waveform.shape[0], target + search_samples)
    if right - left <= _WINDOW_SAMPLES:
        return target
    loudness = np.abs(waveform[left:right])
    window = _quietest_window(loudness)
    cut = left + window + int(np.argmin(loudness[window : window + _WINDOW_SAMPLES]))
    return max(cut, 1)


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
