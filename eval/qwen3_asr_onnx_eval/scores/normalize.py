"""Text normalisers per language, as values with a name and a version: a score always knows how its strings were made.

Reference and hypothesis go through the same normaliser, chosen by the language of the *reference*: what a system takes
the language for never changes how it is scored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Literal, TypeAlias

from qwen3_asr_onnx.errors import MissingExtra
from qwen3_asr_onnx.text.scripts import SPACELESS_LANGUAGES

__all__ = ["CHARACTER_LANGUAGES", "Normalizer", "Unit", "normalizer_for"]

Unit: TypeAlias = Literal["word", "character"]

CHARACTER_LANGUAGES = SPACELESS_LANGUAGES | {"Korean"}
"""Scored by characters: written without spaces, or (Korean) with spaces that writers place differently."""

APOSTROPHES = dict.fromkeys(map(ord, "’‘‛ʼʻ＇′´`"), "'")
"""What keyboards, word processors and typesetters write for one, the modifier letters included."""

_TURKISH_CAPITALS = {ord("I"): "ı", ord("İ"): "i"}

_DOTTED_I = "i\u0307"
"""What Unicode's case folding makes of a capital I with a dot outside Turkish."""

_VERSION = 2
"""Of the rules here. 2: every form of apostrophe in every language, English too; format characters (soft hyphen,
zero-width joiner and non-joiner, direction marks) are nothing instead of a space; a capital dotted I is an i, and in
Turkish a capital I is a dotless one."""


@dataclass(frozen=True, slots=True)
class Normalizer:
    """How strings are made comparable, and what is counted in them.

    Attributes:
        name: with its version, for every table and row of results.
        unit: what an error is counted in; characters never include spaces.
        apply: raw text -> units joined with single spaces (words) or with nothing (characters).
    """

    name: str
    unit: Unit
    apply: Callable[[str], str]


def normalizer_for(language: str) -> Normalizer:
    """Return the normaliser of a language.

    In all of them apostrophes are made one, and what is invisible is left out. English goes through the normaliser of
    Whisper (numbers, spellings, contractions, fillers). All others: NFKC, case folded (as Turkish is in Turkish),
    punctuation and symbols turned into spaces; letters, marks and digits stay. Whisper's own one for other
    languages is not used: it drops combining marks, which are vowels in Hindi and Thai.

    Args:
        language: English name; "" for unknown, scored as words.

    Raises:
        MissingExtra: English needs whisper-normalizer.
    """
    if language == "English":
        return _whisper_english()
    if language == "Turkish":
        return _TURKISH
    return _CHARACTERS if language in CHARACTER_LANGUAGES else _WORDS


def _plain(text: str) -> str:
    """Return the text with one kind of apostrophe and without what nobody sees."""
    return "".join(c for c in text.translate(APOSTROPHES) if unicodedata.category(c) != "Cf")


def _turkish(text: str) -> str:
    return _words(unicodedata.normalize("NFKC", _plain(text)).translate(_TURKISH_CAPITALS))


def _words(text: str) -> str:
    folded = unicodedata.normalize("NFKC", _plain(text)).casefold().replace(_DOTTED_I, "i")
    kept = (c if unicodedata.category(c)[0] in "LMN" or c == "'" else " " for c in folded)
    # An apostrophe is part of a word only inside it (l'homme); a quotation mark is not.
    return " ".join(word for raw in "".join(kept).split() if (word := raw.strip("'")))


def _characters(text: str) -> str:
    return _words(text).replace(" ", "").replace("'", "")


_WORDS = Normalizer(f"unicode-words@{_VERSION}", "word", _words)
_TURKISH = Normalizer(f"unicode-words-turkish@{_VERSION}", "word", _turkish)
_CHARACTERS = Normalizer(f"unicode-characters@{_VERSION}", "character", _characters)


@lru_cache(maxsize=1)
def _whisper_english() -> Normalizer:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ModuleNotFoundError as error:
        raise MissingExtra("scoring English needs whisper-normalizer: pip install 'qwen3-asr-onnx[eval]'") from error
    normalize = EnglishTextNormalizer()
    name = f"whisper-english@{version('whisper-normalizer')}+{_VERSION}"
    return Normalizer(name, "word", lambda text: str(normalize(_plain(text))))
