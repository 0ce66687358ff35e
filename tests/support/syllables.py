"""Sound that is loud where somebody speaks: what silences are looked for in, made by code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

__all__ = ["voiced"]


def voiced(spoken: Sequence[tuple[float, float]], duration_s: float) -> Waveform:
    """Return a buzz of 120 Hz whose loudness comes and goes as syllables do, and digital silence elsewhere.

    Args:
        spoken: (start, end) of the speech, in seconds.
        duration_s: length of the whole.
    """
    time_s = np.arange(int(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * time_s) / harmonic for harmonic in range(1, 25))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 5 * time_s)
    heard = np.zeros(time_s.size)
    for start_s, end_s in spoken:
        heard[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)] = 1.0
    return (0.2 * buzz * syllables * heard).astype(np.float32)
