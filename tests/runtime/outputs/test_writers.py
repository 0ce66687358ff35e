from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest

from qwen3_asr_onnx.commands.subtitle_options import add_subtitle_arguments, subtitle_style
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.cues import SubtitleStyle
from qwen3_asr_onnx.outputs.writers import writers
from qwen3_asr_onnx.results import Segment, Transcript


def transcript(*pieces: tuple[float, float, str], **changes: Any) -> Transcript:
    segments = tuple(Segment(start, end, text, "English", (1, 2), "eos", -0.25) for start, end, text in pieces)
    fields: dict[str, Any] = {
        "text": " ".join(text for _, _, text in pieces),
        "language": "English",
        "duration_s": pieces[-1][1] if pieces else 0.0,
        "segments": segments,
        "words": None,
        "token_ids": (1, 2) * len(pieces),
        "stop_reason": "eos",
        "avg_logprob": -0.25,
    }
    return Transcript(**{**fields, **changes})


WRITERS = writers()
WHOLE = writers(SubtitleStyle(estimate=False))
TWO = transcript((0.0, 1.5, "Hello there."), (1.5, 3.25, "你好。"))
EMPTY = transcript(stop_reason="no_speech", language="")


def test_txt() -> None:
    assert WRITERS["txt"](TWO) == "Hello there. 你好。\n"


def test_srt() -> None:
    assert WRITERS["srt"](TWO) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n00:00:01,500 --> 00:00:03,250\n你好。\n"
    )


def test_vtt() -> None:
    note = "NOTE\nTimes are estimated from pauses and the length of the text, not measured.\n\n"
    estimated = WRITERS["vtt"](TWO)
    assert estimated.count(note) == 1
    assert estimated.replace(note, "") == WHOLE["vtt"](TWO)
    assert WHOLE["vtt"](TWO) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n00:00:01.500 --> 00:00:03.250\n你好。\n"
    )


def test_tsv() -> None:
    assert WRITERS["tsv"](TWO) == "start\tend\ttext\n0\t1500\tHello there.\n1500\t3250\t你好。\n"


def test_json_is_the_transcript_and_readable_by_people() -> None:
    text = WRITERS["json"](TWO)
    assert "你好" in text
    assert text.endswith("}\n")
    body = json.loads(text)
    assert body["text"] == TWO.text
    assert [segment["end_s"] for segment in body["segments"]] == [1.5, 3.25]
    assert body["token_ids"] == [1, 2, 1, 2]
    assert body["words"] is None


@pytest.mark.parametrize(
    ("name", "expected"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("tsv", "start\tend\ttext\n")]
)
@pytest.mark.parametrize("silence", [EMPTY, transcript((0.0, 2.0, ""), (2.0, 3.0, " \n "))], ids=["none", "blank"])
def test_silence_gives_a_valid_file_without_cues(name: str, expected: str, silence: Transcript) -> None:
    assert WRITERS[name](silence) == expected


def test_silence_in_json() -> None:
    assert json.loads(WRITERS["json"](EMPTY))["text"] == ""


def test_a_silent_segment_takes_no_cue_number() -> None:
    text = WRITERS["srt"](transcript((0, 1, "a"), (1, 2, ""), (2, 3, "b")))
    assert re.findall(r"^\d+$", text, flags=re.MULTILINE) == ["1", "2"]


@pytest.mark.parametrize("name", ["srt", "vtt"])
@pytest.mark.parametrize("break_", ["\n\n", "\r\n\r\n", "\n \n", "\r\r", "\u2028\u2028", "\n\n\n"])
def test_no_blank_line_ends_a_cue_early(name: str, break_: str) -> None:
    told = transcript((0, 1, f"\nfirst{break_}second\n"), (1, 2, "third"))
    for made, expected in ((WHOLE, "first\nsecond"), (WRITERS, "first second")):
        cues = [block for block in made[name](told).split("\n\n") if "-->" in block]
        assert len(cues) == 2
        assert cues[0].endswith(expected)


