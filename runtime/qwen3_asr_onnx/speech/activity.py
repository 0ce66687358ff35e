"""Where a stream may hold speech: 16 kHz samples in, one flag per frame of 32 ms out."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

__all__ = [
    "FRAME_SAMPLES",
    "ActivityDetector",
    "EnergyDetector",
    "FrameCutter",
    "SpeechBand",
    "is_near_silent",
    "speech_band",
]

FRAME_SAMPLES = 512
"""32 ms: shorter than any pause, and the frame of the usual neural detectors, so that one can take this one's place."""

_SPEECH_FROM_HZ = 180
"""What lies below says nothing about speech: an offset of the sound card, mains hum (50 and 60 Hz and twice that),
wind, footsteps. The lowest formants begin at 250 Hz; a pitch below comes with harmonics above."""

_SILENCE_POWER = 10 ** (-85 / 10)
"""Mean square below which nothing can be speech. There are recordings whose speech has -60 dB (FLEURS) and its soft
parts 20 dB less; 16 bits end at -98 dB. Noise above this is told by its being steady."""

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


class SpeechBand:
    """Takes offset and hum out of consecutive frames of one stream: a linear-phase high-pass, 16 ms late.

    Full from 230 Hz on; 120 Hz and below come out over 50 dB weaker, a constant offset not at all.
    """

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float32] | None = None

    def push(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the filtered frames, (n_frames, FRAME_SAMPLES)."""
        if not len(frames):
            return np.empty((0, FRAME_SAMPLES))
        if self._before is None:  # what an offset does at the start of a stream is no click
            self._before = np.full(FRAME_SAMPLES, frames[0, 0])
        before = np.concatenate([self._before[None], frames[:-1]])
        self._before = frames[-1].copy()
        spectra = np.fft.rfft(np.concatenate([before, frames], axis=1)) * _high_pass()
        filtered: npt.NDArray[np.float64] = np.fft.irfft(spectra)[:, FRAME_SAMPLES:]
        return filtered


def speech_band(samples: Waveform) -> npt.NDArray[np.float64]:
    """Return a whole clip without offset and hum, (n_samples,), nothing of it late; (0,) for an empty one."""
    if not samples.size:
        return np.empty(0)
    late = FRAME_SAMPLES // 2
    padded = np.pad(samples, (0, late + -(samples.size + late) % FRAME_SAMPLES), mode="edge")
    return SpeechBand().push(padded.reshape(-1, FRAME_SAMPLES)).reshape(-1)[late:][: samples.size]


@lru_cache(maxsize=1)
def _high_pass() -> npt.NDArray[np.complex128]:
    """Return the response of the filter for pairs of frames: a Hamming-windowed sinc, taken from the whole."""
    taps = np.arange(-FRAME_SAMPLES // 2, FRAME_SAMPLES // 2 + 1)
    low_pass = np.sinc(taps * (2 * _SPEECH_FROM_HZ / SAMPLE_RATE)) * np.hamming(taps.size)
    kernel = (taps == 0) - low_pass / low_pass.sum()
    response = np.fft.rfft(kernel, 2 * FRAME_SAMPLES)
    response.flags.writeable = False  # shared between threads through the cache
    return response


class EnergyDetector:
    """Takes for possible speech whatever rises above a noise floor that follows the stream.

    Only what lies in the band of speech is measured (`SpeechBand`).

    Errs towards speech: at the start of a stream all sound may be speech.
    """

    def __init__(self) -> None:
        self._cutter = FrameCutter()
        self._band = SpeechBand()
        self._recent: deque[float] = deque(maxlen=_SMOOTHED_FRAMES)
        self._moments: deque[float] = deque(maxlen=_FLOOR_FRAMES)

    def push(self, samples: Waveform) -> npt.NDArray[np.bool_]:
        """Return whether each frame completed by `samples` may hold speech; see `ActivityDetector.push`."""
        frames = self._band.push(self._cutter.push(samples))
        powers = np.einsum("ij,ij->i", frames, frames) / FRAME_SAMPLES
        return np.array([self._is_active(power) for power in powers.tolist()], dtype=np.bool_)

    def _is_active(self, power: float) -> bool:
        self._recent.append(power)
        if len(self._recent) == _SMOOTHED_FRAMES:
            self._moments.append(sum(self._recent) / _SMOOTHED_FRAMES)
        floor = min(self._moments) if len(self._moments) >= _LEARNING_FRAMES else 0.0
        return power > max(_SILENCE_POWER, floor * _MARGIN)


_QUIET_POWER = 10 ** (-50 / 10)
"""Usual speech is 20 to 30 dB louder than this in its loudest tenth of a second."""

_FAINT_POWER = 10 ** (-75 / 10)
"""Quieter speech than this has never been met."""

_LIVELY = 10 ** (10 / 10)
"""Between loud and soft moments speech has 20 dB and more, the noise of a room 1 or 2."""

_LOUDNESS_SAMPLES = SAMPLE_RATE // 10


def is_near_silent(samples: Waveform) -> bool:
    """Return whether the samples hold nothing that could be speech, offset and hum not counted.

    That is so where no tenth of a second is loud enough for usual speech, unless loud and soft moments take turns as
    they do in speech: whispers and recordings of very low level are no silence, the noise of a room is.
    """
    if not samples.size:
        return True
    sound = speech_band(samples)
    whole = sound[: sound.size // _LOUDNESS_SAMPLES * _LOUDNESS_SAMPLES].reshape(-1, _LOUDNESS_SAMPLES)
    rest = sound[whole.size :]
    powers = [float(np.mean(np.square(part))) for part in (*whole, rest) if part.size]
    if max(powers) >= _QUIET_POWER:
        return False
    soft, loud = np.quantile(powers, [0.1, 0.9])
    return bool(loud < max(_FAINT_POWER, _LIVELY * soft))
