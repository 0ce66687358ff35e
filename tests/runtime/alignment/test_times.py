"""Repair of word times: the official one against the official package, ours by what it promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import load_golden

from qwen3_asr_onnx.alignment.times import Span, repair_order, settle


def test_order_is_repaired_like_the_official_package() -> None:
    golden = load_golden("official_alignment.json")["repair"]
    assert len(golden) >= 150
    for case in golden:
        assert repair_order(case["ms"]) == case["repaired"], case


def test_no_times_need_no_repair() -> None:
    assert repair_order([]) == []


def test_thousands_of_slots_are_repaired_at_once() -> None:
    times = [80 * i + (4000 if i % 7 == 0 else 0) for i in range(4000)]
    repaired = repair_order(times)
    assert repaired == sorted(repaired)


def settled(times: list[tuple[int, int]], duration_ms: int, *, move: bool = True) -> list[Span]:
    spans = [Span(start, end) for start, end in times]
    settle(spans, duration_ms, 80, move=move)
    return spans


def times(spans: list[Span]) -> list[tuple[int, int]]:
    return [(span.start_ms, span.end_ms) for span in spans]


def test_good_times_stay() -> None:
    spans = settled([(0, 160), (160, 400), (480, 560)], 600)
    assert times(spans) == [(0, 160), (160, 400), (480, 560)]
    assert not any(span.flags for span in spans)


def test_a_word_of_no_length_gets_the_free_time_around_it() -> None:
    spans = settled([(0, 160), (400, 400), (800, 880)], 1000)
    assert times(spans) == [(0, 160), (360, 440), (800, 880)]
    assert [span.flags for span in spans] == [set(), {"zero_length"}, set()]


def test_neighbours_lend_time_where_none_is_free() -> None:
    spans = settled([(0, 400), (400, 400), (400, 480)], 1000)
    assert times(spans) == [(0, 360), (360, 440), (440, 480)]


def test_many_words_at_one_moment_are_a_plateau_and_are_spread() -> None:
    spans = settled([(0, 400), *[(800, 800)] * 4, (2000, 2080)], 3000)
    assert times(spans)[1:5] == [(640, 720), (720, 800), (800, 880), (880, 960)]
    assert all(span.flags == {"plateau"} for span in spans[1:5])


def test_words_beyond_the_end_come_back() -> None:
    spans = settled([(0, 400), (960, 1120), (1600, 1680)], 1000)
    assert times(spans) == [(0, 400), (960, 980), (980, 1000)]
    assert "beyond_end" in spans[1].flags
    assert "beyond_end" in spans[2].flags


def test_a_step_over_the_end_is_rounding() -> None:
    spans = settled([(0, 1040)], 1000)
    assert times(spans) == [(0, 1000)]
    assert not spans[0].flags


def test_flags_alone_move_nothing() -> None:
    given = [(0, 400), (400, 400), (1600, 1680)]
    spans = settled(given, 1000, move=False)
    assert times(spans) == given
    assert [span.flags for span in spans] == [set(), {"zero_length"}, {"beyond_end", "zero_length"}]


def test_no_room_at_all_is_flagged_and_stays_in_order() -> None:
    spans = settled([(0, 0)] * 5, 0)
    assert times(spans) == [(0, 0)] * 5
    assert all("plateau" in span.flags for span in spans)


@given(st.lists(st.integers(0, 40), max_size=30).filter(lambda values: len(values) % 2 == 0), st.integers(0, 3000))
def test_settled_times_are_ordered_and_inside(steps: list[int], duration_ms: int) -> None:
    flat = [80 * value for value in sorted(steps)]
    spans = settled(list(zip(flat[::2], flat[1::2], strict=True)), duration_ms)
    bounds = [value for span in times(spans) for value in span]
    assert bounds == sorted(bounds)
    assert all(0 <= value <= duration_ms for value in bounds)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_are_no_plateau(count: int) -> None:
    assert all(span.flags == {"zero_length"} for span in settled([(400, 400)] * count, 1000))