@pytest.mark.parametrize("name", ["srt", "vtt"])
@pytest.mark.parametrize("arrow", ["-->", "--->", "---->", "-->-->", "--\n>"])
def test_an_arrow_in_the_text_is_no_timing_line(name: str, arrow: str) -> None:
    text = WRITERS[name](transcript((0, 1, f"a {arrow} b")))
    assert text.count("-->") == 1


def test_srt_keeps_every_character_of_an_arrow() -> None:
    text = WRITERS["srt"](transcript((0, 1, "a ---> b")))
    assert "a --- > b\n" in text


def test_vtt_escapes_markup() -> None:
    assert "AT&amp;T &lt;i&gt; 1 &lt; 2\n" in WRITERS["vtt"](transcript((0, 1, "AT&T <i> 1 < 2")))
    assert "AT&T <i> 1 < 2\n" in WRITERS["srt"](transcript((0, 1, "AT&T <i> 1 < 2")))


def test_tsv_keeps_three_columns_and_one_line() -> None:
    rows = WRITERS["tsv"](transcript((0, 1, "a\tb\nc\r\nd\x0be"))).splitlines()
    assert rows == ["start\tend\ttext", "0\t1000\ta b c d e"]


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (0.0, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9999, "00:01:00,000"),
        (3599.9999, "01:00:00,000"),
        (99 * 3600 + 59 * 60 + 59.999, "99:59:59,999"),
        (100 * 3600.0, "100:00:00,000"),
        (1234 * 3600 + 0.001, "1234:00:00,001"),
    ],
)
def test_clock(seconds: float, clock: str) -> None:
    assert f"{clock} -->" in WRITERS["srt"](transcript((seconds, seconds + 5, "x")))


def test_times_are_clamped_and_never_go_back() -> None:
    text = WRITERS["tsv"](transcript((-0.5, 1, "a"), (2, 1, "b"), (1.5, 1.5, "c"), (1.9996, 2.0004, "d")))
    times = [tuple(map(int, row.split("\t")[:2])) for row in text.splitlines()[1:]]
    assert times[0] == (0, 1000)
    assert all(start < end for start, end in times)
    assert [start for start, _ in times] == sorted(start for start, _ in times)


def test_adjoining_segments_stay_adjoining() -> None:
    text = WRITERS["tsv"](transcript((0, 0.12345, "a"), (0.12345, 0.5, "b")))
    assert text.splitlines()[1:] == ["0\t123\ta", "123\t500\tb"]


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_subtitle_arguments(parser)
    return parser.parse_args(arguments)


def test_arguments_become_a_style() -> None:
    assert subtitle_style(parsed(), ["txt"], word_times=False) == SubtitleStyle()
    arguments = ["--max-line-width", "30", "--max-lines", "1", "--subtitle-words", "karaoke", "--subtitle-confidence"]
    style = subtitle_style(parsed(*arguments, "--no-estimate"), ["vtt", "txt"], word_times=True)
    assert style == SubtitleStyle(max_line_width=30, max_lines=1, words="karaoke", confidence=True, estimate=False)


@pytest.mark.parametrize(
    ("arguments", "formats", "word_times", "message"),
    [
        (["--max-line-width", "30"], ["txt", "json"], True, "shape srt and vtt; add --format srt"),
        (["--subtitle-words", "karaoke"], ["srt"], True, "is for WebVTT; add --format vtt"),
        (["--subtitle-words", "cues"], ["srt"], False, "--subtitle-words cues needs word times; add --timestamps word"),
        (["--max-lines", "9"], ["srt"], True, "max_lines is 9"),
    ],
)
def test_styles_without_a_meaning_are_refused(
    arguments: list[str], formats: list[str], word_times: bool, message: str
) -> None:
    with pytest.raises(OptionsError, match=message):
        subtitle_style(parsed(*arguments), formats, word_times=word_times)
