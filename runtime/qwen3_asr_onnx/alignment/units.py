"""A transcript and its language -> the units the forced aligner was trained on, each with its place in the transcript.

Units are made exactly as the official package (qwen-asr 0.0.6) makes them: letters, digits and apostrophes are kept,
Chinese characters stand alone, Japanese is cut by nagisa, Korean at the longest prefix found in a word list. What the
official package drops, punctuation and spacing, is kept here beside the units.
"""

from __future__ import annotations

import functools
import itertools
import lzma
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from qwen3_asr_onnx.errors import MissingExtra
from qwen3_asr_onnx.text.scripts import IDEOGRAPHS, opens

__all__ = ["ALIGNER_LANGUAGES", "Unit", "segment_words", "split_units"]

ALIGNER_LANGUAGES = (
    "Chinese",
    "Cantonese",
    "English",
    "German",
    "Spanish",
    "French",
    "Italian",
    "Portuguese",
    "Russian",
    "Korean",
    "Japanese",
)
"""The languages of the released aligner, in the order of its config."""

_IDEOGRAPH = re.compile(f"[{IDEOGRAPHS}]")

_AT_IDEOGRAPHS = re.compile(f"[{IDEOGRAPHS}]|[^{IDEOGRAPHS}]+")

SHORTEST_KOREAN_WORD = 2

_nagisa_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit to align.

    Attributes:
        text: letters, digits and apostrophes: what the aligner sees.
        written: the same part of the transcript as it stands there, with the punctuation around it.
        space_after: whether white space follows in the transcript.
        start_char: where `written` begins in the transcript.
    """

    text: str
    written: str
    space_after: bool
    start_char: int


def segment_words(text: str, language: str) -> list[Unit]:
    """Return the units of a transcript. Joined, with spaces where noted, they spell it but for runs of white space.

    Args:
        text: the transcript.
        language: a language name in any case. Only Japanese and Korean have rules of their own.

    Raises:
        MissingExtra: Japanese, and nagisa is not installed.
    """
    units = split_units(text, language)
    japanese = language.lower() == "japanese"
    if not units:
        return []
    spans = _locate(
        units, list(_normalized_clusters(text)) if japanese else [(i, i + 1, c) for i, c in enumerate(text)]
    )
    cuts = [0, *(_cut(text, left[1], right[0]) for left, right in itertools.pairwise(spans)), len(text)]
    return [
        Unit(
            text=unit,
            written=" ".join(text[start:end].split()),
            space_after=any(map(str.isspace, text[max(start, end - 1) : end + 1])),
            start_char=end - len(text[start:end].lstrip()),
        )
        for unit, (start, end) in zip(units, itertools.pairwise(cuts), strict=True)
    ]


def split_units(text: str, language: str) -> list[str]:
    """Return the units of a transcript as the official package makes them; arguments and errors as `segment_words`."""
    rule = language.lower()
    if rule == "japanese":
        return _cleaned(_japanese_words(text))
    if rule == "korean":
        return _cleaned(part for token in text.split() for part in _korean_parts(token))
    return [part for token in _cleaned(text.split()) for part in _AT_IDEOGRAPHS.findall(token)]


def _is_kept(character: str) -> bool:
    # Python 3.10 does not know the last ideographs yet: its Unicode ends at U+9FFC.
    return character == "'" or unicodedata.category(character)[0] in "LN" or _IDEOGRAPH.match(character) is not None


def _cleaned(tokens: Sequence[str] | Iterator[str]) -> list[str]:
    """Drop the characters that are not aligned, and the tokens of which nothing is left."""
    cleaned = ("".join(filter(_is_kept, token)) for token in tokens)
    return [token for token in cleaned if token]


def _korean_parts(token: str) -> Iterator[str]:
    """Yield the longest listed prefix and the rest, or the whole token: soynlp's LTokenizer with equal scores."""
    words = _korean_words()
    prefixes = range(len(token) - 1, SHORTEST_KOREAN_WORD - 1, -1) if token not in words else ()
    end = next((end for end in prefixes if token[:end] in words), len(token))
    yield token[:end]
    if end < len(token):
        yield token[end:]


@functools.cache
def _korean_words() -> frozenset[str]:
    data = resources.files(__package__).joinpath("data", "korean_words.txt.xz").read_bytes()
    return frozenset(lzma.decompress(data).decode("utf-8").split())


def _japanese_words(text: str) -> list[str]:
    try:
        import nagisa
    except ImportError as error:
        raise MissingExtra("aligning Japanese needs nagisa: pip install 'qwen3-asr-onnx[align]'") from error
    with _nagisa_lock:  # its network builds one graph per process
        words: list[str] = nagisa.tagging(text).words
    return words


def _normalized_clusters(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the parts of a text that Unicode NFKC, which nagisa applies, changes independently: start, end, result."""
    start = 0
    for end in range(1, len(text) + 1):
        head, tail = text[start:end], text[end : end + 1]
        normalized = unicodedata.normalize("NFKC", head)
        if unicodedata.normalize("NFKC", head + tail) == normalized + unicodedata.normalize("NFKC", tail):
            yield start, end, normalized
            start = end


def _locate(units: Sequence[str], clusters: Sequence[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Return where each unit lies in the text: the kept characters of both follow each other in the same order."""
    owners = [(start, end) for start, end, normalized in clusters for c in normalized if _is_kept(c)]
    spans = []
    first = 0
    for unit in units:
        last = first + len(unit) - 1
        spans.append((owners[min(first, len(owners) - 1)][0], owners[min(last, len(owners) - 1)][1]))
        first = last + 1
    return spans


def _cut(text: str, end: int, start: int) -> int:
    """Return where the text between two units is divided: at its last white space, else in front of what opens."""
    between = text[end:start]
    spaces = [i for i, c in enumerate(between) if c.isspace()]
    if spaces:
        return end + spaces[-1] + 1
    opening = next((i for i, c in enumerate(between) if opens(c)), None)
    return max(end, start) if opening is None else end + opening
