"""Several channels in one output: who says what, in the order they speak."""

from __future__ import annotations

from qwen3_asr_onnx.outputs.cues import SubtitleStyle, cues
from qwen3_asr_onnx.outputs.writers import to_srt, to_tsv, to_txt, to_vtt
from qwen3_asr_onnx.results import Phrase, Segment, Transcript, Word


def said(channel: int, language: str, *phrases: tuple[str, float, float], timed: bool = False) -> Segment:
    joiner = "" if language == "Chinese" else " "
    text = joiner.join(text for text, _, _ in phrases)
    made = tuple(Phrase(*phrase) for phrase in phrases)
    words = None
    if timed:
        words = tuple(Word(word, start, end) for phrase, start, end in phrases for word in phrase.split())
    segment = Segment(0.0, 20.0, text, language, (1,), "eos", -0.1, words=words, channel=channel)
    return segment if timed else Segment(0.0, 20.0, text, language, (1,), "eos", -0.1, phrases=made, channel=channel)


def transcript(*segments: Segment) -> Transcript:
    return Transcript("", "English,Chinese", 20.0, segments, None, (), "eos", -0.1)


TALK = transcript(
    said(1, "English", ("Is it raining?", 0.5, 2.0), ("I see.", 6.0, 7.0), ("Then let us go.", 7.2, 9.0)),
    said(2, "English", ("No, it is not.", 3.0, 5.0), ("Good!", 8.0, 8.6)),
)


def test_text_is_a_line_for_every_turn() -> None:
    assert to_txt(TALK) == (
        "[left] Is it raining?\n[right] No, it is not.\n[left] I see. Then let us go.\n[right] Good!\n"
    )
    assert to_txt(TALK, times=True).splitlines()[2] == "[00:06.0 --> 00:09.0] [left] I see. Then let us go."


def test_turns_are_told_by_word_times_where_there_are_any() -> None:
    timed = transcript(
        said(1, "English", ("One.", 0.0, 1.0), ("Three.", 4.0, 5.0), timed=True),
        said(2, "English", ("Two.", 2.0, 3.0), timed=True),
    )
    assert to_txt(timed) == "[left] One.\n[right] Two.\n[left] Three.\n"


def test_subtitles_say_who_speaks_and_overlap_where_people_do() -> None:
    assert [(cue.label, cue.start_ms) for cue in cues(TALK)] == [
        ("left", 500),
        ("right", 3000),
        ("left", 6000),
        ("left", 7200),
        ("right", 8000),
    ]
    left, right = cues(TALK)[3:]
    assert left.end_ms > right.start_ms
    assert "\n[right] No, it is not.\n" in to_srt(TALK)
    assert "\n[right] No, it is not.\n" in to_vtt(TALK)
    assert "\t[right] No, it is not. Good!\n" in to_tsv(TALK)


def test_labels_take_room_of_the_first_line() -> None:
    long = transcript(said(2, "English", ("A sentence that does not fit into one line of these.", 0.0, 5.0)))
    for style in (SubtitleStyle(max_line_width=24), SubtitleStyle(max_line_width=24, estimate=False)):
        (first, *others), *_ = (f"{cue.prefix}{chr(10).join(cue.text_lines)}".splitlines() for cue in cues(long, style))
        assert first.startswith("[right] A ")
        assert max(map(len, [first, *others])) <= 24
    narrow = SubtitleStyle(max_line_width=16, confidence=True)
    assert "".join("".join(cue.text_lines) for cue in cues(long, narrow)).replace(" ", "") == long.segments[
        0
    ].text.replace(" ", "")


def test_more_than_two_channels_have_numbers() -> None:
    silent = Segment(0.0, 20.0, "", "", (), "no_speech", 0.0, channel=3)
    assert to_txt(transcript(said(1, "Chinese", ("你好。", 0.0, 1.0), ("好。", 2.0, 3.0)), silent)) == (
        "[channel 1] 你好。好。\n"
    )


def test_nobody_speaks_on_any_channel() -> None:
    silent = Segment(0.0, 20.0, "", "", (), "no_speech", 0.0, channel=1)
    assert to_txt(transcript(silent)) == ""
