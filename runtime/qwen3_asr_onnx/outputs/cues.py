"""Transcript in, cues out: what is shown when, in lines that can be read.

Cues are cut from measured word times; without them from the estimated times of phrases, and such a cue says so. Where
no estimate is wanted a segment stays one cue with the times of the segment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.results import Segment, Transcript
from qwen3_asr_onnx.text.scripts import column_width

from .layout import CueLimits, cut_cues, cut_lines, fill_lines
from .units import TextSpan, TextUnit, TimedText, estimate_words, make_units, place_words

__all__ = ["Cue", "SubtitleStyle", "WordDisplay", "channel_labels", "cues", "segment_cues"]

WordDisplay: TypeAlias = Literal["off", "karaoke", "cues"]
"""Phrases only; phrases whose words carry their times (WebVTT); every word a cue of its own."""

CONFIDENCE_COLUMNS = len("[100%] ")

_WORD_MIN_DURATION_S = 0.08
"""A word cue of no length would not be seen; this is one step of the aligner's times."""

_CLOSED_GAP_MS = 250
"""A shorter gap between two cues only flickers, so the first one stays until the second appears."""


@dataclass(frozen=True, slots=True)
class SubtitleStyle:
    """How subtitles are cut. The defaults are those of the common guidelines for broadcast and streaming.

    Widths are columns: a wide character (Chinese, Japanese, Korean) takes two, so 42 columns hold 21 of them.

    Attributes:
        max_line_width: most columns of a line.
        max_lines: most lines of a cue.
        max_columns_per_s: reading speed; a faster cue stays longer if there is a pause after it.
        min_duration_s: a shorter cue stays longer if there is a pause after it.
        max_duration_s: longest cue, unless a single word lasts longer.
        pause_s: a pause of this length always ends a cue.
        words: "off", "karaoke" (WebVTT only) or "cues".
        confidence: show the mean probability of the segment's tokens before each cue's text.
        estimate: cut segments without word times by the estimated times of their phrases, or where there are none as if
            every column took the same time. False leaves them whole.

    Raises:
        OptionsError: a number is out of range.
    """

    max_line_width: int = 42
    max_lines: int = 2
    max_columns_per_s: float = 20.0
    min_duration_s: float = 1.0
    max_duration_s: float = 7.0
    pause_s: float = 1.0
    words: WordDisplay = "off"
    confidence: bool = False
    estimate: bool = True

    def __post_init__(self) -> None:
        if self.max_line_width < 16:
            raise OptionsError(f"max_line_width is {self.max_line_width}; give at least 16 columns")
        if not 1 <= self.max_lines <= 4:
            raise OptionsError(f"max_lines is {self.max_lines}; give 1 to 4")
        for name in ("max_columns_per_s", "min_duration_s", "max_duration_s", "pause_s"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise OptionsError(f"{name} is {value}; give a number above 0")
        if self.max_duration_s < self.min_duration_s:
            raise OptionsError(
                f"max_duration_s ({self.max_duration_s}) is below min_duration_s ({self.min_duration_s})"
            )
        if self.words not in ("off", "karaoke", "cues"):
            raise OptionsError(f"words is {self.words!r}; choose off, karaoke or cues")


DEFAULT_STYLE = SubtitleStyle()


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle. Times are whole milliseconds from the start of the input audio.

    Attributes:
        start_ms: when it appears.
        end_ms: when it goes; always after it appears, and never after the next one of its channel appears.
        lines: its lines, each made of timed parts. A part's text begins with the space that precedes it, if any.
        measured: whether its words carry measured times.
        estimated: whether its times were estimated inside a segment.
        confidence: mean probability of the segment's tokens; None when it is not to be shown.
        label: of the channel it was heard in; "" where channels are not told apart.
    """

    start_ms: int
    end_ms: int
    lines: tuple[tuple[TimedText, ...], ...]
    measured: bool = False
    estimated: bool = False
    confidence: float | None = None
    label: str = ""

    @property
    def prefix(self) -> str:
        """What stands before the first line."""
        confidence = "" if self.confidence is None else f"[{self.confidence:.0%}] "
        return f"{confidence}[{self.label}] " if self.label else confidence

    @property
    def text_lines(self) -> tuple[str, ...]:
        """The lines as plain text."""
        return tuple("".join(part.text for part in line) for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the text of a segment's cues."""

    confidence: float | None = None
    label: str = ""

    def columns(self, line_width: int) -> int:
        """Return what it takes of the first line, in which half a line at least is left to the text."""
        taken = (0 if self.confidence is None else CONFIDENCE_COLUMNS) + (len(self.label) + 3 if self.label else 0)
        return min(taken, line_width // 2)


NO_HEAD = _Head()


@dataclass(frozen=True, slots=True)
class _Draft:
    """A cue before its times are settled. `min_s` is how long it should stay if nothing follows."""

    start_s: float
    end_s: float
    lines: tuple[tuple[TimedText, ...], ...]
    min_s: float = 0.0
    measured: bool = False
    estimated: bool = False
    head: _Head = NO_HEAD


def cues(transcript: Transcript, style: SubtitleStyle = DEFAULT_STYLE) -> tuple[Cue, ...]:
    """Return the cues of a transcript. No text is lost or reordered, and no two cues of a channel overlap.

    Raises:
        OptionsError: the style shows words, and the transcript has no word times.
    """
    spoken = [segment for segment in transcript.segments if segment.text.strip()]
    if style.words != "off" and spoken and all(segment.words is None for segment in spoken):
        raise OptionsError(
            f"subtitle style words={style.words!r} needs word times; transcribe with timestamps and an aligner bundle"
        )
    labels = channel_labels(transcript)
    drafts: list[_Draft] = []
    for segment in spoken:
        spans = place_words(segment.text, segment.words or ())
        estimated = style.estimate and not spans
        if estimated:
            spans = _estimated_spans(segment)
        confidence = min(1.0, math.exp(segment.avg_logprob)) if style.confidence else None
        head = _Head(confidence, labels[segment.channel])
        units = make_units(segment.text, spans, _limits(style, head).first_width)
        drafts += _cut(units, style, head, estimated=estimated) or [_wrapped(segment, style, head)]
    return _settled(drafts, style, transcript)


def segment_cues(transcript: Transcript) -> tuple[Cue, ...]:
    """Return one cue per segment that has text, with the times of the segment."""
    spoken = (segment for segment in transcript.segments if segment.text.strip())
    labels = channel_labels(transcript)
    drafts = [_whole(segment, _Head(label=labels[segment.channel])) for segment in spoken]
    return _settled(drafts, DEFAULT_STYLE, transcript)


def channel_labels(transcript: Transcript) -> dict[int | None, str]:
    """Return what each channel is called: "left" or "right", or by its number; "" where they are not told apart."""
    channels = sorted({segment.channel for segment in transcript.segments if segment.channel is not None})
    names = ("left", "right") if channels and channels[-1] <= 2 else ()
    return {None: "", **{number: names[number - 1] if names else f"channel {number}" for number in channels}}


def _estimated_spans(segment: Segment) -> list[TextSpan]:
    """Return the words of a segment, set evenly in each of its phrases."""
    spans: list[TextSpan] = []
    reached = 0
    for phrase in segment.phrases or ():
        first = segment.text.find(phrase.text, reached)
        if first < 0:  # the text is no longer the one that the phrases were made of
            break
        reached = first + len(phrase.text)
        spans += [
            replace(span, first=first + span.first, end=first + span.end)
            for span in estimate_words(phrase.text, phrase.start_s, phrase.end_s)
        ]
    else:
        if spans:
            return spans
    return estimate_words(segment.text, segment.start_s, segment.end_s)


def _limits(style: SubtitleStyle, head: _Head) -> CueLimits:
    return CueLimits(
        line_width=style.max_line_width,
        reserved=head.columns(style.max_line_width),
        lines=style.max_lines,
        columns_per_s=style.max_columns_per_s,
        min_duration_s=style.min_duration_s,
        max_duration_s=style.max_duration_s,
    )


def _whole(segment: Segment, head: _Head) -> _Draft:
    """Return a segment as one cue, in the lines it is written in."""
    # A blank line inside a cue would end it, and the rest would be lost.
    lines = [stripped for line in segment.text.splitlines() if (stripped := line.strip())]
    parts = tuple((TimedText(line, segment.start_s, segment.end_s),) for line in lines)
    return _Draft(segment.start_s, segment.end_s, parts, head=head)


def _wrapped(segment: Segment, style: SubtitleStyle, head: _Head) -> _Draft:
    """Return a segment as one cue, in as many lines as it takes."""
    whole = _whole(segment, head)
    limits = _limits(style, head)
    width = limits.first_width
    lines: list[tuple[TimedText, ...]] = []
    for line in whole.lines:
        text = line[0].text
        units = make_units(text, estimate_words(text, segment.start_s, segment.end_s), width)
        lines += [tuple(_parts(units[first:end])) for first, end in fill_lines(units, limits)] or [line]
        limits = replace(limits, reserved=0)
    return replace(whole, lines=tuple(lines))


def _cut(units: Sequence[TextUnit], style: SubtitleStyle, head: _Head, *, estimated: bool = False) -> list[_Draft]:
    """Return the units as cues."""
    if style.words == "cues" and not estimated:
        return [
            _Draft(part.start_s, part.end_s, ((part,),), _WORD_MIN_DURATION_S, measured=True, head=head)
            for unit in units
            for part in unit.words
        ]
    if not units:
        return []
    limits = _limits(style, head)
    drafts = []
    runs = list(_runs(units, style.pause_s))
    next_starts = [*(run[0].start_s for run in runs[1:]), math.inf]
    for run, until_s in zip(runs, next_starts, strict=True):
        for first, end in cut_cues(run, limits, until_s):
            drafts.append(_draft(run[first:end], limits, style, head, estimated=estimated))
    return drafts


def _draft(
    units: Sequence[TextUnit], limits: CueLimits, style: SubtitleStyle, head: _Head, *, estimated: bool
) -> _Draft:
    lines = tuple(tuple(_parts(units[first:end])) for first, end in cut_lines(units, limits))
    columns = sum(column_width(part.text) for line in lines for part in line)
    return _Draft(
        start_s=units[0].start_s,
        end_s=max(unit.end_s for unit in units),
        lines=lines,
        min_s=min(style.max_duration_s, max(style.min_duration_s, columns / style.max_columns_per_s)),
        measured=not estimated,
        estimated=estimated,
        head=head,
    )


def _runs(units: Sequence[TextUnit], pause_s: float) -> Iterator[Sequence[TextUnit]]:
    """Yield the units between pauses; there is at least one."""
    first = 0
    for index, (left, right) in enumerate(pairwise(units), start=1):
        if right.start_s - left.end_s >= pause_s:
            yield units[first:index]
            first = index
    yield units[first:]


def _parts(units: Iterable[TextUnit]) -> Iterator[TimedText]:
    """Yield the timed parts of one line, each with the space before it."""
    for number, unit in enumerate(units):
        for index, word in enumerate(unit.words):
            space = " " if unit.spaced and number and not index else ""
            yield TimedText(space + word.text, word.start_s, word.end_s)


def _settled(drafts: Sequence[_Draft], style: SubtitleStyle, transcript: Transcript) -> tuple[Cue, ...]:
    """Return the cues in order; those of one channel do not overlap, and those of two may, as people do."""
    made: list[Cue] = []
    for label in dict.fromkeys(draft.head.label for draft in drafts):
        made += _settle([draft for draft in drafts if draft.head.label == label], style, transcript)
    return tuple(sorted(made, key=lambda cue: cue.start_ms))


def _settle(drafts: Sequence[_Draft], style: SubtitleStyle, transcript: Transcript) -> Iterator[Cue]:
    """Yield the cues with times no player refuses: in order, of positive length, without overlap.

    A cue begins with its first word. It stays after its last one where it would be too short or too fast to read, and
    where only a flicker would remain until the next.
    """
    starts: list[int] = []
    for draft in drafts:
        starts.append(max(_milliseconds(draft.start_s), starts[-1] + 1 if starts else 0))
    if not drafts:
        return
    end_s = transcript.start_s + transcript.duration_s
    last_end = max(_milliseconds(end_s), _milliseconds(drafts[-1].end_s))
    for draft, start, limit in zip(drafts, starts, [*starts[1:], last_end], strict=True):
        end = _milliseconds(draft.end_s)
        if draft.min_s:
            end = max(end, start + _milliseconds(draft.min_s))
            end = (
                limit if limit - end < _CLOSED_GAP_MS and limit - start <= _milliseconds(style.max_duration_s) else end
            )
        yield Cue(
            start_ms=start,
            end_ms=max(min(end, limit), start + 1),
            lines=draft.lines,
            measured=draft.measured,
            estimated=draft.estimated,
            confidence=draft.head.confidence,
            label=draft.head.label,
        )


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
