"""The silences inside one clip: samples in, seconds out.

The detectors of `activity` follow a stream and know only what was heard so far. Here the whole clip is at hand, so a
silence is told by how loud this speaker is and how loud this room is, and found to a hundredth of a second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

from .activity import speech_band

__all__ = ["find_silences"]

_HOP_SAMPLES = SAMPLE_RATE // 100

_SMOOTHED_HOPS = 3
"""Loudness is that of 30 ms: the pulses of a low voice are 15 ms apart."""

_ROOM, _VOICE = 0.05, 0.95
"""The loudness of the room is exceeded by all but this share of the clip, that of the voice by this share of none."""

_ABOVE_ROOM = 0.35
"""Speech begins at this share of the way from the room to the voice, in decibels: soft consonants are above it, what
reverberates is soon below."""

_LEAST_ABOVE_DB = 5.0
"""The loudness of steady noise strays by less, so noise without a voice is one silence."""

_DEEPEST_DB = 60.0
"""Digital silence counts as a room this far below the voice; no recorded room is quieter."""

_LEAST_S = 0.15
"""Shorter gaps are those of closed lips inside words."""


def find_silences(samples: Waveform) -> tuple[tuple[float, float], ...]:
    """Return (start, end) of every silence, in seconds from the first sample, in order.

    A silence that touches an end of the clip may be of any length, one inside has at least 0.15 s.

    Args:
        samples: (n_samples,) float32, mono, 16 kHz.
    """
    if samples.size < _HOP_SAMPLES:
        return ()
    loudness = _loudness_db(samples)
    room, voice = np.quantile(loudness, [_ROOM, _VOICE])
    room = max(room, voice - _DEEPEST_DB)
    quiet = loudness < room + max(_LEAST_ABOVE_DB, _ABOVE_ROOM * (voice - room))
    edges = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    last = loudness.size
    duration_s = samples.size / SAMPLE_RATE
    return tuple(
        (first * _HOP_SAMPLES / SAMPLE_RATE, duration_s if end == last else end * _HOP_SAMPLES / SAMPLE_RATE)
        for first, end in edges.tolist()
        if first == 0 or end == last or (end - first) * _HOP_SAMPLES >= _LEAST_S * SAMPLE_RATE
    )


def _loudness_db(samples: Waveform) -> npt.NDArray[np.float64]:
    """Return the loudness around every hundredth of a second in the band of speech, in decibels of full scale."""
    sound = speech_band(samples)
    whole = sound[: sound.size // _HOP_SAMPLES * _HOP_SAMPLES].reshape(-1, _HOP_SAMPLES)
    powers = np.pad(np.square(whole).mean(axis=1), _SMOOTHED_HOPS // 2, mode="edge")
    smooth = np.convolve(powers, np.full(_SMOOTHED_HOPS, 1 / _SMOOTHED_HOPS), mode="valid")
    loudness: npt.NDArray[np.float64] = 10 * np.log10(smooth + 1e-10)
    return loudness
