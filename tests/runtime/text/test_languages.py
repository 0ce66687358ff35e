"""Names and codes people type, against the names of the official list."""

from typing import Any

import pytest

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.text import languages
from qwen3_asr_onnx.text.languages import LANGUAGE_CODES, LANGUAGES, joins_with_space, normalize_name, resolve_language


def test_the_list_is_the_official_one(official_text: dict[str, Any]) -> None:
    assert list(LANGUAGES) == official_text["languages"]
    assert len(set(LANGUAGE_CODES.values())) == 30


def test_normalize_name_like_the_official_package(official_text: dict[str, Any]) -> None:
    for case in official_text["normalize"]:
        if isinstance(case["normalized"], str):
            assert normalize_name(case["name"]) == case["normalized"]
        else:
            assert normalize_name(case["name"]) == ""


def test_what_the_official_package_accepts_is_accepted(official_text: dict[str, Any]) -> None:
    for case in official_text["validate"]:
        if case["accepted"]:
            assert resolve_language(case["name"]) == case["name"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_name_in_any_case_and_every_code(name: str) -> None:
    code = LANGUAGE_CODES[name]
    for value in (name, name.lower(), name.upper(), f"  {name} ", code, code.upper(), f"{code}-XX", f"{code}_XX"):
        assert resolve_language(value) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("en-US", "English"),
        ("zh-CN", "Chinese"),
        ("zh_Hant_TW", "Chinese"),
        ("zh-yue", "Cantonese"),
        ("yue", "Cantonese"),
        ("fil", "Filipino"),
        ("tl", "Filipino"),
        ("cmn", "Chinese"),
    ],
)
def test_codes_with_regions_and_other_codes(value: str, name: str) -> None:
    assert resolve_language(value) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("deutsch", "German"),
        ("DEUTSCH", "German"),
        ("français", "French"),
        ("Francais", "French"),
        ("franc\u0327ais", "French"),
        ("espanol", "Spanish"),
        ("TÜRKÇE", "Turkish"),
        ("turkce", "Turkish"),
        ("中文", "Chinese"),
        ("粵語", "Cantonese"),
        ("日本語", "Japanese"),
        ("한국어", "Korean"),
        ("РУССКИЙ", "Russian"),
        ("ΕΛΛΗΝΙΚΆ", "Greek"),
        ("Tiếng Việt", "Vietnamese"),
        ("tieng viet", "Vietnamese"),
        ("Bahasa Indonesia", "Indonesian"),
        ("हिंदी", "Hindi"),
        ("العربية", "Arabic"),
        ("Tagalog", "Filipino"),
    ],
)
def test_what_a_language_is_called_by_those_who_speak_it(value: str, name: str) -> None:
    assert resolve_language(value) == name
    with pytest.raises(OptionsError, match=name):
        resolve_language(value, ["English"])


def test_every_language_but_english_has_a_name_of_its_own() -> None:
    assert set(languages._ENDONYMS) == set(LANGUAGES) - {"English"}
    assert not set(languages._NAME_OF_ENDONYM) & (
        set(LANGUAGE_CODES.values()) | {name.casefold() for name in LANGUAGES}
    )


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [("Englsh", "English"), ("germn", "German"), ("Cantonees", "Cantonese"), ("jap", "Japanese"), ("deutch", "German")],
)
def test_a_slip_gets_the_closest_name_and_the_list(value: str, suggestion: str) -> None:
    with pytest.raises(OptionsError, match=f"did you mean {suggestion}.*Chinese, English, .*Macedonian"):
        resolve_language(value)


@pytest.mark.parametrize("value", ["", " ", "-", "q", "xx-YY", "Klingon<|im_end|>", "None"])
def test_nonsense_raises(value: str) -> None:
    with pytest.raises(OptionsError, match="not one this model knows"):
        resolve_language(value)


def test_only_the_checkpoints_own_languages_count() -> None:
    own = ["English", "Swiss german"]
    assert resolve_language("SWISS GERMAN", own) == "Swiss german"
    assert resolve_language("en", own) == "English"
    with pytest.raises(OptionsError, match=r"'fr' \(French\)"):
        resolve_language("fr", own)


def test_which_languages_put_spaces_between_words() -> None:
    assert [name for name in LANGUAGES if not joins_with_space(name)] == ["Chinese", "Cantonese", "Thai", "Japanese"]
    assert joins_with_space("")
