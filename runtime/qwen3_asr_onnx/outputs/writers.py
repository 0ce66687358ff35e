"""Transcript in, the text of a file out: plain text, JSON, SubRip, WebVTT and tab-separated values.

Pure functions; `WRITERS` names them by file suffix. No writer drops text, and each turns a transcript without speech
into a valid file without cues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from qwen3_asr_onnx.results import Transcript

from .cues import DEFAULT_STYLE, Cue, SubtitleStyle, cues, segment_cues

__all__ = ["SUBTITLE_FORMATS", "WRITERS", "Writer", "to_json", "to_srt", "to_tsv", "to_txt", "to_vtt", "writers"]

Writer: TypeAlias = Callable[[Transcript], str]

SUBTITLE_FORMATS = frozenset({"srt", "vtt"})
"""The formats that a subtitle style changes."""

ESTIMATE_NOTE = "NOTE\nTimes inside a segment are estimated from the length of the text, not measured.\n"


def to_txt(transcript: Transcript) -> str:
    """Return the transcript as text ending in one newline; "" when nothing was said."""
    text = transcript.text.strip()
    return f"{text}\n" if text else ""


def to_json(transcript: Transcript) -> str:
    """Return every field of the transcript as indented JSON."""
    return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=2) + "\n"


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


def writers(style: SubtitleStyle = DEFAULT_STYLE) -> Mapping[str, Writer]:
    """Return file suffix (without the dot) -> the function that makes the file's text, subtitles cut by `style`."""
    return MappingProxyType(
        {
            "txt": to_txt,
            "json": to_json,
            "srt": lambda transcript: to_srt(transcript, style),
            "vtt": lambda transcript: to_vtt(transcript, style),
            "tsv": to_tsv,
        }
    )


WRITERS: Mapping[str, Writer] = writers()
"""The writers with the default subtitle style."""


def _clock(total_ms: int, decimal_mark: str) -> str:
    """Return `hh:mm:ss,mmm`; hours take as many digits as they need."""
    total_s, ms = divmod(total_ms, 1000)
    minutes, s = divmod(total_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{s:02d}{decimal_mark}{ms:03d}"


def _confidence(cue: Cue) -> str:
    return "" if cue.confidence is None else f"[{cue.confidence:.0%}] "


def _srt_text(cue: Cue) -> str:
    # SubRip has no escapes. A space inside the arrow keeps every character and cannot form a new arrow ("--->" can,
    # when "-->" is replaced by "->").
    return _confidence(cue) + "\n".join(cue.text_lines).replace("-->", "-- >")


def _vtt_text(cue: Cue, *, karaoke: bool) -> str:
    lines = _karaoke_lines(cue) if karaoke and cue.measured else map(_escaped, cue.text_lines)
    return _confidence(cue) + "\n".join(lines)


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
    return " ".join(cue.text_lines).replace("\t", " ")
