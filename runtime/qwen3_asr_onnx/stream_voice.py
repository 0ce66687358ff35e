"""Voice activity detection for streams: the frames that a neural detector takes for speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .activity import FrameCutter
from .arrays import Waveform
from .pauses import SPEECH_BEGINS, SPEECH_GOES_ON, SpeechDetector
from .vad import SileroDetector

__all__ = ["VoiceDetector"]


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
