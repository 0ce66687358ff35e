from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from qwen3_asr_onnx.outputs.growing import GrowingText, timed_line
from qwen3_asr_onnx.outputs.writers import to_txt, writers
from qwen3_asr_onnx.results import Segment, Transcript
from qwen3_asr_onnx.text.answer import join_texts

PIECES = (
    ("Hello there.", "English"),
    ("", ""),
    ("  ", "English"),
    (" spaced out ", "English"),
    ("你好", "Chinese"),
    ("\u3000全角\u3000", "Chinese"),
    ("two\nlines\n", "English"),
)


def segments_of(pieces: Sequence[tuple[str, str]]) -> tuple[Segment, ...]:
    return tuple(
        Segment(25.0 * i, 25.0 * i + 24.96, text, language, (1,), "eos", -0.1)
        for i, (text, language) in enumerate(pieces)
    )


def transcript_of(segments: tuple[Segment, ...]) -> Transcript:
    text = join_texts([(segment.text, segment.language) for segment in segments])
    return Transcript(text, "", 9.0, segments, None, (), "eos", 0.0)


@pytest.mark.parametrize("times", [False, True])
def test_what_grows_is_what_is_written_at_once(times: bool) -> None:
    for n in range(4):
        for pieces in itertools.product(PIECES, repeat=n):
            segments = segments_of(pieces)
            growing = GrowingText(times=times)
            grown = "".join(growing.add(segment) for segment in segments)
            whole = to_txt(transcript_of(segments), times=times)
            assert whole == (f"{grown}\n" if grown and not times else grown), pieces
            assert whole == writers(times=times)["txt"](transcript_of(segments))


def test_a_segment_is_shown_when_it_is_added() -> None:
    growing = GrowingText()
    first, second = segments_of([("Hello there.", "English"), ("Good bye.", "English")])
    assert [growing.add(first), growing.add(second)] == ["Hello there.", " Good bye."]


@pytest.mark.parametrize(
    ("start_s", "end_s", "line"),
    [
        (0.0, 25.04, "[00:00.0 --> 00:25.0] x\n"),
        (25.0, 50.5, "[00:25.0 --> 00:50.5] x\n"),
        (59.96, 3599.94, "[01:00.0 --> 59:59.9] x\n"),
        (3599.96, 3600.0, "[01:00:00.0 --> 01:00:00.0] x\n"),
        (359_999.0, 360_000.0, "[99:59:59.0 --> 100:00:00.0] x\n"),
    ],
)
def test_times_have_hours_when_they_need_them(start_s: float, end_s: float, line: str) -> None:
    assert timed_line(Segment(start_s, end_s, "x", "English", (1,), "eos", 0.0)) == line


def test_a_timed_segment_is_one_line_and_silence_none() -> None:
    lines = [timed_line(segment) for segment in segments_of([("a\nb\u2028c", "English"), (" \n", "")])]
    assert lines == ["[00:00.0 --> 00:25.0] a b c\n", ""]
