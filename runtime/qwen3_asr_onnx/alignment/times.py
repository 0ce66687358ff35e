"""Times as the aligner answers them -> times in order, inside the audio, and no word without a length.

`repair_order` is the official repair and changes nothing else. `settle` goes further: it names what is wrong with a
word's times, and gives a word of no length the time around it, as far as its neighbours can spare it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from qwen3_asr_onnx.results import Word, WordFlag

from .units import Unit

__all__ = ["Span", "at_the_end", "repair_order", "settle", "timed_words"]

IMPROBABLE = 0.3
"""Words below this probability are flagged; see INVESTIGATION.md, entry 029."""

PLATEAU_WORDS = 3
"""So many words at one moment are no rounding any more: the model has lost its place."""

FEW_STRAYS = 2
"""Up to so many values out of order move to a neighbour; more are spread evenly between both."""


@dataclass(slots=True)
class Span:
    """Start and end of one word in milliseconds, and what is known to be wrong with them."""

    start_ms: int
    end_ms: int
    flags: set[WordFlag] = field(default_factory=set)


def repair_order(times_ms: Sequence[int]) -> list[int]:
    """Return the times made non-decreasing, exactly as the official package does it.

    The longest non-decreasing subsequence stays (of equally long ones the one found first by the usual quadratic
    recurrence); values between its members are strays. One or two strays in a row take the nearer member, three or more
    are spread evenly between both.

    Args:
        times_ms: start and end of every word in turn.
    """
    kept = _longest_rise(times_ms)
    repaired = [float(value) for value in times_ms]
    for left, right in zip([-1, *kept], [*kept, len(repaired)], strict=True):
        _fill(repaired, left, right)
    return [int(value) for value in repaired]


def _longest_rise(values: Sequence[int]) -> list[int]:
    """Return the indices of the longest non-decreasing subsequence."""
    times = np.asarray(values)
    lengths = np.ones(len(times), dtype=np.int64)
    parents = np.full(len(times), -1)
    for i in range(1, len(times)):
        candidates = np.where(times[:i] <= times[i], lengths[:i], 0)
        best = int(candidates.argmax())  # the first of equals, as in the recurrence
        if candidates[best]:
            lengths[i], parents[i] = candidates[best] + 1, best
    indices = []
    index = int(lengths.argmax()) if len(times) else -1
    while index != -1:
        indices.append(index)
        index = int(parents[index])
    return indices[::-1]


def _fill(values: list[float], left: int, right: int) -> None:
    """Replace what lies between two kept values; -1 and len(values) stand for a side without one."""
    count = right - left - 1
    low = values[left] if left >= 0 else None
    high = values[right] if right < len(values) else None
    for place in range(1, count + 1):
        if low is None or high is None:
            value = high if low is None else low
            assert value is not None
        elif count <= FEW_STRAYS:
            value = low if place <= count + 1 - place else high
        else:
            value = low + (high - low) / (count + 1) * place
        values[left + place] = value


def settle(spans: Sequence[Span], duration_ms: int, step_ms: int, *, move: bool = True) -> None:
    """Flag words beyond the end and words of no length, and give them a place and a length.

    Args:
        spans: all words of one audio, in order and without overlap; changed in place.
        duration_ms: length of the audio.
        step_ms: resolution of the times: a word shorter than this can be rounded to nothing.
        move: False flags, and changes no time.
    """
    for span in spans:
        if span.end_ms >= duration_ms + step_ms:  # less than one step is rounding
            span.flags.add("beyond_end")
    placed = [(min(span.start_ms, duration_ms), min(span.end_ms, duration_ms)) for span in spans]
    if move:
        for span, (start_ms, end_ms) in zip(spans, placed, strict=True):
            span.start_ms, span.end_ms = start_ms, end_ms
    first = 0
    while first < len(spans):
        last = first
        if placed[first][0] == placed[first][1]:
            while last + 1 < len(spans) and placed[last + 1] == placed[first]:
                last += 1
            for span in spans[first : last + 1]:
                span.flags.add("plateau" if last - first + 1 >= PLATEAU_WORDS else "zero_length")
            if move:
                _make_room(spans, first, last, duration_ms, step_ms)
        first = last + 1


def _make_room(spans: Sequence[Span], first: int, last: int, duration_ms: int, step_ms: int) -> None:
    """Spread words that share one moment over the free time around it, one step for each.

    Where there is less, each neighbour lends up to half a step, and never more than half of its own length.
    """
    count = last - first + 1
    moment = spans[first].start_ms
    before = spans[first - 1] if first else None
    after = spans[last + 1] if last + 1 < len(spans) else None
    low = before.end_ms if before is not None else 0
    high = after.start_ms if after is not None else duration_ms
    if high - low < count * step_ms:
        low -= _spare(before, step_ms)
        high += _spare(after, step_ms)
    width = min(count * step_ms, high - low)
    start = min(max(moment - width // 2, low), high - width)
    bounds = [start + width * i // count for i in range(count + 1)]
    for span, (left, right) in zip(spans[first : last + 1], itertools.pairwise(bounds), strict=True):
        span.start_ms, span.end_ms = left, right
    if before is not None:
        before.end_ms = min(before.end_ms, start)
    if after is not None:
        after.start_ms = max(after.start_ms, start + width)


def _spare(neighbour: Span | None, step_ms: int) -> int:
    return 0 if neighbour is None else min(step_ms, neighbour.end_ms - neighbour.start_ms) // 2


def at_the_end(duration_ms: int, count: int) -> tuple[list[Span], list[float]]:
    """Return times and probabilities of so many words that nothing is known about."""
    return [Span(duration_ms, duration_ms) for _ in range(count)], [0.0] * count


def timed_words(
    units: Sequence[Unit], spans: Sequence[Span], probabilities: Sequence[float], offset_s: float, *, supported: bool
) -> tuple[Word, ...]:
    """Return the words of one input.

    Args:
        units: what was aligned.
        spans: when each is spoken, settled.
        probabilities: of each.
        offset_s: added to all times.
        supported: whether the aligner was trained on the language.
    """
    words = []
    for unit, span, probability in zip(units, spans, probabilities, strict=True):
        if probability < IMPROBABLE:
            span.flags.add("improbable")
        if not supported:
            span.flags.add("unsupported_language")
        words.append(
            Word(
                text=unit.written,
                start_s=round(offset_s + span.start_ms / 1000, 3),
                end_s=round(offset_s + span.end_ms / 1000, 3),
                probability=round(probability, 4),
                flags=tuple(flag for flag in get_args(WordFlag) if flag in span.flags),
                unit=unit.text,
                space_after=unit.space_after,
                start_char=unit.start_char,
            )
        )
    return tuple(words)
