"""Text and its timed words in, units out: what a subtitle may not be cut inside of, each with its times and width.

A unit is a word with the punctuation that belongs to it, or a single character of a script written without spaces.
All characters come from the text, so nothing of it is lost; the words only say when.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qwen3_asr_onnx.results import Word
from qwen3_asr_onnx.text.scripts import column_width, is_spaceless, opens, split_clusters

__all__ = ["TextSpan", "TextUnit", "TimedText", "estimate_words", "make_units", "place_words", "text_pieces"]

# Small kana, prolonged sound and iteration marks: characters of words that may not begin a line (JIS X 4051).
_NEVER_FIRST = frozenset("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶーゝゞヽヾ々〻〜")


@dataclass(frozen=True, slots=True)
class TimedText:
    """A piece of text and when it is spoken, in seconds from the start of the input audio."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class TextUnit:
    """What stays together on one line.

    Attributes:
        words: its timed parts; more than one where several aligned words are written without a space.
        spaced: whether a space goes before it when it is not first in its line.
        width: columns; a wide (East Asian) character takes two.
    """

    words: tuple[TimedText, ...]
    spaced: bool
    width: int

    @property
    def text(self) -> str:
        """The unit as it is written."""
        return "".join(word.text for word in self.words)

    @property
    def start_s(self) -> float:
        """When its first word begins."""
        return self.words[0].start_s

    @property
    def end_s(self) -> float:
        """When the last of its words to end has ended."""
        return max(word.end_s for word in self.words)


@dataclass(frozen=True, slots=True)
class TextSpan:
    """The place of a word in a text, as character offsets, and its times in seconds."""

    first: int
    end: int
    start_s: float
    end_s: float


def place_words(text: str, words: Sequence[Word]) -> list[TextSpan]:
    """Return where the words stand in their text, each from its first to its last letter or digit.

    A word without any is passed over, and so is one that neither names its place nor is found in its turn.
    """
    placed: list[tuple[int, Word]] = []
    reached = 0
    for word in words:
        start = text.find(word.text, reached) if word.start_char is None else word.start_char
        if start >= reached:
            placed.append((start, word))
            reached = start + 1
    spans: list[TextSpan] = []
    for (start, word), end in zip(placed, [*(start for start, _ in placed[1:]), len(text)], strict=False):
        letters = [index for index in range(start, end) if text[index].isalnum()]
        if letters:
            spans.append(TextSpan(letters[0], letters[-1] + 1, word.start_s, word.end_s))
    return spans


def estimate_words(text: str, start_s: float, end_s: float) -> list[TextSpan]:
    """Return the words of a text as if every column of it took the same time. An estimate: nothing was measured.

    The first word begins at `start_s`, the last one ends at `end_s`.
    """
    spans: list[TextSpan] = []
    ranges = list(_word_ranges(text))
    if not ranges:
        return []
    reached = ranges[0][0]
    per_column_s = (end_s - start_s) / max(1, column_width(text[reached : ranges[-1][1]]))
    columns = 0
    for first, end in ranges:
        # Widths are summed from range to range, so that a long text takes linear time.
        before = columns + column_width(text[reached:first])
        columns = before + column_width(text[first:end])
        reached = end
        spans.append(TextSpan(first, end, start_s + before * per_column_s, start_s + columns * per_column_s))
    return spans


def make_units(text: str, spans: Sequence[TextSpan], max_width: int) -> list[TextUnit]:
    """Return the whole text as units no wider than `max_width` columns; [] when there are no spans.

    Punctuation goes with the word it stands at: opening marks with the next word, all else with the one before. A word
    wider than a line is divided; only the times of its parts are then interpolated inside the word's own.
    """
    if not spans:
        return []
    starts = [0, *(_boundary(text, left.end, right.first) for left, right in pairwise(spans)), len(text)]
    units: list[TextUnit] = []
    for (first, end), span in zip(pairwise(starts), spans, strict=True):
        piece = " ".join(text[first:end].split())
        word = TimedText(piece, span.start_s, span.end_s)
        spaced = bool(units) and text[first - 1].isspace()
        if units and not spaced and not _may_break(units[-1].words[-1].text[-1], piece[0]):
            last = units.pop()
            units.append(_unit((*last.words, word), last.spaced))
        else:
            units.append(_unit((word,), spaced))
    return [part for unit in units for part in _divide(unit, max_width)]


