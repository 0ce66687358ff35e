"""Names of the arrays that pass between the stages."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["SAMPLE_RATE", "AudioFeatures", "Mel", "Waveform"]

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the pipeline."""

Waveform: TypeAlias = npt.NDArray[np.float32]
"""(n_samples,) float32, mono, 16 kHz, in [-1, 1]."""

Mel: TypeAlias = npt.NDArray[np.float32]
"""(n_mels, n_frames) float32 log-mel features, 100 frames per second."""

AudioFeatures: TypeAlias = npt.NDArray[np.float32]
"""(n_audio_tokens, hidden_size) float32 encoder output, 13 tokens per second."""
