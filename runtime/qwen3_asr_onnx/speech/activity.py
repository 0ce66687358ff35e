"""Where a stream may hold speech: 16 kHz samples in, one flag per frame of 32 ms out."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

__all__ = ["FRAME_SAMPLES", "ActivityDetector", "EnergyDetector", "FrameCutter", "is_near_silent"]

FRAME_SAMPLES = 512
"""32 ms: shorter than any pause, and the frame of the usual neural detectors, so that one can take this one's place."""

_SILENCE_POWER = 10 ** (-70 / 10)
"""Mean square below which nothing can be speech: 70 dB under full scale is quieter than the noise of any microphone."""

_MARGIN = 10 ** (6 / 10)
"""Speech rises this far above the noise floor, as a ratio of powers: 6 dB. Steady noise strays by 1 dB at most."""

_FLOOR_FRAMES = 10 * SAMPLE_RATE // FRAME_SAMPLES
"""The noise floor is the quietest moment of the last 10 s: nobody talks so long without taking a breath."""

_SMOOTHED_FRAMES = 4
"""A moment is 128 ms: as long as the closure of a consonant, so a gap inside a word does not pass for the floor."""

_LEARNING_FRAMES = 2 * SAMPLE_RATE // FRAME_SAMPLES
"""Before 2 s are heard the quietest moment may be a vowel: no floor is believed yet."""


class ActivityDetector(Protocol):
    """Judges consecutive samples of one stream, frame by frame."""

    def push(self, samples: Waveform) -> npt.NDArray[np.bool_]:
        """Return whether each frame completed by `samples` may hold speech.

        Args:
            samples: (n,) float32, 16 kHz; any number, following those pushed before.

        Returns:
            (n_frames,) bool: one entry per `FRAME_SAMPLES` samples, counted from the start of the stream.
        """
        ...


class FrameCutter:
    """Cuts consecutive blocks of one stream into frames."""

    def __init__(self) -> None:
        self._rest: Waveform = np.empty(0, dtype=np.float32)

    def push(self, samples: Waveform) -> npt.NDArray[np.float32]:
        """Return the frames completed by `samples`, (n_frames, FRAME_SAMPLES) float32."""
        pending = np.concatenate([self._rest, samples])
        end = pending.size - pending.size % FRAME_SAMPLES
        self._rest = pending[end:].copy()
        return pending[:end].reshape(-1, FRAME_SAMPLES)


class EnergyDetector:
    """Takes for possible speech whatever rises above a noise floor that follows the stream.

    Errs towards speech: at the start of a stream all sound may be speech.
    """

    def __init__(self) -> None:
        self._cutter = FrameCutter()
        self._recent: deque[float] = deque(maxlen=_SMOOTHED_FRAMES)
        self._moments: deque[float] = deque(maxlen=_FLOOR_FRAMES)

    def push(self, samples: Waveform) -> npt.NDArray[np.bool_]:
        """Return whether each frame completed by `samples` may hold speech; see `ActivityDetector.push`."""
        frames = self._cutter.push(samples)
        powers = np.einsum("ij,ij->i", frames, frames) / FRAME_SAMPLES
        return np.array([self._is_active(power) for power in powers.tolist()], dtype=np.bool_)

    def _is_active(self, power: float) -> bool:
        self._recent.append(power)
        if len(self._recent) == _SMOOTHED_FRAMES:
            self._moments.append(sum(self._recent) / _SMOOTHED_FRAMES)
        floor = min(self._moments) if len(self._moments) >= _LEARNING_FRAMES else 0.0
        return power > max(_SILENCE_POWER, floor * _MARGIN)


SILENCE_RMS = 10 ** (-50 / 20)
"""Audio whose loudest tenth of a second stays 50 dB under full scale is near-silent: speech is 20 to 30 dB louder."""

_LOUDNESS_SAMPLES = SAMPLE_RATE // 10


def is_near_silent(samples: Waveform) -> bool:
    """Return whether no tenth of a second of the samples is loud enough for speech."""
    whole = samples[: samples.size // _LOUDNESS_SAMPLES * _LOUDNESS_SAMPLES].reshape(-1, _LOUDNESS_SAMPLES)
    rest = samples[whole.size :]
    powers = [float(np.mean(np.square(part))) for part in (*whole, rest) if part.size]
    return max(powers, default=0.0) < SILENCE_RMS**2
