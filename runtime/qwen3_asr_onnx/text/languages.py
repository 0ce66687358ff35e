"""Language names as the model knows them: what a user types ("EN", "en-US", "deutsch") in, the prompt's name out."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from types import MappingProxyType

from qwen3_asr_onnx.errors import OptionsError

from .scripts import SPACELESS_LANGUAGES

__all__ = ["LANGUAGES", "LANGUAGE_CODES", "joins_with_space", "normalize_name", "resolve_language"]

LANGUAGE_CODES = MappingProxyType(
    {
        "Chinese": "zh",
        "English": "en",
        "Cantonese": "yue",
        "Arabic": "ar",
        "German": "de",
        "French": "fr",
        "Spanish": "es",
        "Portuguese": "pt",
        "Indonesian": "id",
        "Italian": "it",
        "Korean": "ko",
        "Russian": "ru",
        "Thai": "th",
        "Vietnamese": "vi",
        "Japanese": "ja",
        "Turkish": "tr",
        "Hindi": "hi",
        "Malay": "ms",
        "Dutch": "nl",
        "Swedish": "sv",
        "Danish": "da",
        "Finnish": "fi",
        "Polish": "pl",
        "Czech": "cs",
        "Filipino": "fil",
        "Persian": "fa",
        "Greek": "el",
        "Romanian": "ro",
        "Hungarian": "hu",
        "Macedonian": "mk",
    }
)
"""Name -> primary language subtag (BCP 47), in the order of the official list. A checkpoint's own list may differ."""

LANGUAGES: tuple[str, ...] = tuple(LANGUAGE_CODES)
"""The 30 languages of the released checkpoints, in the official order."""

# Subtags people use for the same languages: ISO 639-1 Tagalog; ISO 639-3 Mandarin, Iranian Persian, standard Malay.
_OTHER_CODES = {"tl": "Filipino", "cmn": "Chinese", "pes": "Persian", "zsm": "Malay"}
_ENDONYMS = {
    "Chinese": "中文 汉语 漢語 普通话 普通話 国语 國語 华语 華語 mandarin",
    "Cantonese": "粤语 粵語 广东话 廣東話",
    "Arabic": "العربية عربي",
    "German": "Deutsch",
    "French": "français",
    "Spanish": "español castellano",
    "Portuguese": "português",
    "Indonesian": "bahasa_indonesia",
    "Italian": "italiano",
    "Korean": "한국어 조선말",
    "Russian": "русский",
    "Thai": "ไทย ภาษาไทย",
    "Vietnamese": "tiếng_việt",
    "Japanese": "日本語 にほんご",
    "Turkish": "Türkçe",
    "Hindi": "हिन्दी हिंदी",
    "Malay": "bahasa_melayu melayu",
    "Dutch": "Nederlands",
    "Swedish": "svenska",
    "Danish": "dansk",
    "Finnish": "suomi",
    "Polish": "polski",
    "Czech": "čeština česky",
    "Filipino": "pilipino tagalog",
    "Persian": "فارسی farsi",
    "Greek": "ελληνικά",
    "Romanian": "română",
    "Hungarian": "magyar",
    "Macedonian": "македонски",
}
"""Name -> what its speakers call the language, and other names in use; a space inside one is written as _."""


def _plain(name: str) -> str:
    """Return a name in any case, with or without its accents, in one form."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("_", " "))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


_NAME_OF_ENDONYM = {_plain(endonym): name for name, names in _ENDONYMS.items() for endonym in names.split()}
# ISO 639-2 and 639-3, in the order of the official list; the older bibliographic forms behind a stroke.
_THREE_LETTERS = (
    "zho/chi eng yue ara deu/ger fra/fre spa por ind ita kor rus tha vie jpn tur hin msa/may nld/dut swe dan fin pol "
    "ces/cze fil/tgl fas/per ell/gre ron/rum hun mkd/mac"
)
_NAME_OF_CODE = {code: name for name, code in LANGUAGE_CODES.items()} | _OTHER_CODES
for _name, _codes in zip(LANGUAGE_CODES, _THREE_LETTERS.split(), strict=True):
    _NAME_OF_CODE |= dict.fromkeys(_codes.split("/"), _name)


def normalize_name(name: str) -> str:
    """Return a language name in the model's spelling: first character upper case, the rest lower case."""
    stripped = name.strip()
    return stripped[:1].upper() + stripped[1:].lower()


def resolve_language(value: str, supported: Sequence[str] = LANGUAGES) -> str:
    """Return the entry of `supported` that `value` means.

    Args:
        value: a language name in any case, in English or in the language itself ("Deutsch", "中文"), or a code: "en",
            "en-US", "zh_CN", "yue", "fil".
        supported: the names the checkpoint was trained with.

    Returns:
        The name exactly as spelled in `supported`.

    Raises:
        OptionsError: nothing in `supported` is meant; the message suggests the closest name and lists all of them.
    """
    wanted = value.strip().casefold()
    by_folded_name = {name.casefold(): name for name in supported}
    named = _name_of_code(wanted) or _NAME_OF_ENDONYM.get(_plain(wanted), "")
    found = by_folded_name.get(wanted) or by_folded_name.get(named.casefold())
    if found is not None:
        return found
    meant = f" ({named})" if named else ""
    by_any_name = {endonym: name for endonym, name in _NAME_OF_ENDONYM.items() if name in supported} | by_folded_name
    close = difflib.get_close_matches(wanted, by_any_name, n=1, cutoff=0.5)
    hint = f"did you mean {by_any_name[close[0]]}? " if close else ""
    raise OptionsError(
        f"language {value!r}{meant} is not one this model knows; {hint}Give a name or a code of: {', '.join(supported)}"
    )


def joins_with_space(language: str) -> bool:
    """Return whether two pieces of text in this language are joined with a space; True for an unknown language."""
    return language not in SPACELESS_LANGUAGES


def _name_of_code(tag: str) -> str:
    """Return the official name for a case-folded language tag, "" when the tag's primary subtag is not a known code."""
    primary, *rest = tag.replace("_", "-").split("-")
    if primary == "zh" and "yue" in rest:  # BCP 47 lets Cantonese be written as an extension of Chinese
        primary = "yue"
    return _NAME_OF_CODE.get(primary, "")
