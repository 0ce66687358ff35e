"""Whatever the text and the times: no text lost or reordered, no overlap, lines within their limits."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import accumulate, cycle, islice, pairwise
from typing import Any, TypeAlias

import pytest

from qwen3_asr_onnx.outputs.cues import SubtitleStyle, cues
from qwen3_asr_onnx.outputs.writers import to_srt, to_vtt
from qwen3_asr_onnx.results import Segment, Transcript, Word
from qwen3_asr_onnx.text.scripts import column_width

hypothesis = pytest.importorskip("hypothesis", reason="needs the dev extra")
st = pytest.importorskip("hypothesis.strategies")


def units_of(text: str) -> list[tuple[int, str]]:
    """Return what an aligner would time, and where it stands: words without punctuation, Chinese by character."""
    found = re.finditer(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+", text)
    kept = ((match.start(), "".join(c for c in match.group() if c.isalnum() or c == "'")) for match in found)
    return [(start, unit) for start, unit in kept if unit]


Piece: TypeAlias = "tuple[float, float, str, tuple[Word, ...] | None]"


def make_transcript(pieces: Sequence[Piece]) -> Transcript:
    segments = tuple(Segment(*piece[:3], "English", (1,), "eos", -0.25, words=piece[3]) for piece in pieces)
    text = " ".join(segment.text for segment in segments)
    duration_s = segments[-1].end_s if segments else 0.0
    return Transcript(text, "English", duration_s, segments, None, (), "eos", -0.25)


# fmt: off
WORDS = st.sampled_from([
    *("a", "the", "Hello,", "world!", "\"Go", "(now)!\"", "—", "-", "...", "3.14", "O'Neil’s", "well-known", "¿Qué?"),
    *("«", "»", "Dr.", "--->", "<i>", "&amp;", "'", "x_y", "e\u0301te\u0301", "antidisestablishment", "x" * 100),
    *("\u00a0", "\u200b", "\u2028", "\ufeff", "http://example.org/a/very/long/path?with=query&more=1"),
    *("你好，世界。", "“你好”，（我）说。", "我觉得iPhone手机很好用", "今天天气很好我们去公园散步吧你觉得怎么样"),
    *("「かなカナー」っ々。", "ハードディスクドライブ", "오늘은", "날씨가", "\u1112\u1161\u11ab", "漢" * 90),
    *("ภาษาไทยเขียนติดกันไม่มีช่องว่างระหว่างคำ", "हिन्दी", "שלום", "مرحبا؟", "é\u0301" * 90),
    *("👩\u200d👩\u200d👧", "👍🏽" * 12, "🇩🇪🇫🇷🇯🇵" * 6),
])
# fmt: on
TEXTS = st.lists(st.one_of(WORDS, WORDS, WORDS, st.text(min_size=1, max_size=6)), min_size=1, max_size=20).map(" ".join)
STYLES = st.builds(
    SubtitleStyle,
    max_line_width=st.integers(16, 60),
    max_lines=st.integers(1, 3),
    confidence=st.booleans(),
    words=st.sampled_from(["off", "karaoke", "cues"]),
)


def draw_transcript(draw: Any) -> Transcript:
    """Return segments whose words have ordered times, as the aligner gives them, or any times at all."""
    pieces: list[Piece] = []
    start_s = 0.0
    for text in draw(st.lists(TEXTS, max_size=4)):
        units = units_of(text)
        steps = draw(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=7))
        times = [start_s, *accumulate(islice(cycle(steps), 2 * len(units)), initial=start_s)]
        if draw(st.integers(0, 9)) == 0:
            times.reverse()
        words = tuple(
            Word(unit, times[2 * n], times[2 * n + 1], start_char=start) for n, (start, unit) in enumerate(units)
        )
        end_s = max(times) + 0.5
        pieces.append((start_s, end_s, text, words))
        start_s = end_s
    return make_transcript(pieces)


def check(told: Transcript, style: SubtitleStyle) -> None:
    made = cues(told, style)
    shown = "".join("".join("".join(cue.text_lines).split()) for cue in made)
    assert shown == "".join("".join(segment.text.split()) for segment in told.segments)
    assert all(0 <= cue.start_ms < cue.end_ms for cue in made)
    assert all(left.end_ms <= right.start_ms for left, right in pairwise(made))
    room = style.max_line_width - (7 if style.confidence else 0)
    for cue in (cue for cue in made if cue.measured or cue.estimated):
        assert len(cue.lines) <= style.max_lines
        assert column_width(cue.text_lines[0]) <= room
        assert all(0 < column_width(line) <= style.max_line_width for line in cue.text_lines[1:])
    for cue, next_start in zip(made, [*(later.start_ms for later in made[1:]), math.inf], strict=False):
        parts = [part for line in cue.lines for part in line]
        assert cue.start_ms >= max(0, round(parts[0].start_s * 1000))
        assert cue.end_ms >= min(round(max(part.end_s for part in parts) * 1000), next_start)
    assert to_srt(told, style).count(" --> ") == len(made)
    for block in to_vtt(told, style).split("\n\n")[1:]:
        clocks = re.findall(r"(?<![\d:])\d{2,}:\d\d:\d\d\.\d{3}(?= |>|\n)", block)
        if "-->" in block:
            first, last, *inside = clocks
            assert sorted({first, *inside, last}) == [first, *inside, last]


def test_nothing_is_lost_and_limits_hold() -> None:
    given = hypothesis.given(st.composite(draw_transcript)(), STYLES)
    hypothesis.settings(max_examples=100, deadline=None, database=None, derandomize=True)(given(check))()


def test_estimates_lose_nothing_either() -> None:
    def check_estimate(text: str, seconds: float, width: int) -> None:
        told = make_transcript([(2.0, 2.0 + seconds, text, None)])
        check(told, SubtitleStyle(estimate=True, max_line_width=width))

    given = hypothesis.given(TEXTS, st.floats(0.0, 60.0), st.integers(16, 60))
    hypothesis.settings(max_examples=40, deadline=None, database=None, derandomize=True)(given(check_estimate))()
