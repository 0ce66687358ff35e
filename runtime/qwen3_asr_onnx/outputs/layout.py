"""Units in, cues out: which units share a cue, and how a cue's units are set in lines.

Both cuts minimise a sum of penalties by dynamic programming, so that a cue ends at the end of a sentence, at a comma or
at a pause rather than in the middle of a phrase, and the lines of a cue are balanced.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from .units import TextUnit

__all__ = ["CueLimits", "cut_cues", "cut_lines", "ends_clause", "ends_sentence", "fill_lines"]

_SENTENCE_ENDS = frozenset(".!?…。！？．｡‼⁇⁈⁉؟۔।॥")
_CLAUSE_ENDS = frozenset(",;:，、；：､،؛–—")
_ABBREVIATIONS = frozenset(
    {"bzw", "ca", "dr", "jr", "mr", "mrs", "ms", "mt", "no", "nr", "prof", "sr", "sra", "st", "vs"}
)
"""Words whose point ends no sentence although a capital letter follows. One that is missing here costs little: a cue
then prefers to end after it."""

# Penalties. Their unit is one more cue; what matters is their order and that a long sentence inside a cue costs more
# than another cue does.
_CUE = 1.0
_CUT_IN_PHRASE = 2.5
_CUT_AT_CLAUSE = 0.8
_SENTENCE_END_INSIDE = 1.2
_PAUSE_INSIDE = 2.0  # per second
_TOO_SHORT = 2.0  # per second that is missing
_TOO_FAST = 1.0  # per multiple of the reading speed that is exceeded
_UNEVEN = 0.3  # for a cue with all its columns used; the square of the share otherwise
_LINE_CUT_IN_PHRASE = 0.4
_LINE_CUT_AT_CLAUSE = 0.1
_AFTER_SHORT_WORD = (
    0.3  # articles, prepositions and conjunctions belong to what follows; in most languages they are short
)
_SHORT_WORD_LETTERS = 3
_SHORT_PAUSE_S = 0.3
"""A pause a listener notices; the aligner's times have steps of 0.08 s."""


@dataclass(frozen=True, slots=True)
class CueLimits:
    """What a cue may hold. Widths are in columns, two for a wide character.

    Attributes:
        line_width: most columns of a line.
        reserved: columns of the first line that are taken already.
        lines: most lines.
        columns_per_s: reading speed that is still comfortable.
        min_duration_s: shorter cues are avoided.
        max_duration_s: longest cue, unless a single unit lasts longer.
    """

    line_width: int
    reserved: int
    lines: int
    columns_per_s: float
    min_duration_s: float
    max_duration_s: float

    @property
    def first_width(self) -> int:
        """Columns that are left of the first line."""
        return self.line_width - self.reserved


class _Run:
    """Prefix sums over consecutive units, so that the penalty of any cue is found in constant time."""

    def __init__(self, units: Sequence[TextUnit], until_s: float) -> None:
        self.units = units
        spaces = [int(unit.spaced) for unit in units]
        self.spaces = [*spaces, 0]
        self.columns = [0, *accumulate(unit.width + space for unit, space in zip(units, spaces, strict=True))]
        self.starts = [unit.start_s for unit in units]
        self.ends = list(accumulate((unit.end_s for unit in units), max))
        self.next_starts = [*self.starts[1:], until_s]

    def width(self, first: int, end: int) -> int:
        """Return the columns of units first..end-1 on one line."""
        return self.columns[end] - self.columns[first] - self.spaces[first]

    def fill(self, first: int, columns: int) -> int:
        """Return the end of the longest line of at most `columns` that begins with unit `first`."""
        if first == len(self.units):
            return first
        return bisect_right(self.columns, columns + self.columns[first] + self.spaces[first]) - 1

    def furthest(self, first: int, limits: CueLimits) -> int:
        """Return the end of the largest cue that begins with unit `first`."""
        end = self.fill(first, limits.first_width)
        for _ in range(limits.lines - 1):
            end = self.fill(end, limits.line_width)
        return end

    @cached_property
    def sentence_ends(self) -> list[int]:
        """How many of the first k units end a sentence, for every k."""
        following = [unit.text for unit in self.units[1:]] + [""]
        ends = (ends_sentence(unit.text, after) for unit, after in zip(self.units, following, strict=True))
        return [0, *accumulate(map(int, ends))]

    @cached_property
    def pauses(self) -> list[float]:
        """Seconds of noticeable pause after the first k units, for every k."""
        gaps = (after - end for end, after in zip(self.ends, self.next_starts, strict=True))
        return [0.0, *accumulate(gap if gap >= _SHORT_PAUSE_S else 0.0 for gap in gaps)]

    def ends_sentence(self, end: int) -> bool:
        """Return whether the unit before `end` ends a sentence."""
        return self.sentence_ends[end] > self.sentence_ends[end - 1]

    def ends_in_short_word(self, end: int) -> bool:
        """Return whether the unit before `end` is a short word without a mark."""
        text = self.units[end - 1].text
        return text.isalpha() and len(text) <= _SHORT_WORD_LETTERS and len(text) == self.units[end - 1].width

    def ends_clause(self, end: int) -> bool:
        """Return whether the unit before `end` ends a clause or is followed by a pause."""
        return ends_clause(self.units[end - 1].text) or self.pauses[end] > self.pauses[end - 1]


