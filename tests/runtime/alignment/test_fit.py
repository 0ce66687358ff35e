"""What speaks against a text: words without a place, sound without words; nothing in what is right."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_asr_onnx.alignment.fit import flag_mismatch, median_probability, why_mismatched
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.results import Word, WordFlag


def sound(*spans: tuple[float, float], total_s: float = 10.0) -> Waveform:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 1e-3, round(total_s * SAMPLE_RATE))
    for start_s, end_s in spans:
        part = slice(round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE))
        audio[part] += rng.normal(0, 0.1, audio[part].size)
    return audio.astype(np.float32)


def words(*spans: tuple[float, float], probability: float = 0.9, flags: tuple[WordFlag, ...] = ()) -> tuple[Word, ...]:
    return tuple(Word("word", start_s, end_s, probability, flags) for start_s, end_s in spans)


SPANS = [(1.0, 1.4), (1.5, 2.0), (2.1, 2.9), (6.0, 6.8)]


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_text_that_fits(offset: float) -> None:
    audio = sound(*SPANS) + np.float32(offset)
    right = words(*SPANS)
    assert why_mismatched(right, audio) is None
    assert flag_mismatch(right, audio) is right
    one_squeezed = (*right[:3], *words(SPANS[3], flags=("zero_length",)))
    assert why_mismatched(one_squeezed, audio) is None
    assert why_mismatched((), audio) is None


def test_a_text_that_is_too_long() -> None:
    squeezed = (*words(*SPANS[:2]), *words((2.0, 2.0), (2.0, 2.0), flags=("plateau",)))
    assert why_mismatched(squeezed, sound(*SPANS)) == "2 of 4 words have no place of their own"


def test_a_text_that_is_too_short() -> None:
    reason = why_mismatched(words(SPANS[0]), sound(*SPANS))
    assert reason is not None
    assert reason.endswith("% of the sound lies outside its words")


def test_a_text_that_the_model_does_not_believe() -> None:
    doubted = words(*SPANS, probability=0.2)
    flagged = flag_mismatch(doubted, sound(*SPANS))
    assert why_mismatched(doubted, sound(*SPANS)) == "4 of 4 words are improbable where they were put"
    assert all(word.flags == ("text_mismatch",) for word in flagged)
    assert median_probability(doubted) == 0.2
    assert median_probability(()) == 0.0


def test_nobody_speaks() -> None:
    assert why_mismatched(words(*SPANS), sound() * np.float32(0.1)) == "the audio is nearly silent"
