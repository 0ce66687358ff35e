"""Music made by numpy: melodies, chords, drums and sung vowels, without a word in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["music"]

RATE = 16_000
Floats = npt.NDArray[np.float64]


def music(seconds: int = 6, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return pieces by name, each (n_samples,) float32 at 16 kHz with a peak of 0.3."""
    rng = np.random.default_rng(seed)
    melody, chords, drums, vowels = (make(rng, seconds) for make in (_melody, _chords, _drums, _vowels))
    pieces = {
        "melody": melody,
        "chords": chords,
        "drums": drums,
        "vowels": vowels,
        "band": melody + chords + drums,
        "band and singer": melody + chords + drums + 2 * vowels,
    }
    return {name: (0.3 * piece / np.abs(piece).max()).astype(np.float32) for name, piece in pieces.items()}


def _note(hz: float, seconds: float, decay_s: float) -> Floats:
    t = np.arange(round(seconds * RATE)) / RATE
    tone = sum((np.sin(2 * np.pi * hz * k * t) / k**1.5 for k in range(1, 6)), np.zeros(t.size))
    return tone * np.minimum(1, t / 0.01) * np.exp(-t / decay_s)


def _add(piece: Floats, part: Floats, at_s: float) -> None:
    start = round(at_s * RATE)
    piece[start : start + part.size] += part[: max(0, piece.size - start)]


def _melody(rng: np.random.Generator, seconds: int) -> Floats:
    piece, at_s = np.zeros(seconds * RATE), 0.0
    while at_s < seconds:
        _add(piece, _note(220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12), 0.6, 0.5), at_s)
        at_s += rng.choice([0.25, 0.5])
    return piece


def _chords(rng: np.random.Generator, seconds: int) -> Floats:
    piece = np.zeros(seconds * RATE)
    for at_s in range(0, seconds, 2):
        root = 110 * 2 ** (rng.choice([0, 5, 7, 9]) / 12)
        for interval in (1, 1.26, 1.5, 2):
            _add(piece, _note(root * interval, 2, 1.5), at_s)
    return piece


def _drums(rng: np.random.Generator, seconds: int) -> Floats:
    piece, t = np.zeros(seconds * RATE), np.arange(round(0.2 * RATE)) / RATE
    for beat in range(4 * seconds):
        part = 0.3 * rng.standard_normal(t.size) * np.exp(-60 * t)
        if beat % 4 == 0:
            part += 2 * np.sin(2 * np.pi * (50 + 80 * np.exp(-30 * t)) * t) * np.exp(-15 * t)
        if beat % 4 == 2:
            part += rng.standard_normal(t.size) * np.exp(-20 * t)
        _add(piece, part, beat / 4)
    return piece


def _vowels(_: np.random.Generator, seconds: int) -> Floats:
    """Return what a singer makes of one vowel: harmonics of a pitch that moves, through three formants."""
    t = np.arange(seconds * RATE) / RATE
    hz = 196 * 2 ** (np.round(2 * np.sin(0.7 * t)) / 12) * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * t))
    phase, piece = 2 * np.pi * np.cumsum(hz) / RATE, np.zeros(t.size)
    for k in range(1, 18):
        gain = sum(np.exp(-(((220 * k - formant) / width) ** 2)) for formant, width in ((700, 150), (1200, 200)))
        piece += np.sin(k * phase) * (gain + 0.02)
    return piece * (0.6 + 0.4 * np.sin(2 * np.pi * 0.25 * t))
