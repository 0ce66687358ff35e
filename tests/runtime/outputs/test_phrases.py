"""Estimated times of phrases: sentences end in pauses, clauses may, and what lies between is in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from tests.support.syllables import voiced

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.outputs.phrases import estimate_phrases
from qwen3_asr_onnx.results import Phrase

SECONDS_PER_LETTER = 0.06


def read(*parts: tuple[str, float], slowly: Sequence[str] = ()) -> tuple[np.ndarray, str, list[tuple[float, float]]]:
    """Return sound, text and true times of phrases, each read evenly and followed by so many seconds of silence.

    Those in `slowly` take half as long again.
    """
    now_s = 0.4
    times: list[tuple[float, float]] = []
    for text, pause_s in parts:
        length_s = SECONDS_PER_LETTER * len(text) * (1.5 if text in slowly else 1.0)
        times.append((now_s, now_s + length_s))
        now_s += length_s + pause_s
    text = " ".join(text for text, _ in parts)
    spoken = [(start, end) for start, end in times if end > start]
    return voiced(spoken, now_s + 0.3), text, times


def errors(found: Sequence[Phrase], times: Sequence[tuple[float, float]]) -> float:
    assert len(found) == len(times)
    return float(np.abs(np.array([(phrase.start_s, phrase.end_s) for phrase in found]) - np.array(times)).max())


def test_sentences_are_placed_at_the_pauses_though_the_speed_changes() -> None:
    slow = "We went to the market."
    sound, text, times = read(
        ("Hello.", 0.5), (slow, 0.3), ("Nobody was there today!", 0.7), ("Why?", 0.0), slowly=[slow]
    )
    found = estimate_phrases(sound, text, 0.0)
    assert [phrase.text for phrase in found] == ["Hello.", slow, "Nobody was there today!", "Why?"]
    assert errors(found, times) <= 0.05


def test_times_count_from_the_start_of_the_input() -> None:
    sound, text, times = read(("The first sentence.", 0.5), ("The second one.", 0.0))
    found = estimate_phrases(sound, text, 60.0)
    assert errors(found, [(start + 60.0, end + 60.0) for start, end in times]) <= 0.05


def test_a_sentence_without_a_pause_lies_in_proportion_between_those_that_have_one() -> None:
    sound, text, times = read(("It is raining here.", 0.0), ("Take an umbrella.", 0.6), ("Goodbye to all of you.", 0.0))
    found = estimate_phrases(sound, text, 0.0)
    assert errors(found, times) <= 0.15
    assert found[0].end_s == found[1].start_s


def test_a_pause_where_nothing_is_written_divides_a_sentence() -> None:
    sound, text, times = read(
        ("Well I wanted to say", 0.8), ("that it is raining.", 0.4), ("So take an umbrella.", 0.0)
    )
    assert errors(estimate_phrases(sound, text, 0.0), times) <= 0.05


def test_silences_that_belong_to_no_gap_are_passed_over() -> None:
    """A sentence that is missing in the text does not take the sentences after it along."""
    sound, _, times = read(("I am here.", 0.5), ("Unheard.", 0.5), ("Where are you going to now?", 0.4), ("Home.", 0.0))
    found = estimate_phrases(sound, "I am here. Where are you going to now? Home.", 0.0)
    assert errors(found[-1:], times[-1:]) <= 0.05
    assert found[-2].end_s == pytest.approx(times[-2][1], abs=0.05)


def test_marks_inside_words_and_abbreviations_end_nothing() -> None:
    sound, text, _ = read(("Dr. Smith paid 3.50 to the U.S. embassy, it seems.", 0.0))
    found = estimate_phrases(sound, text, 0.0)
    assert [phrase.text for phrase in found] == ["Dr. Smith paid 3.50 to the U.S. embassy,", "it seems."]


def test_scripts_without_spaces_are_divided_at_their_marks() -> None:
    parts = ("我们去市场，", "因为今天下雨。", "「好」。")
    sound, _, times = read(*((part, 0.4) for part in parts))
    found = estimate_phrases(sound, "".join(parts), 0.0)
    assert [phrase.text for phrase in found] == list(parts)
    assert errors(found, times) <= 0.05


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.5, 20.0])
@pytest.mark.parametrize("text", ["", "...", "a", "One. Two, three; four", '"Yes," he said - (never). 好。', "x" * 500])
def test_whatever_the_audio_no_text_is_lost_and_times_are_in_order(text: str, seconds: float) -> None:
    for level in (0.0, 0.1):
        sound = level * np.random.default_rng(1).standard_normal(int(seconds * SAMPLE_RATE))
        found = estimate_phrases(sound.astype(np.float32), text, 5.0)
        if any(char.isalnum() for char in text):
            assert "".join("".join(phrase.text.split()) for phrase in found) == "".join(text.split())
        edges = [5.0, *(edge for phrase in found for edge in (phrase.start_s, phrase.end_s)), 5.0 + seconds]
        assert all(left <= right + 1e-9 for left, right in pairwise(edges))


def test_long_audio_takes_time_in_proportion() -> None:
    """Earlier pairs are looked at as far back as matters: the time it takes does not grow with the square."""
    sentences = [f"This is sentence number {number} of many." for number in range(25)]
    sound, text, times = read(*((sentence, 0.3) for sentence in sentences))
    assert errors(estimate_phrases(sound, text, 0.0), times) <= 0.05