def cut_cues(units: Sequence[TextUnit], limits: CueLimits, until_s: float) -> list[tuple[int, int]]:
    """Return the (first, end) unit of every cue, in order, leaving out none.

    Args:
        units: consecutive units, none wider than a line.
        limits: what a cue may hold.
        until_s: when the next cue after these begins.
    """
    run = _Run(units, until_s)
    best = [0.0] + [float("inf")] * len(units)
    origin = [0] * (len(units) + 1)
    for first in range(len(units)):
        furthest = run.furthest(first, limits)
        for end in range(first + 1, furthest + 1):
            if end > first + 1 and run.ends[end - 1] - run.starts[first] > limits.max_duration_s:
                break
            cost = best[first] + _penalty(run, first, end, limits)
            if cost < best[end]:
                best[end], origin[end] = cost, first
    cuts = []
    end = len(units)
    while end:
        cuts.append((origin[end], end))
        end = origin[end]
    return cuts[::-1]


def cut_lines(units: Sequence[TextUnit], limits: CueLimits) -> list[tuple[int, int]]:
    """Return the (first, end) unit of every line of one cue: as few lines as it takes, and those balanced."""
    run = _Run(units, float("inf"))
    ends = [run.fill(0, limits.first_width)]
    while ends[-1] < len(units):
        ends.append(run.fill(ends[-1], limits.line_width))
    return _balanced(run, limits, 0, len(ends))[1]


def fill_lines(units: Sequence[TextUnit], limits: CueLimits) -> list[tuple[int, int]]:
    """Return the (first, end) unit of every line of a text of any length, each line as full as it gets."""
    run = _Run(units, float("inf"))
    ends = [0]
    while ends[-1] < len(units):
        ends.append(run.fill(ends[-1], limits.line_width - (limits.reserved if len(ends) == 1 else 0)))
    return list(pairwise(ends))


def _balanced(run: _Run, limits: CueLimits, first: int, n_lines: int) -> tuple[float, list[tuple[int, int]]]:
    """Return the cost and the cuts of the best way to set the units from `first` on in `n_lines` lines."""
    columns = limits.line_width - (limits.reserved if first == 0 else 0)
    reach = run.fill(first, columns)
    n_units = len(run.units)
    if n_lines == 1:
        return (_fullness(run, first, n_units, columns), [(first, n_units)]) if reach == n_units else (float("inf"), [])
    best: tuple[float, list[tuple[int, int]]] = (float("inf"), [])
    for end in range(first + 1, min(reach, n_units - 1) + 1):
        rest, cuts = _balanced(run, limits, end, n_lines - 1)
        cost = rest + _fullness(run, first, end, columns) + _line_penalty(run, end)
        if cost < best[0]:
            best = (cost, [(first, end), *cuts])
    return best


def _fullness(run: _Run, first: int, end: int, columns: int) -> float:
    # Squares: two half-full lines cost less than a full and an empty one.
    return (run.width(first, end) / columns) ** 2


def _line_penalty(run: _Run, end: int) -> float:
    if run.ends_sentence(end):
        return 0.0
    if run.ends_clause(end):
        return _LINE_CUT_AT_CLAUSE
    return _LINE_CUT_IN_PHRASE + _AFTER_SHORT_WORD * run.ends_in_short_word(end)


def _penalty(run: _Run, first: int, end: int, limits: CueLimits) -> float:
    """Return what is wrong with a cue of the units first..end-1."""
    cost = _CUE
    if end < len(run.units) and not run.ends_sentence(end):
        cost += _CUT_AT_CLAUSE if run.ends_clause(end) else _CUT_IN_PHRASE
        cost += _AFTER_SHORT_WORD * run.ends_in_short_word(end)
    cost += _UNEVEN * (run.width(first, end) / (limits.line_width * limits.lines)) ** 2
    cost += _SENTENCE_END_INSIDE * (run.sentence_ends[end - 1] - run.sentence_ends[first])
    cost += _PAUSE_INSIDE * (run.pauses[end - 1] - run.pauses[first])
    # A cue may stay until the next one begins.
    seconds = max(run.ends[end - 1], run.next_starts[end - 1]) - run.starts[first]
    cost += _TOO_SHORT * max(0.0, limits.min_duration_s - seconds)
    too_fast = run.width(first, end) / limits.columns_per_s / max(seconds, 0.1) - 1.0
    return cost + _TOO_FAST * max(0.0, too_fast)


def ends_sentence(text: str, following: str) -> bool:
    """Return whether a word with its marks ends a sentence; `following` is the next one."""
    mark = _last_mark(text)
    if mark not in _SENTENCE_ENDS:
        return False
    if mark != ".":
        return True
    word = "".join(char for char in text if char.isalnum())
    if len(word) == 1 or word.lower() in _ABBREVIATIONS:
        return False
    first = next((char for char in following if char.isalnum()), "")
    return not first.islower()


def ends_clause(text: str) -> bool:
    """Return whether a word has a mark after it at which a clause ends and its sentence does not."""
    return _last_mark(text) in _CLAUSE_ENDS


def _last_mark(text: str) -> str:
    """Return the last character, closing quotation marks and brackets passed over."""
    bare = text
    while len(bare) > 1 and (bare[-1] in "\"'" or unicodedata.category(bare[-1]) in {"Pe", "Pf"}):
        bare = bare[:-1]
    return bare[-1:]
