"""Transcript in, the text of a file out: plain text, JSON, SubRip, WebVTT and tab-separated values.

Pure functions; `FORMATS` is the table of them, and whoever offers, checks or writes formats reads it. No writer drops
text, and each turns a transcript without speech into a valid file without cues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from qwen3_asr_onnx.results import Transcript

from .cues import DEFAULT_STYLE, Cue, SubtitleStyle, cues, segment_cues
from .growing import GrowingText, timed_head, timed_line
from .turns import has_turns, turns

__all__ = ["FORMATS", "Format", "Writer", "to_json", "to_srt", "to_tsv", "to_txt", "to_vtt", "to_word_tsv", "writers"]

Writer: TypeAlias = Callable[..., str]
"""A transcript in, the text of a file out; where the format names its input, that name follows the transcript."""

ESTIMATE_NOTE = "NOTE\nTimes are estimated from pauses and the length of the text, not measured.\n"


@dataclass(frozen=True, slots=True)
class Format:
    """One format. Its name in `FORMATS` is also the suffix of its files.

    Attributes:
        write: makes a file's text of a transcript, and of a `style` where it is a subtitle format.
        is_subtitle: whether a subtitle style shapes it.
        is_timed: whether it says when things are said, so that it can hold an alignment.
        may_be_empty: whether silence makes an empty file; in others an empty file is a half-written one.
        can_follow: whether one stream can hold those of several inputs.
        names_input: whether `write` also takes what the input is called, as its second argument.
        takes_times: whether `write` also takes `times=True`, which puts the times of its segments into a plain text.
        grow: makes what writes the same text segment by segment, where the format can; it takes `times` where `write`
            does.
        write_words: what makes the text of an alignment, where that is not `write`.
    """

    write: Callable[..., str]
    is_subtitle: bool = False
    is_timed: bool = True
    may_be_empty: bool = False
    can_follow: bool = False
    names_input: bool = False
    takes_times: bool = False
    grow: Callable[..., GrowingText] | None = None
    write_words: Writer | None = None


def to_txt(transcript: Transcript, *, times: bool = False) -> str:
    """Return the transcript as text ending in one newline; "" when nothing was said.

    Of channels that were transcribed each by itself every turn is a line, behind the name of the channel.

    Args:
        transcript: what was said.
        times: a line for each segment, behind its times.
    """
    if has_turns(transcript):
        heads = ((timed_head(turn.start_s, turn.end_s) if times else "", turn) for turn in turns(transcript))
        return "".join(f"{head}[{turn.label}] {turn.text}\n" for head, turn in heads)
    if times:
        return "".join(map(timed_line, transcript.segments))
    text = transcript.text.strip()
    return f"{text}\n" if text else ""


def to_json(transcript: Transcript, name: str | None = None) -> str:
    """Return every field of the transcript as indented JSON; what it is of, where that has a name, as "input"."""
    named = {} if name is None else {"input": name}
    return json.dumps({**named, **transcript.to_dict()}, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def to_srt(transcript: Transcript, style: SubtitleStyle = DEFAULT_STYLE) -> str:
    """Return the transcript as SubRip cues; "" when nothing was said.

    Raises:
        OptionsError: the style shows words, and the transcript has no word times.
    """
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_srt_text(cue)}\n"
        for number, cue in enumerate(cues(transcript, style), start=1)
    )


def to_vtt(transcript: Transcript, style: SubtitleStyle = DEFAULT_STYLE) -> str:
    """Return the transcript as WebVTT cues; the header alone when nothing was said.

    Raises:
        OptionsError: the style shows words, and the transcript has no word times.
    """
    made = cues(transcript, style)
    karaoke = style.words == "karaoke"
    note = f"\n{ESTIMATE_NOTE}" if any(cue.estimated for cue in made) else ""
    body = (
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_vtt_text(cue, karaoke=karaoke)}\n"
        for cue in made
    )
    return f"WEBVTT\n{note}" + "".join(body)


def to_tsv(transcript: Transcript) -> str:
    """Return a header and one row per segment: start and end in milliseconds, text on one line."""
    rows = (f"{cue.start_ms}\t{cue.end_ms}\t{_one_line(cue)}\n" for cue in segment_cues(transcript))
    return "start\tend\ttext\n" + "".join(rows)


def to_word_tsv(transcript: Transcript) -> str:
    """Return a header and one row per word: start and end in milliseconds, probability, text."""
    timed = ((round(1000 * word.start_s), round(1000 * word.end_s), word) for word in transcript.words or ())
    rows = (f"{start}\t{end}\t{word.probability:.3f}\t{' '.join(word.text.split())}\n" for start, end, word in timed)
    return "start\tend\tprobability\ttext\n" + "".join(rows)


FORMATS: dict[str, Format] = {
    "txt": Format(to_txt, is_timed=False, may_be_empty=True, can_follow=True, takes_times=True, grow=GrowingText),
    "json": Format(to_json, can_follow=True, names_input=True),
    "srt": Format(to_srt, is_subtitle=True, may_be_empty=True),
    "vtt": Format(to_vtt, is_subtitle=True),
    "tsv": Format(to_tsv, write_words=to_word_tsv),
}
"""Every format by its name. A new one is one line here."""


def writers(style: SubtitleStyle = DEFAULT_STYLE, *, times: bool = False) -> Mapping[str, Writer]:
    """Return the name of every format -> the function that makes a file's text.

    Args:
        style: how subtitles are cut.
        times: put the times of segments into a plain text.
    """
    return {name: partial(entry.write, **_settings(entry, style, times)) for name, entry in FORMATS.items()}


def _settings(entry: Format, style: SubtitleStyle, times: bool) -> dict[str, Any]:
    """Return the keywords that a format's writer takes."""
    of_style = {"style": style} if entry.is_subtitle else {}
    return {**of_style, "times": times} if entry.takes_times else of_style


def _clock(total_ms: int, decimal_mark: str) -> str:
    """Return `hh:mm:ss,mmm`; hours take as many digits as they need."""
    total_s, ms = divmod(total_ms, 1000)
    minutes, s = divmod(total_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{s:02d}{decimal_mark}{ms:03d}"


def _srt_text(cue: Cue) -> str:
    # SubRip has no escapes. A space inside the arrow keeps every character and cannot form a new arrow ("--->" can,
    # when "-->" is replaced by "->").
    return cue.prefix + "\n".join(cue.text_lines).replace("-->", "-- >")


def _vtt_text(cue: Cue, *, karaoke: bool) -> str:
    lines = _karaoke_lines(cue) if karaoke and cue.measured else map(_escaped, cue.text_lines)
    return cue.prefix + "\n".join(lines)


def _karaoke_lines(cue: Cue) -> Iterator[str]:
    """Yield the lines with a time before each word that begins later than the one before it.

    WebVTT allows only times inside the cue, each greater than the last.
    """
    last_ms = cue.start_ms
    for line in cue.lines:
        text = ""
        for part in line:
            start_ms = round(part.start_s * 1000)
            if last_ms < start_ms < cue.end_ms:
                text += f"<{_clock(start_ms, '.')}>"
                last_ms = start_ms
            text += _escaped(part.text)
        yield text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(cue: Cue) -> str:
    return cue.prefix + " ".join(cue.text_lines).replace("\t", " ")
