"""Mono blocks at any rate in, 16 kHz samples out, block by block.

With soxr installed (the [audio] extra) its HQ mode does the work: it is what the reference implementation uses. Without
it a windowed-sinc filter in numpy with the same pass band takes over, so that a bare installation reads every common
rate; it is slower, never coarser.
"""

from __future__ import annotations

from math import ceil, gcd
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import MissingExtra

__all__ = ["Resampler", "SincResampler", "make_resampler", "n_resampled"]

_PASS_BAND = 0.913
"""End of soxr HQ's pass band, as a fraction of the lower Nyquist frequency."""

_KAISER_BETA = 10.06
"""Kaiser's formula for 100 dB: 0.1102 * (100 - 8.7)."""

_ZERO_CROSSINGS = ceil((100 - 8) / (2.285 * 2 * np.pi * (1 - _PASS_BAND) / 2) / 2)
"""Half length of the filter in samples of the lower rate: Kaiser's formula for 100 dB over the transition band."""

_MAX_PHASES = 640
"""Filter phases kept in memory; covers the rates in use: 11,025 Hz needs 640, 44,100 Hz 160, 48,000 Hz one."""


class Resampler(Protocol):
    """Turns consecutive blocks of one signal into 16 kHz samples."""

    def push(self, block: Waveform) -> Waveform:
        """Return the 16 kHz samples that are complete after `block`."""
        ...

    def finish(self) -> Waveform:
        """Return the samples still held back."""
        ...


def n_resampled(n_samples: int, sample_rate: int) -> int:
    """Return the length at 16 kHz of `n_samples` at `sample_rate`: ceil(n * 16000 / rate), as the reference rounds."""
    return -(-n_samples * SAMPLE_RATE // sample_rate)


def make_resampler(sample_rate: int) -> Resampler:
    """Return a resampler from `sample_rate` Hz to 16 kHz.

    Raises:
        MissingExtra: soxr is not installed and the rate is an unusual one.
    """
    if sample_rate == SAMPLE_RATE:
        return _Unchanged()
    try:
        return _SoxrResampler(sample_rate)
    except ImportError as error:
        if SAMPLE_RATE // gcd(sample_rate, SAMPLE_RATE) > _MAX_PHASES:
            raise MissingExtra(
                f"resampling from the unusual rate of {sample_rate} Hz needs soxr: pip install 'qwen3-asr-onnx[audio]'"
            ) from error
    return SincResampler(sample_rate)


class _Unchanged:
    def push(self, block: Waveform) -> Waveform:
        return block

    def finish(self) -> Waveform:
        return np.empty(0, dtype=np.float32)


class _SoxrResampler:
    def __init__(self, sample_rate: int) -> None:
        import soxr  # the [audio] extra

        self._stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def push(self, block: Waveform) -> Waveform:
        samples: Waveform = self._stream.resample_chunk(block)
        return samples

    def finish(self) -> Waveform:
        samples: Waveform = self._stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
        return samples


class SincResampler:
    """A band-limited resampler: Kaiser-windowed sinc, 100 dB, linear phase, one filter per output phase.

    Output sample m lies at input position m * down / up, with up/down = 16000/rate in lowest terms, so it uses phase
    (m * down) mod up of the filter and the `2 * half` input samples around that position.
    """

    def __init__(self, sample_rate: int) -> None:
        common = gcd(sample_rate, SAMPLE_RATE)
        self._up, self._down = SAMPLE_RATE // common, sample_rate // common
        self._half = ceil(_ZERO_CROSSINGS * max(1.0, sample_rate / SAMPLE_RATE))
        self._phases = _sinc_phases(self._up, self._half, min(1.0, SAMPLE_RATE / sample_rate))
        # Input from position `_start` on; the signal is zero before its first sample.
        self._held: Waveform = np.zeros(self._half - 1, dtype=np.float32)
        self._start = -(self._half - 1)
        self._next_output = 0

    def push(self, block: Waveform) -> Waveform:
        """Return the 16 kHz samples that are complete after `block`, a (n,) float32 array."""
        self._held = np.concatenate([self._held, block])
        # Output m needs input up to floor(m * down / up) + half.
        last_position = self._start + self._held.size - 1 - self._half
        end = max(self._next_output, ((last_position + 1) * self._up - 1) // self._down + 1)
        positions = np.arange(self._next_output, end, dtype=np.int64) * self._down
        firsts = positions // self._up - (self._half - 1) - self._start
        if firsts.size:
            windows = np.lib.stride_tricks.sliding_window_view(self._held, 2 * self._half)[firsts]
            samples: Waveform = np.einsum("ij,ij->i", windows, self._phases[positions % self._up])
        else:
            samples = np.empty(0, dtype=np.float32)
        self._next_output = end
        keep_from = max(0, end * self._down // self._up - (self._half - 1) - self._start)
        self._held = self._held[keep_from:]
        self._start += keep_from
        return samples

    def finish(self) -> Waveform:
        """Return the samples still held back; the signal is zero after its last sample."""
        return self.push(np.zeros(self._half, dtype=np.float32))


def _sinc_phases(up: int, half: int, ratio: float) -> npt.NDArray[np.float32]:
    """Return the filters, (up, 2 * half) float32: row p interpolates at p / up past the sample at index half - 1.

    Args:
        up: number of phases.
        half: half length in input samples.
        ratio: lower rate over input rate; at most 1.
    """
    cutoff = ratio * (1 + _PASS_BAND) / 2  # middle of the transition band, in units of the input's Nyquist frequency
    offsets = np.arange(2 * half)[None, :] - (half - 1) - np.arange(up)[:, None] / up
    taper = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (offsets / half) ** 2))) / np.i0(_KAISER_BETA)
    filters = cutoff * np.sinc(cutoff * offsets) * taper
    filters /= filters.sum(axis=1, keepdims=True)  # every phase passes a constant unchanged
    return filters.astype(np.float32)
