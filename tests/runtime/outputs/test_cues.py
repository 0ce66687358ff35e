"""How transcripts are cut into cues: nothing lost, limits kept, times as measured."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.cues import Cue, SubtitleStyle, WordDisplay, cues
from qwen3_asr_onnx.outputs.writers import to_json, to_srt, to_vtt, writers
from qwen3_asr_onnx.results import Phrase, Segment, Transcript, Word
from qwen3_asr_onnx.text.scripts import column_width

SECONDS_PER_LETTER = 0.08


def spoken(text: str, start_s: float = 0.0, pauses: dict[str, float] | None = None) -> list[Word]:
    """Return the words of a text as an aligner gives them: letters only, Chinese by character, at an even speed.

    `pauses` maps a word to the seconds of silence after it.
    """
    words = []
    for match in re.finditer(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+", text):
        unit = "".join(char for char in match.group() if char.isalnum() or char == "'")
        if not unit:
            continue
        end_s = start_s + SECONDS_PER_LETTER * (len(unit) + 1)
        words.append(Word(unit, round(start_s, 3), round(end_s, 3), start_char=match.start()))
        start_s = end_s + (pauses or {}).get(unit, 0.0)
    return words


def transcript(
    *segments: tuple[float, float, str],
    words: Sequence[Word] | None = None,
    words_of: Sequence[Sequence[Word]] | None = None,
    logprob: float = -0.25,
) -> Transcript:
    """Return a transcript; `words` are those of its only segment, `words_of` those of each."""
    given = words_of if words_of is not None else [words] * len(segments)
    pieces = tuple(
        Segment(start, end, text, "English", (1,), "eos", logprob, words=None if own is None else tuple(own))
        for (start, end, text), own in zip(segments, given, strict=True)
    )
    text = " ".join(piece.text for piece in pieces)
    timed = tuple(word for piece in pieces for word in piece.words or ())
    duration_s = pieces[-1].end_s if pieces else 0.0
    return Transcript(text, "English", duration_s, pieces, timed or None, (1,), "eos", logprob)


def timed(text: str, **arguments: Any) -> Transcript:
    words = spoken(text, **arguments)
    return transcript((0.0, words[-1].end_s + 5.0, text), words=words)


def phrased(*phrases: tuple[str, float, float]) -> Transcript:
    """Return a transcript of one segment of 9 s, without word times and with the phrases."""
    told = transcript((0.0, 9.0, " ".join(text for text, _, _ in phrases)))
    (segment,) = told.segments
    made = tuple(Phrase(text, start_s, end_s) for text, start_s, end_s in phrases)
    return replace(told, segments=(replace(segment, phrases=made),))


def lines(made: Sequence[Cue]) -> list[tuple[str, ...]]:
    return [cue.text_lines for cue in made]


def joined(made: Sequence[Cue]) -> str:
    return "".join("".join("".join(cue.text_lines).split()) for cue in made)


def test_cues_end_with_sentences() -> None:
    text = "We went to the market early this morning. The rain had stopped at last! Did anyone call me today?"
    assert lines(cues(timed(text))) == [
        ("We went to the market early this morning.",),
        ("The rain had stopped at last!",),
        ("Did anyone call me today?",),
    ]


def test_a_short_sentence_joins_its_neighbour() -> None:
    assert lines(cues(timed("Yes. I know."))) == [("Yes. I know.",)]


def test_a_long_sentence_is_cut_at_a_comma_and_its_lines_are_balanced() -> None:
    text = (
        "When the old station clock struck twelve for the very last time, "
        "nobody on the crowded platform looked up from their newspapers"
    )
    made = cues(timed(text))
    assert lines(made) == [
        ("When the old station clock struck", "twelve for the very last time,"),
        ("nobody on the crowded platform", "looked up from their newspapers"),
    ]


def test_a_pause_ends_a_cue() -> None:
    made = cues(timed("one two three four", pauses={"two": 1.2}))
    assert lines(made) == [("one two",), ("three four",)]
    assert made[0].end_ms < made[1].start_ms


def test_a_cue_begins_and_ends_with_its_words_and_stays_where_there_is_room() -> None:
    words = [Word("Stop", 1.04, 1.28), Word("Now", 9.2, 9.36)]
    made = cues(transcript((0.0, 9.7, "Stop. Now!"), words=words))
    # 0.24 s cannot be read: one second is the least, where nothing follows. The audio ends 0.5 s after "Now" begins.
    assert [(cue.start_ms, cue.end_ms) for cue in made] == [(1040, 2040), (9200, 9700)]


def test_a_fast_cue_stays_until_it_can_be_read() -> None:
    text = "a very quickly spoken sentence indeed"
    words = [Word(word, 0.1 * n, 0.1 * (n + 1)) for n, word in enumerate(text.split())]
    (cue,) = cues(transcript((0.0, 30.0, text), words=words))
    assert cue.end_ms == pytest.approx(len(text) / 20 * 1000, abs=1)


def test_a_gap_that_would_flicker_is_closed() -> None:
    words = [Word("First", 0.0, 2.0), Word("Second", 2.16, 4.0)]
    style = SubtitleStyle(pause_s=0.1)
    made = cues(transcript((0.0, 4.0, "First. Second."), words=words), style)
    assert [(cue.start_ms, cue.end_ms) for cue in made] == [(0, 2160), (2160, 4000)]


def test_chinese_takes_two_columns_a_character_and_no_mark_begins_a_line() -> None:
    text = "今天天气很好，我们去公园散步吧。" * 6
    made = cues(timed(text))
    assert joined(made) == text
    for cue in made:
        assert len(cue.lines) <= 2
        for line in cue.text_lines:
            assert len(line) <= 21
            assert line[0] not in "，。"
    assert all(cue.text_lines[-1][-1] in "，。" for cue in made)


def test_latin_words_inside_chinese_stay_whole() -> None:
    text = "我觉得iPhone手机非常好用，但是价格太高了，很多人买不起。" * 3
    for line in (line for cue in cues(timed(text)) for line in cue.text_lines):
        assert len(re.findall("iPhone", line)) == len(re.findall(r"[A-Za-z]+", line))


def test_korean_is_cut_at_spaces_only() -> None:
    text = "오늘은 날씨가 아주 좋습니다 그래서 우리는 공원에 가서 산책을 하고 점심을 먹었습니다"
    units = ["오늘", "은", "날씨", "가", "아주", "좋습니다", "그래서", "우리", "는", "공원", "에", "가서", "산책", "을"]
    units += ["하고", "점심", "을", "먹었습니다"]
    words = [Word(unit, 0.3 * n, 0.3 * (n + 1)) for n, unit in enumerate(units)]
    made = cues(transcript((0.0, 9.0, text), words=words))
    assert [word for cue in made for line in cue.text_lines for word in line.split()] == text.split()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ('He said, "Go (now)!" — twice.', ["He", "said,", '"Go', '(now)!" —', "twice."]),
        ("¿Qué? «Bien» «Muy bien»", ["¿Qué?", "«Bien»", "«Muy", "bien»"]),
        ("well-known 3.14 O'Neil’s", ["well-known", "3.14", "O'Neil’s"]),
        ("- oui ; non !", ["- oui ;", "non !"]),
        ("“你好”，（我）说。", ["“你", "好”，", "（我）", "说。"]),
        ("  a \n\n b\t", ["a", "b"]),
    ],
)
def test_punctuation_goes_with_its_word(text: str, pieces: list[str]) -> None:
    style = SubtitleStyle(words="cues")
    assert lines(cues(timed(text), style)) == [(piece,) for piece in pieces]


def test_an_abbreviation_ends_no_sentence() -> None:
    text = "Yesterday evening we finally met Dr. Johnson and his very large family from J. R. Street"
    assert not any(cue.text_lines[-1].endswith(("Dr.", "J.")) for cue in cues(timed(text)))


def test_words_are_found_whether_they_carry_punctuation_or_not() -> None:
    text = "Hello, world! It's 5 o'clock."
    bare = [Word(unit, n, n + 0.5) for n, unit in enumerate(["Hello", "world", "It's", "5", "o'clock"])]
    full = [Word(unit, n, n + 0.5) for n, unit in enumerate(["Hello,", "world!", "It's", "5", "o'clock."])]
    style = SubtitleStyle(words="cues")
    made = [cues(transcript((0.0, 5.0, text), words=words), style) for words in (bare, full)]
    assert made[0] == made[1]
    assert [cue.start_ms for cue in made[0]] == [0, 1000, 2000, 3000, 4000]


def test_a_word_stands_where_it_says() -> None:
    text = "so, so and so"
    words = [Word("so", n, n + 0.5, start_char=place) for n, place in enumerate((0, 4, 11))]
    made = [cues(transcript((0.0, 5.0, text), words=kept), SubtitleStyle(words="cues")) for kept in (words, words[::2])]
    assert lines(made[0]) == [("so,",), ("so and",), ("so",)]
    assert lines(made[1]) == [("so, so and",), ("so",)]
    assert "start_char" not in to_json(transcript((0.0, 5.0, text), words=words))


def test_words_that_do_not_fit_the_text_lose_nothing_of_it() -> None:
    words = [Word("alpha", 0.0, 0.5), Word("wrong", 0.5, 1.0), Word("gamma", 1.0, 1.5), Word("'", 1.5, 1.6)]
    made = cues(transcript((0.0, 2.0, "alpha beta gamma delta"), words=words))
    assert joined(made) == "alphabetagammadelta"


def test_a_segment_without_letters_stays_between_its_neighbours() -> None:
    words_of = [[Word("So", 0.0, 0.4), Word("So", 9.6, 10.0)], [], [Word("So", 10.0, 10.5), Word("long", 10.5, 11.0)]]
    made = cues(transcript((0.0, 10.0, "So. So!"), (10.0, 20.0, "..."), (10.0, 20.0, "So long."), words_of=words_of))
    assert [(cue.start_ms, *cue.text_lines) for cue in made] == [
        (0, "So."),
        (9600, "So!"),
        (10000, "..."),
        (10001, "So long."),
    ]


def test_without_an_estimate_a_segment_is_one_cue_with_its_own_times_in_lines_that_fit() -> None:
    text = "A long sentence that goes on and on. " * 20
    told = transcript((3.0, 40.0, text))
    (cue,) = cues(told, SubtitleStyle(estimate=False, max_line_width=30))
    assert (cue.start_ms, cue.end_ms, cue.estimated) == (3000, 40000, False)
    assert " ".join(cue.text_lines) == text.strip()
    assert 20 < max(map(len, cue.text_lines)) <= 30
    assert "NOTE" not in to_vtt(told, SubtitleStyle(estimate=False))


def test_a_whole_segment_keeps_its_own_lines_and_leaves_room_for_its_confidence() -> None:
    told = transcript((0.0, 9.0, "One two three four.\n\n...\nFive."))
    (cue,) = cues(told, SubtitleStyle(estimate=False, max_line_width=18 + len("[100%] "), confidence=True))
    assert cue.text_lines == ("One two three", "four.", "...", "Five.")


def test_times_are_estimated_without_word_times_and_the_cues_say_so() -> None:
    text = "A long sentence that goes on and on. " * 20
    measured = "Just this"
    told = transcript((0.0, 40.0, text), (40.0, 42.0, measured), words_of=[[], spoken(measured, 40.0)])
    made = cues(told)
    assert [cue.estimated for cue in made] == [True] * (len(made) - 1) + [False]
    assert len(made) > 10
    assert joined(made) == "".join((text + measured).split())
    assert "NOTE\nTimes are estimated" in to_vtt(told)
    assert "NOTE" not in to_vtt(transcript((40.0, 42.0, measured), words=spoken(measured, 40.0)))


def test_phrases_say_when_an_estimated_cue_begins_and_ends() -> None:
    told = phrased(("This is the first sentence of two.", 0.5, 2.5), ("And here is the second one!", 6.25, 8.0))
    made = cues(told, SubtitleStyle(min_duration_s=0.1, max_columns_per_s=1000.0))
    assert [(cue.start_ms, cue.end_ms, cue.estimated) for cue in made] == [(500, 2500, True), (6250, 8000, True)]
    assert [phrase["estimated"] for phrase in json.loads(to_json(told))["segments"][0]["phrases"]] == [True, True]


def test_phrases_of_another_text_have_no_say() -> None:
    told = phrased(("This is the first sentence of two.", 0.5, 2.5), ("And here is the second one!", 6.25, 8.0))
    (segment,) = told.segments
    changed = replace(told, segments=(replace(segment, text="Somebody wrote another text. It has two sentences."),))
    made = cues(changed)
    assert joined(made) == "Somebodywroteanothertext.Ithastwosentences."
    assert made[0].start_ms == 0


def test_karaoke_carries_the_time_of_every_word() -> None:
    words = [Word("One", 0.0, 0.4), Word("&", 0.4, 0.4), Word("two", 0.4, 0.8), Word("three", 0.4, 1.2)]
    words.append(Word("four", 1.28, 1.6))
    text = to_vtt(transcript((0.0, 5.0, "One & <two> three four."), words=words), SubtitleStyle(words="karaoke"))
    assert text == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.600\nOne &amp;<00:00:00.400> &lt;two&gt; three<00:00:01.280> four.\n"
    )


def test_word_display_without_word_times_is_refused() -> None:
    displays: tuple[WordDisplay, ...] = ("karaoke", "cues")
    for words in displays:
        style = SubtitleStyle(words=words)
        with pytest.raises(OptionsError, match="needs word times"):
            cues(transcript((0.0, 1.0, "hello")), style)
        assert cues(transcript((0.0, 1.0, "  ")), style) == ()


def test_a_word_of_no_length_is_still_shown() -> None:
    words = [Word("a", 0.4, 0.4), Word("b", 0.4, 0.4), Word("c", 2.0, 2.0)]
    made = cues(transcript((0.0, 3.0, "a b c"), words=words), SubtitleStyle(words="cues"))
    assert [(cue.start_ms, cue.end_ms) for cue in made] == [(400, 401), (401, 481), (2000, 2080)]


def test_confidence_is_shown_and_counts_as_width() -> None:
    text = "word " * 60
    told = timed(text.strip())
    style = SubtitleStyle(confidence=True)
    srt = to_srt(told, style)
    assert "\n[78%] word" in srt  # exp(-0.25)
    assert all(column_width(line) <= 42 for line in srt.splitlines() if "-->" not in line)
    assert "[78%]" in to_vtt(told, style)
    assert "%" not in to_srt(told)
    assert "[100%] " in to_srt(transcript((0.0, 1.0, "x"), logprob=0.0), style)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_line_width": 15}, "max_line_width is 15; give at least 16"),
        ({"max_lines": 0}, "max_lines is 0"),
        ({"max_columns_per_s": 0.0}, "max_columns_per_s is 0.0"),
        ({"pause_s": float("nan")}, "pause_s is nan"),
        ({"max_duration_s": 0.5}, "is below min_duration_s"),
        ({"words": "all"}, "words is 'all'; choose off, karaoke or cues"),
    ],
)
def test_senseless_styles_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(message)):
        SubtitleStyle(**changes)


def test_writers_of_other_formats_ignore_the_style() -> None:
    told = timed("Hello there.")
    narrow = writers(SubtitleStyle(max_line_width=16))
    assert narrow["txt"](told) == "Hello there.\n"
    assert '"words"' in narrow["json"](told)
    assert narrow["tsv"](told).splitlines()[1].endswith("\tHello there.")
