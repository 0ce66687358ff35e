"""What writing systems differ in for whoever joins, cuts or measures text: spaces, widths, and what clings to what."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = [
    "IDEOGRAPHS",
    "SPACELESS",
    "SPACELESS_LANGUAGES",
    "column_width",
    "is_spaceless",
    "opens",
    "split_clusters",
]

SPACELESS_LANGUAGES = frozenset({"Chinese", "Cantonese", "Japanese", "Thai"})
"""Those of the model's languages that are written without spaces between words."""

SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Myanmar, Khmer
    "\u2e80-\u312f\u3190-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff"  # CJK marks, kana, bopomofo, ideographs, Yi
    "\ufe30-\ufe6f\uff00-\uff9f\uffe0-\uffe6"  # vertical, small and full-width forms, half-width kana
)
"""The characters of scripts without spaces between words, their marks included, as the inside of a regular expression's
character class. Hangul is wide and not among them: Korean has spaces."""

IDEOGRAPHS = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf"
    "\uf900-\ufaff"
)
"""The characters that stand alone in the official package (qwen-asr 0.0.6), as the inside of a character class.
Narrower than `SPACELESS`, and kept as it is: the forced aligner was trained on words that were cut by it."""

_ANY_SPACELESS = re.compile(f"[{SPACELESS}]")

_ZERO_WIDTH_JOINER = "\u200d"
_REGIONAL = re.compile("[\U0001f1e6-\U0001f1ff]")


def is_spaceless(char: str) -> bool:
    """Return whether a character belongs to a script without spaces between words; False for ""."""
    return _ANY_SPACELESS.match(char) is not None


def opens(char: str) -> bool:
    """Return whether a mark belongs to what follows it."""
    return unicodedata.category(char) in {"Ps", "Pi"} or char in "¿¡"


def column_width(text: str) -> int:
    """Return the columns a text takes, in a subtitle or on a terminal.

    Two for what Unicode calls wide or full-width (East_Asian_Width), none for what joins the character before it. That
    is told by the general category (Mn, Me, Cf), not by the canonical combining class: the class only orders marks, and
    is 0 for most vowel signs of Thai, Lao, Khmer and Myanmar, which stand above or below their consonant all the same.
    """
    width = 0
    previous = ""
    for char in text:
        if previous != _ZERO_WIDTH_JOINER and not _extends(char):
            width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        previous = char
    return width


def split_clusters(text: str) -> Iterator[str]:
    """Yield the characters as a reader sees them: with their accents, joined emoji and flags whole."""
    cluster = ""
    for char in text:
        flag = len(cluster) == 1 and _REGIONAL.match(cluster) and _REGIONAL.match(char)
        if cluster and not (_extends(char) or cluster[-1] == _ZERO_WIDTH_JOINER or flag):
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


def _extends(char: str) -> bool:
    """Return whether a character joins the one before and takes no column of its own."""
    return (
        unicodedata.category(char) in {"Mn", "Me", "Cf"}
        or "\U0001f3fb" <= char <= "\U0001f3ff"  # skin tones
        or "\u1160" <= char <= "\u11ff"  # vowels and final consonants of decomposed Korean syllables
    )
