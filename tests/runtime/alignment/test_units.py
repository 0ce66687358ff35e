"""Units against the official package, and the transcript kept whole beside them."""

from __future__ import annotations

import importlib.util
import re
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import load_golden

from qwen3_asr_onnx.alignment.units import ALIGNER_LANGUAGES, segment_words, split_units
from qwen3_asr_onnx.errors import MissingExtra

GOLDEN = load_golden("official_alignment.json")
NO_JAPANESE = importlib.util.find_spec("nagisa") is None


def cases(japanese: bool) -> list[dict[str, Any]]:
    return [case for case in GOLDEN["segmentation"] if (case["language"].lower() == "japanese") == japanese]


def joined(text: str, language: str) -> str:
    units = segment_words(text, language)
    return "".join(unit.written + " " * unit.space_after for unit in units)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_the_goldens_are_many() -> None:
    assert len(GOLDEN["segmentation"]) >= 200
    assert {case["language"] for case in GOLDEN["segmentation"]} >= set(ALIGNER_LANGUAGES)


def test_units_are_the_official_ones() -> None:
    for case in cases(japanese=False):
        assert split_units(case["text"], case["language"]) == case["units"], case


@pytest.mark.skipif(NO_JAPANESE, reason="needs the align extra (nagisa)")
def test_japanese_units_are_the_official_ones() -> None:
    for case in cases(japanese=True):
        assert split_units(case["text"], case["language"]) == case["units"], case


def test_nothing_of_the_transcript_is_lost() -> None:
    for case in GOLDEN["segmentation"]:
        if not case["units"] or (NO_JAPANESE and case["language"].lower() == "japanese"):
            continue
        assert squeezed(joined(case["text"], case["language"])) == squeezed(case["text"]), case
        units = segment_words(case["text"], case["language"])
        assert [unit.text for unit in units] == case["units"]
        ends = [*(unit.start_char for unit in units[1:]), len(case["text"])]
        for unit, end in zip(units, ends, strict=True):
            assert squeezed(case["text"][unit.start_char : end]) == unit.written


@given(st.text(max_size=40), st.sampled_from(["English", "Korean", "Chinese"]))
def test_no_text_is_lost_or_crashes(text: str, language: str) -> None:
    units = segment_words(text, language)
    assert [unit.text for unit in units] == split_units(text, language)
    if units:
        assert squeezed(joined(text, language)) == squeezed(text)
    assert all(unit.text and not re.search(r"\s", unit.text) for unit in units)


@pytest.mark.parametrize(
    ("text", "language", "written"),
    [
        ('He said: "Hello, (dear) world!"', "English", ["He", "said:", '"Hello,', "(dear)", 'world!"']),
        ("well - yes … no", "English", ["well -", "yes …", "no"]),
        ("¿Qué? ¡No!", "Spanish", ["¿Qué?", "¡No!"]),
        ("他说：“好”。", "Chinese", ["他", "说：", "“好”。"]),
        ("don’t re-do 3.14%", "English", ["don’t", "re-do", "3.14%"]),
        ("cafe\u0301 x", "French", ["cafe\u0301", "x"]),
        ("(날씨가)...", "Korean", ["(날씨가)..."]),  # the list knows no bracket
        ("날씨가,", "Korean", ["날씨", "가,"]),
    ],
)
def test_punctuation_stays_with_its_word(text: str, language: str, written: list[str]) -> None:
    assert [unit.written for unit in segment_words(text, language)] == written


def test_white_space_and_places_are_known() -> None:
    units = segment_words(" iPhone手机 is  (new)", "Chinese")
    assert [(unit.text, unit.space_after, unit.start_char) for unit in units] == [
        ("iPhone", False, 1),
        ("手", False, 7),
        ("机", True, 8),
        ("is", True, 10),
        ("new", False, 14),
    ]


@pytest.mark.parametrize("text", ["", " \n", "…!?", "🎉"])
@pytest.mark.parametrize("language", ["English", "Korean", "Chinese"])
def test_a_text_without_words_has_no_units(text: str, language: str) -> None:
    assert segment_words(text, language) == []


def test_japanese_without_nagisa_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nagisa", None)
    with pytest.raises(MissingExtra, match=r"qwen3-asr-onnx\[align\]"):
        segment_words("今日は", "Japanese")


def test_ideographs_are_kept_whatever_python_knows_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """U+9FFD to U+9FFF came with Unicode 14, Python 3.10 has Unicode 13: no category, so they were dropped."""
    category = unicodedata.category
    monkeypatch.setattr(unicodedata, "category", lambda c: "Cn" if c in "\u9ffd\u9ffe\u9fff\U0002a6df" else category(c))
    assert split_units("\u4e00\u9ffe\u9fffa\U0002a6df。", "Chinese") == [
        "\u4e00",
        "\u9ffe",
        "\u9fff",
        "a",
        "\U0002a6df",
    ]
