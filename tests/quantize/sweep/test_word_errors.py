"""Counts checked by hand and against jiwer on whole texts; intervals against what they must contain."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="needs the sweep extra")

import jiwer

from qwen3_asr_onnx.errors import MissingExtra
from qwen3_asr_onnx_quantize.sweep.word_errors import ErrorCounts, count_errors, difference, rate, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, it's Anna-Lena!", ["dont", "stop", "its", "anna", "lena"]),
        ("你好,world", ["你", "好", "world"]),
        ("ÜBER Straße", ["über", "strasse"]),
        ("ABC", ["abc"]),
        ("こんにちは。", list("こんにちは")),
        ("  ", []),
    ],
)
def test_words_that_count(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_counts_by_hand() -> None:
    said = ["one two three", "", "four", "五六"]
    heard = ["one too three four", "noise here", "", "五七"]
    words = count_errors(said, heard)
    assert words.errors.tolist() == [2, 2, 1, 1]
    assert words.units.tolist() == [3, 0, 1, 2]
    characters = count_errors(said, heard, characters=True)
    assert characters.errors.tolist() == [5, 9, 4, 1]
    assert characters.units.tolist() == [11, 0, 4, 2]


def test_the_rate_is_jiwers() -> None:
    said = ["the cat sat on the mat", "a quick brown fox", "hello"]
    heard = ["the cat sat mat", "a quick brown fox jumps", "yellow"]
    assert rate(count_errors(said, heard)).value == pytest.approx(jiwer.wer(said, heard))


def test_intervals() -> None:
    rng = np.random.default_rng(0)
    units = rng.integers(3, 9, 400)
    errors = rng.binomial(units, 0.1)
    found = rate(ErrorCounts(errors, units))
    assert found.low < 0.1 < found.high
    assert 0.01 < found.high - found.low < 0.04
    same = difference(ErrorCounts(errors, units), ErrorCounts(errors, units))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = difference(ErrorCounts(errors + 1, units), ErrorCounts(errors, units))
    assert worse.low > 0.1


def test_a_missing_jiwer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingExtra, match=r"qwen3-asr-onnx\[sweep\]"):
        count_errors(["a"], ["b"])
