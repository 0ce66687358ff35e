"""Transcript in, the text of a file out: plain text, JSON, SubRip, WebVTT and tab-separated values.

Pure functions; `WRITERS` names them by file suffix. No writer drops text, and each turns a transcript without speech
into a valid file without cues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias, get_args

from .errors import OptionsError
from .results import Transcript
from .subtitles import DEFAULT_STYLE, Cue, SubtitleStyle, WordDisplay, cues, segment_cues

__all__ = [
    "SUBTITLE_FORMATS",
    "WRITERS",
    "Writer",
    "add_subtitle_arguments",
    "subtitle_style",
    "to_json",
    "to_srt",
    "to_tsv",
    "to_txt",
    "to_vtt",
    "writers",
]

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


def add_subtitle_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `subtitle_style` reads."""
    group = parser.add_argument_group("subtitles", "srt and vtt; cut inside segments only where words are timed")
    group.add_argument(
        "--max-line-width",
        metavar="N",
        type=int,
        default=DEFAULT_STYLE.max_line_width,
        help="columns of a line; a Chinese, Japanese or Korean character takes two (default %(default)d)",
    )
    group.add_argument(
        "--max-lines",
        metavar="N",
        type=int,
        default=DEFAULT_STYLE.max_lines,
        help="lines of a cue (default %(default)d)",
    )
    group.add_argument(
        "--subtitle-words",
        choices=get_args(WordDisplay),
        default=DEFAULT_STYLE.words,
        help="karaoke: word times inside WebVTT cues; cues: one cue per word (default %(default)s)",
    )
    group.add_argument(
        "--subtitle-confidence", action="store_true", help="show the segment's mean token probability before each cue"
    )
    group.add_argument(
        "--estimate-times",
        action="store_true",
        help="without word times, cut long segments as if speech were even: times are guesses, and VTT says so",
    )


def subtitle_style(args: argparse.Namespace, formats: Collection[str], *, word_times: bool) -> SubtitleStyle:
    """Return the style that the arguments ask for.

    Args:
        args: with the arguments of `add_subtitle_arguments`.
        formats: names of the formats that will be written.
        word_times: whether words will be timed.

    Raises:
        OptionsError: a number is out of range, or the formats or the lack of word times leave an option no meaning.
    """
    style = SubtitleStyle(
        max_line_width=args.max_line_width,
        max_lines=args.max_lines,
        words=args.subtitle_words,
        confidence=args.subtitle_confidence,
        estimate=args.estimate_times,
    )
    if style != DEFAULT_STYLE and not SUBTITLE_FORMATS.intersection(formats):
        raise OptionsError("the subtitle options shape srt and vtt; add --format srt or --format vtt")
    if style.words == "karaoke" and "vtt" not in formats:
        raise OptionsError("--subtitle-words karaoke is for WebVTT; add --format vtt")
    if style.words != "off" and not word_times:
        raise OptionsError(f"--subtitle-words {style.words} needs word times; add --timestamps word")
    return style


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
