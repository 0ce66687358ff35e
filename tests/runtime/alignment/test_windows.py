"""How long audio and its transcript are divided: every word once, in order, and no window over the limits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_asr_onnx.alignment.times import Span
from qwen3_asr_onnx.alignment.windows import WindowLimits, choose_window, settled_words
from qwen3_asr_onnx.errors import LimitError

SECOND = 16_000
LIMITS = WindowLimits(180 * SECOND, 8_000, SECOND, 13)


def test_what_fits_is_one_window() -> None:
    window = choose_window(170 * SECOND, [4] * 400, LIMITS)
    assert (window.n_samples, window.n_units, window.last) == (170 * SECOND, 400, True)


def test_longer_audio_gets_a_window_with_more_words_than_its_share() -> None:
    window = choose_window(1800 * SECOND, [4] * 4000, LIMITS)
    assert (window.n_samples, window.last) == (180 * SECOND, False)
    assert 400 < window.n_units <= 650


def test_dense_text_shortens_the_window_instead_of_being_refused() -> None:
    window = choose_window(180 * SECOND, [4] * 3000, LIMITS)
    assert not window.last
    assert window.n_samples < 180 * SECOND
    assert 4 * window.n_units <= LIMITS.positions_left(window.n_samples)


def test_more_words_than_positions_are_refused_with_the_numbers() -> None:
    with pytest.raises(LimitError, match=r"9000 words for 10\.0 s of audio.*8000 positions"):
        choose_window(10 * SECOND, [3] * 9000, LIMITS)


@settings(max_examples=50)
@given(st.integers(1, 4000), st.lists(st.integers(3, 12), max_size=600))
def test_windows_keep_the_limits(seconds: int, costs: list[int]) -> None:
    try:
        window = choose_window(seconds * SECOND, costs, LIMITS)
    except LimitError:
        return
    assert 0 < window.n_samples <= LIMITS.samples
    assert sum(costs[: window.n_units]) <= LIMITS.positions_left(window.n_samples)
    assert window.last == (window.n_samples == seconds * SECOND and window.n_units == len(costs))


def spans(*times: tuple[int, int]) -> list[Span]:
    return [Span(start, end) for start, end in times]


def test_the_border_is_the_longest_pause_of_the_second_half() -> None:
    found = settled_words(
        spans((0, 500), (3000, 6000), (6100, 7000), (7900, 8000), (8100, 8200), (9990, 10_000)), 10_000
    )
    assert found == (3, 7450)


def test_words_cut_by_the_end_are_left_for_the_next_window() -> None:
    count, border_ms = settled_words(spans((0, 4000), (4100, 6000), (6200, 9600), (9600, 10_000)), 10_000)
    assert (count, border_ms) == (2, 6100)


def test_a_window_that_ends_early_is_settled_to_its_last_pause() -> None:
    assert settled_words(spans((0, 500), (600, 900), (9900, 10_000)), 10_000) == (1, 550)


def test_a_window_without_a_settled_word_still_moves_on() -> None:
    assert settled_words(spans((9800, 9900), (9900, 10_000)), 10_000) == (0, 8800)
    assert settled_words(spans((100, 9900), (9950, 10_000)), 10_000) == (0, 5000)
