"""Parsing, clean-up and joining, against the official package where it is followed."""

from typing import Any

import pytest

from qwen3_asr_onnx.text.answer import (
    ParsedOutput,
    collapse_repetitions,
    join_texts,
    merge_languages,
    named_language,
    parse_output,
    read_answer,
)


def test_parse_like_the_official_package(official_text: dict[str, Any]) -> None:
    for case in official_text["parse"]:
        assert parse_output(case["raw"], case["forced"]) == ParsedOutput(case["language"], case["text"]), case


def test_collapse_like_the_official_package(official_text: dict[str, Any]) -> None:
    for case in official_text["repetitions"]:
        text = "".join(unit * count for unit, count in case["parts"])
        assert collapse_repetitions(text, case["threshold"]) == case["text"], case


def test_merge_languages_like_the_official_package(official_text: dict[str, Any]) -> None:
    for case in official_text["merge_languages"]:
        assert merge_languages(case["languages"]) == case["merged"]


def test_forced_language_and_empty_output_give_no_language() -> None:
    assert parse_output(" \n", "English") == ParsedOutput("", "")


def test_many_loops_need_no_deep_recursion() -> None:
    loops = ["".join(f"{first}{second}" * 20 for second in "bcdefghijk") for first in "lmnopqrstu"]
    text = "".join(loops) * 30  # 3000 loops; the official clean-up recurses once for each
    assert collapse_repetitions(text) == "".join(f"{a}{b}" for a in "lmnopqrstu" for b in "bcdefghijk") * 30


@pytest.mark.parametrize(
    "text",
    [
        "almost, but not quite. " * 20_000,
        ("abcdefghij" * 19 + "X") * 2_000,
        ("ab" * 19 + "c") * 10_000,
        "".join(chr(0x4E00 + i % 20_000) for i in range(400_000)),
    ],
    ids=["long-phrase", "broken-loops", "broken-pairs", "no-repetition"],
)
def test_long_text_without_a_loop_is_left_alone(text: str) -> None:
    assert collapse_repetitions(text) == text  # a quadratic search would not come back for hours


@pytest.mark.parametrize(
    ("pieces", "joined"),
    [
        ([], ""),
        ([("", "English"), ("  ", "")], ""),
        ([("One.", "English"), ("Two.", "English")], "One. Two."),
        ([("一。", "Chinese"), ("二。", "Chinese")], "一。二。"),
        ([("一。", "Cantonese"), ("二。", "Chinese")], "一。二。"),
        ([("ก", "Thai"), ("ข", "Thai")], "กข"),
        ([("그는", "Korean"), ("이리", "Korean")], "그는 이리"),
        ([("One.", "English"), ("", ""), ("一。", "Chinese"), ("Two", "English")], "One. 一。 Two"),
        ([("用 Docker", "Chinese"), ("Kubernetes 部署", "Chinese")], "用 Docker Kubernetes 部署"),
        ([("用 Docker。", "Chinese"), ("Kubernetes 部署", "Chinese")], "用 Docker。Kubernetes 部署"),
        ([("第1", "Chinese"), ("2", "Chinese")], "第1 2"),
        ([("One ", "English"), ("two", "English"), ("\nthree", "English")], "One two\nthree"),
        ([("你好", ""), ("世界", "")], "你好世界"),
        ([("hello", ""), ("world", "")], "hello world"),
        ([("x", "Swiss german"), ("y", "Swiss german")], "x y"),
    ],
)
def test_join_texts(pieces: list[tuple[str, str]], joined: str) -> None:
    assert join_texts(pieces) == joined


def test_joining_loses_nothing() -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")
    piece = st.tuples(
        st.text("ab 你。1", max_size=6).map(str.strip), st.sampled_from(["", "English", "Chinese", "Thai"])
    )

    def check(pieces: list[tuple[str, str]]) -> None:
        joined = join_texts(pieces)
        assert joined.replace(" ", "") == "".join(text for text, _ in pieces).replace(" ", "")
        assert joined == joined.strip()

    hypothesis.settings(max_examples=200, deadline=None, database=None, derandomize=True)(
        hypothesis.given(st.lists(piece, max_size=6))(check)
    )()


def test_the_tag_is_whatever_the_manifest_names() -> None:
    raw = "language German<text>Guten Tag."
    assert read_answer(raw, tag="<text>") == ParsedOutput("German", "Guten Tag.")
    assert read_answer(raw) == ParsedOutput("", "")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("language English<asr_text>Hello", "English"),
        ("language english<asr_text>", "English"),
        ("language English", ""),
        ("language None<asr_text>", ""),
        ("Hello", ""),
    ],
)
def test_the_language_that_an_answer_names(raw: str, expected: str) -> None:
    assert named_language(raw) == expected
