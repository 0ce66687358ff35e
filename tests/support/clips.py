"""Synthetic audio for tests: deterministic, and different in every block and window."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CLIP_SECONDS", "SAMPLE_RATE", "synthetic_clip", "wav_bytes"]

SAMPLE_RATE = 16_000
CLIP_SECONDS: tuple[float, ...] = (0.1, 0.99, 1.0, 7.99, 8.01, 30.0, 70.0)
"""Around the block (1 s) and window (8 s) boundaries, a usual length, and many windows."""

Floats = npt.NDArray[np.float32]


def synthetic_clip(seconds: float, seed: int = 0) -> Floats:
    """Return a deterministic waveform in [-1, 1], 16 kHz: a chirp, voiced harmonics and noise, loud and quiet by turns.

    Each second has its own pitch and loudness (down to 60 dB below full scale), so windows and blocks all differ.
    """
    rng = np.random.default_rng([seed, round(seconds * 1000)])
    n_samples = round(seconds * SAMPLE_RATE)
    t = np.arange(n_samples) / SAMPLE_RATE
    n_knots = int(seconds) + 3
    knots = np.arange(n_knots)
    pitch_hz = np.interp(t, knots, rng.uniform(80, 320, n_knots))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    sweep_hz = np.interp(t, knots, rng.uniform(200, 6000, n_knots))
    chirp = np.sin(2 * np.pi * np.cumsum(sweep_hz) / SAMPLE_RATE)
    loudness = 10 ** (np.interp(t * 4, np.arange(4 * n_knots), rng.uniform(-60, 0, 4 * n_knots)) / 20)
    mix = loudness * (0.4 * voice + 0.3 * chirp) + 10 ** (-45 / 20) * rng.standard_normal(n_samples)
    return np.clip(0.5 * mix, -1, 1).astype(np.float32)


def wav_bytes(samples: npt.NDArray[Any], rate: int = SAMPLE_RATE) -> bytes:
    """Return a 16-bit WAV file of (n,) or (n, channels) samples: float32 in [-1, 1], or int16."""
    if samples.dtype != np.int16:
        samples = np.round(samples * 32_767)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    data = samples.astype("<i2").tobytes()
    frame = 2 * channels
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * frame % (1 << 32), frame % (1 << 16), 16)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
