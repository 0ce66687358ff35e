"""Synthetic signals by name: the same samples on every machine, so that goldens hold a recipe instead of audio.

Only `RandomState.random_sample`, whose stream numpy promises never to change, and exactly rounded operations are used.
"""

import numpy as np

SAMPLE_RATE = 16_000


def make_signal(kind, seconds, seed=0, level=0.5):
    """Return (n_samples,) float32 samples.

    Args:
        kind: noise, bursts (noise with random loudness, pauses included), steps (noise rounded to eighths, so that many
            windows are equally loud), quiet (noise of three 16-bit steps), constant, alternating, ramp or zeros.
        seconds: length; n_samples is this times 16000, rounded.
        seed: of the random kinds.
        level: peak.
    """
    n_samples = round(seconds * SAMPLE_RATE)
    noise = np.random.RandomState(seed).random_sample(n_samples if kind in _RANDOM_KINDS else 0) * 2 - 1
    if kind == "noise":
        samples = noise * level
    elif kind == "bursts":
        samples = noise * _gate(n_samples, seed + 1) * level
    elif kind == "steps":
        samples = np.round(noise * 8) / 8 * level
    elif kind == "quiet":
        samples = np.round(noise * 3) / 32768
    elif kind == "constant":
        samples = np.full(n_samples, level)
    elif kind == "alternating":
        samples = np.where(np.arange(n_samples) % 2 == 0, level, -level)
    elif kind == "ramp":
        samples = (np.arange(n_samples) % 65536) / 65536 * level
    elif kind == "zeros":
        samples = np.zeros(n_samples, dtype=np.float32)
    else:
        raise ValueError(f"unknown kind of signal: {kind}")
    return samples.astype(np.float32)


_RANDOM_KINDS = ("noise", "bursts", "steps", "quiet")


def _gate(n_samples, seed):
    """Return (n_samples,) loudness: stretches of 50 to 800 ms at one of five levels, silence among them."""
    random = np.random.RandomState(seed)
    gate = np.empty(n_samples)
    start = 0
    while start < n_samples:
        end = start + 800 + int(random.random_sample() * 12_000)
        gate[start:end] = (0.0, 0.001, 0.1, 0.5, 1.0)[int(random.random_sample() * 5)]
        start = end
    return gate
