"""The audio that models are timed on and warmed up with: any length, always the same."""

from __future__ import annotations

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

__all__ = ["benchmark_clip"]


def benchmark_clip(seconds: float) -> Waveform:
    """Return a deterministic clip of voice-like harmonics and noise, (n_samples,) float32 at 16 kHz."""
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * 140 * t + 3 * np.sin(2 * np.pi * 0.7 * t)
    voice = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * t))
    clip = 0.1 * voice + 0.01 * rng.standard_normal(t.size)
    return np.asarray(clip, np.float32)
