"""Widths, spaces and characters of scripts that are not English."""

from __future__ import annotations

import pytest

from qwen3_asr_onnx.text.scripts import column_width, is_spaceless, opens, split_clusters


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("你好", 4),
        ("e\u0301", 1),
        ("👩\u200d👩\u200d👧", 2),
        ("👍🏽", 2),
        ("ก็", 1),
        ("ກີ", 1),  # Lao: the vowel's combining class is 0
        ("မြို့", 2),  # Myanmar: of its four marks the medial ra alone has a width of its own
        ("ស្ត្រី", 3),  # Khmer: two subscript signs and a vowel without width
        ("한", 2),
        ("\u1112\u1161\u11ab", 2),
        ("ﾊﾝ", 2),
        ("", 0),
    ],
)
def test_columns(text: str, width: int) -> None:
    assert column_width(text) == width


def test_scripts_without_spaces() -> None:
    assert all(map(is_spaceless, "你。，ー々カｶกລမក𠀋Ａ"))
    assert not any(map(is_spaceless, ["a", "1", "é", "한", "ᄒ", "ﾡ", "ह", "م", " ", "", "😀"]))


def test_a_reader_sees_flags_families_and_accents_whole() -> None:
    assert list(split_clusters("e\u0301👩\u200d👧🇩🇪🇫🇷ab")) == ["e\u0301", "👩\u200d👧", "🇩🇪", "🇫🇷", "a", "b"]


def test_opening_marks() -> None:
    assert all(map(opens, "([{“«¿¡「"))
    assert not any(map(opens, ")]}”»?!」'\"a"))
