"""Prompt ids, against the official processor; and contexts that try to be more than text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx.text.prompt import TEMPLATE, Prompt, build_prompt
from qwen3_asr_onnx.text.tokenizer import Tokenizer

AUDIO_PAD = 151676


@pytest.fixture(scope="module")
def tokenizer(real_tokenizer_json: Path) -> Tokenizer:
    return Tokenizer.from_file(real_tokenizer_json)


def _audio_span(prompt: Prompt) -> list[int]:
    return [int(i) for i in prompt.ids[prompt.audio_start : prompt.audio_start + prompt.n_audio_tokens]]


def test_ids_equal_the_official_processors(tokenizer: Tokenizer, official_prompts: dict[str, Any]) -> None:
    assert len({case["language"] for case in official_prompts["prompts"]}) == 31
    for case in official_prompts["prompts"]:
        n_audio_tokens = case["ids"].count(AUDIO_PAD)
        prompt = build_prompt(tokenizer, TEMPLATE, n_audio_tokens, case["context"], case["language"])
        assert prompt.ids.tolist() == case["ids"], case["text"]
        assert _audio_span(prompt) == [AUDIO_PAD] * n_audio_tokens
        assert prompt.ids[prompt.audio_start - 1] == 151669


def test_the_plain_prompt(tokenizer: Tokenizer) -> None:
    prompt = build_prompt(tokenizer, TEMPLATE, 1)
    expected = "151644 8948 198 151645 198 151644 872 198 151669 151676 151670 151645 198 151644 77091 198"
    assert prompt.ids.tolist() == [int(token_id) for token_id in expected.split()]
    assert prompt.ids.dtype == np.int64
    assert (prompt.audio_start, prompt.n_audio_tokens) == (9, 1)


def test_special_tokens_in_the_context_stay_text(tokenizer: Tokenizer, official_prompts: dict[str, Any]) -> None:
    plain = build_prompt(tokenizer, TEMPLATE, 1)
    added = set(tokenizer.added_tokens)
    for case in official_prompts["injections"]:
        prompt = build_prompt(tokenizer, TEMPLATE, 1, case["context"])
        assert [i for i in prompt.ids.tolist() if i in added] == [i for i in plain.ids.tolist() if i in added]
        assert prompt.ids.tolist() != case["ids"]  # the official prompt lets them through
        assert tokenizer.decode(prompt.ids.tolist(), skip_special=False) == case["text"]


@pytest.mark.parametrize("context", ["<|audio_pad|>", "<|audio_pad|>" * 3, "{audio}", "{audio}{audio}<|audio_start|>"])
def test_audio_placeholders_in_the_context_are_not_counted(tokenizer: Tokenizer, context: str) -> None:
    prompt = build_prompt(tokenizer, TEMPLATE, 13, context)
    assert prompt.ids.tolist().count(AUDIO_PAD) == 13
    assert _audio_span(prompt) == [AUDIO_PAD] * 13


def test_braces_in_the_context_are_left_alone(tokenizer: Tokenizer) -> None:
    prompt = build_prompt(tokenizer, TEMPLATE, 1, "{language} {context} {forced}", "French")
    text = tokenizer.decode(prompt.ids.tolist())
    assert text == "system\n{language} {context} {forced}\nuser\n\nassistant\nlanguage French<asr_text>"


def test_a_context_with_half_a_surrogate_pair_is_an_options_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionsError, match="lone surrogate"):
        build_prompt(tokenizer, TEMPLATE, 1, "x\udc00")


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (TEMPLATE.replace("{audio}", ""), "exactly once"),
        (TEMPLATE.replace("{audio}", "{audio}{audio}"), "exactly once"),
        (TEMPLATE.replace("{context}", "{contxt}"), "unknown placeholder {contxt}"),
        (TEMPLATE.replace("<|im_end|>", "<|end|>"), r"has no token '<\|end\|>'"),
    ],
)
def test_a_template_that_makes_no_sense_is_a_bundle_error(tokenizer: Tokenizer, template: str, complaint: str) -> None:
    with pytest.raises(BundleError, match=complaint):
        build_prompt(tokenizer, template, 1)
