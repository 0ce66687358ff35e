"""Transcript in, the text of a file out: plain text, JSON, SubRip, WebVTT and tab-separated values.

Pure functions; `WRITERS` names them by file suffix. A cue is one segment. No writer drops text, and each turns a
transcript without speech into a valid file without cues.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .types import Transcript

__all__ = ["WRITERS", "to_json", "to_srt", "to_tsv", "to_txt", "to_vtt"]


@dataclass(frozen=True, slots=True)
class _Cue:
    """One segment with text. Times are whole milliseconds from the start of the input audio."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def to_txt(transcript: Transcript) -> str:
    """Return the transcript as text ending in one newline; "" when nothing was said."""
    text = transcript.text.strip()
    return f"{text}\n" if text else ""


def to_json(transcript: Transcript) -> str:
    """Return every field of the transcript as indented JSON."""
    return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=2) + "\n"


def to_srt(transcript: Transcript) -> str:
    """Return the segments as SubRip cues; "" when nothing was said."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_srt_text(cue)}\n"
        for number, cue in enumerate(_cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """Return the segments as WebVTT cues; the header alone when nothing was said."""
    cues = (
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_vtt_text(cue)}\n" for cue in _cues(transcript)
    )
    return "WEBVTT\n" + "".join(cues)


def to_tsv(transcript: Transcript) -> str:
    """Return a header and one row per segment: start and end in milliseconds, text on one line."""
    rows = (f"{cue.start_ms}\t{cue.end_ms}\t{_one_line(cue)}\n" for cue in _cues(transcript))
    return "start\tend\ttext\n" + "".join(rows)


WRITERS: Mapping[str, Callable[[Transcript], str]] = MappingProxyType(
    {"txt": to_txt, "json": to_json, "srt": to_srt, "vtt": to_vtt, "tsv": to_tsv}
)
"""File suffix (without the dot) to the function that makes the file's text."""


def _cues(transcript: Transcript) -> Iterator[_Cue]:
    """Yield the segments that have text, with times no player refuses.

    Starts never go back, and a cue lasts at least 1 ms: WebVTT demands it, and players skip a cue of no length.
    """
    previous_ms = 0
    for segment in transcript.segments:
        # A blank line inside a cue would end it, and the rest would be lost.
        lines = tuple(stripped for line in segment.text.splitlines() if (stripped := line.strip()))
        if not lines:
            continue
        start_ms = max(previous_ms, _milliseconds(segment.start_s))
        end_ms = max(start_ms + 1, _milliseconds(segment.end_s))
        previous_ms = start_ms
        yield _Cue(start_ms, end_ms, lines)


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _clock(total_ms: int, decimal_mark: str) -> str:
    """Return `hh:mm:ss,mmm`; hours take as many digits as they need."""
    total_s, ms = divmod(total_ms, 1000)
    minutes, s = divmod(total_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{s:02d}{decimal_mark}{ms:03d}"


def _srt_text(cue: _Cue) -> str:
    # SubRip has no escapes. A space inside the arrow keeps every character and cannot form a new arrow ("--->" can,
    # when "-->" is replaced by "->").
    return "\n".join(cue.lines).replace("-->", "-- >")


def _vtt_text(cue: _Cue) -> str:
    text = "\n".join(cue.lines)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_line(cue: _Cue) -> str:
    return " ".join(cue.lines).replace("\t", " ")