def text_pieces(text: str) -> list[tuple[int, int]]:
    """Return first and end of the pieces of a text, each a word with the marks at it; [] without a word."""
    ranges = list(_word_ranges(text))
    if not ranges:
        return []
    starts = [0, *(_boundary(text, left[1], right[0]) for left, right in pairwise(ranges)), len(text)]
    return list(pairwise(starts))


def _word_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield first and end of every word: a run of letters and digits, or one character of a script without spaces."""
    first: int | None = None
    for index, char in enumerate(text):
        alone = char.isalnum() and is_spaceless(char)
        if first is not None and (alone or char.isspace()):
            yield first, index
            first = None
        if alone:
            yield index, index + 1
        elif first is None and char.isalnum():
            first = index
    if first is not None:
        yield first, len(text)


def _boundary(text: str, left_end: int, right_first: int) -> int:
    """Return where the right word's text begins in the gap between two words."""
    # What follows the last space belongs to the right word: `said, "Hello` is cut before the quotation mark.
    start = next((at for at in range(right_first, left_end, -1) if text[at - 1].isspace()), right_first)
    while True:
        before = left_end + len(text[left_end:start].rstrip())
        if before == left_end or not opens(text[before - 1]):
            return start
        start = before - 1


def _unit(words: tuple[TimedText, ...], spaced: bool) -> TextUnit:
    return TextUnit(words, spaced, column_width("".join(word.text for word in words)))


def _divide(unit: TextUnit, max_width: int) -> Iterator[TextUnit]:
    """Yield a unit that fits as it is, a wider one in parts."""
    if unit.width <= max_width:
        yield unit
        return
    spaced = unit.spaced
    for word in unit.words:
        for part, part_spaced in _divide_word(word, max_width):
            yield _unit((part,), spaced or part_spaced)
            spaced = False


def _divide_word(word: TimedText, max_width: int) -> Iterator[tuple[TimedText, bool]]:
    """Yield parts of a word and whether a space preceded each, times in proportion to width."""
    clusters = list(split_clusters(word.text))
    widths = [column_width(cluster) for cluster in clusters]
    per_column_s = (word.end_s - word.start_s) / max(1, sum(widths))
    first, columns, spaced = 0, 0, False
    while first < len(clusters):
        end = _end_of_part(clusters, widths, first, max_width)
        start_s = word.start_s + columns * per_column_s
        columns += sum(widths[first:end])
        yield TimedText("".join(clusters[first:end]), start_s, word.start_s + columns * per_column_s), spaced
        spaced = end < len(clusters) and clusters[end].isspace()
        columns += spaced
        first = end + spaced


def _end_of_part(clusters: Sequence[str], widths: Sequence[int], first: int, max_width: int) -> int:
    """Return where a part that begins at `first` ends: at the last space that fits, or where a line may be cut."""
    end, width = first, 0
    while end < len(clusters) and (end == first or width + widths[end] <= max_width):
        width += widths[end]
        end += 1
    if end == len(clusters):
        return end
    spaces = [at for at in range(first + 1, end + 1) if clusters[at].isspace()]
    if spaces:
        return spaces[-1]
    return next((at for at in range(end, first, -1) if _may_cut(clusters[at - 1][0], clusters[at][0])), end)


def _may_break(left: str, right: str) -> bool:
    """Return whether a line may end between two words that are written without a space."""
    return (is_spaceless(left) or is_spaceless(right)) and _may_cut(left, right)


def _may_cut(left: str, right: str) -> bool:
    """Return whether typography lets a line end after `left` and the next begin with `right`."""
    if right in _NEVER_FIRST or unicodedata.category(right) in {"Pe", "Pf", "Po", "Mn", "Mc", "Me"}:
        return False
    return not opens(left)
