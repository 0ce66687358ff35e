"""Whether a text is what is said in an audio: aligned words and samples in, what speaks against it out.

An aligner gives every text times, and the probability of the times alone does not tell: of a wrong text of the right
length the miniature is as sure as of the right one (INVESTIGATION 029). What shows is a text of another length: words
without a place of their own, or speech without words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.results import Word
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES, SpeechBand, is_near_silent

from .times import IMPROBABLE

__all__ = ["flag_mismatch", "median_probability", "why_mismatched"]

DISPLACED_SHARE = 0.5
"""Of the words, from which on the text is too long for the audio. Right texts of the miniature: 0 to 0.25."""

SPOKEN_SHARE = 0.4
"""Of the sound, under which the text is too short for the audio. Right texts of the miniature: 0.76 to 1."""

DISPLACED = frozenset({"out_of_order", "beyond_end", "plateau", "zero_length"})

_LOUD = 10 ** (-30 / 10)
"""Sound is what comes within 30 dB of the loudest moments: speech without the noise behind it."""

_SLACK_S = 0.05
"""By how much a word may be longer than its times say."""


def median_probability(words: Sequence[Word]) -> float:
    """Return the median over the words; 0.0 for none."""
    return median([word.probability or 0.0 for word in words]) if words else 0.0


def why_mismatched(words: Sequence[Word], waveform: Waveform) -> str | None:
    """Return what speaks against the text, None if nothing does.

    Args:
        words: aligned, with their flags.
        waveform: (n_samples,) float32, mono, 16 kHz: the audio they were aligned with.
    """
    if not words:
        return None
    if is_near_silent(waveform):
        return "the audio is nearly silent"
    n_displaced = sum(not DISPLACED.isdisjoint(word.flags) for word in words)
    if n_displaced >= DISPLACED_SHARE * len(words):
        return f"{n_displaced} of {len(words)} words have no place of their own"
    n_improbable = sum((word.probability or 0.0) < IMPROBABLE for word in words)
    if 2 * n_improbable >= len(words):
        return f"{n_improbable} of {len(words)} words are improbable where they were put"
    share = _spoken_share(words, waveform)
    if share < SPOKEN_SHARE:
        return f"{1 - share:.0%} of the sound lies outside its words"
    return None


def flag_mismatch(words: tuple[Word, ...], waveform: Waveform) -> tuple[Word, ...]:
    """Return the words, flagged if their text does not seem to be what is said; arguments as `why_mismatched`."""
    if why_mismatched(words, waveform) is None:
        return words
    return tuple(replace(word, flags=(*word.flags, "text_mismatch")) for word in words)


def _spoken_share(words: Sequence[Word], waveform: Waveform) -> float:
    """Return how much of the sound lies inside the words."""
    frames = np.pad(waveform, (0, -waveform.size % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    powers = np.square(SpeechBand().push(frames)).mean(axis=1)
    sounding = powers > _LOUD * np.quantile(powers, 0.98)
    inside = np.zeros(len(frames), dtype=np.bool_)
    frame_s = FRAME_SAMPLES / SAMPLE_RATE
    for word in words:
        inside[max(0, round((word.start_s - _SLACK_S) / frame_s)) : round((word.end_s + _SLACK_S) / frame_s)] = True
    return float((sounding & inside).sum() / max(1, sounding.sum()))
