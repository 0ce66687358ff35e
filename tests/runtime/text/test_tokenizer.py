"""Ids and text, against the official package's tokenizer."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx.text.tokenizer import Tokenizer

SPECIAL_IDS = {
    "<|endoftext|>": 151643,
    "<|im_start|>": 151644,
    "<|im_end|>": 151645,
    "<|audio_start|>": 151669,
    "<|audio_end|>": 151670,
    "<|audio_pad|>": 151676,
    "<asr_text>": 151704,
}


@pytest.fixture(scope="module")
def tokenizer(real_tokenizer_json: Path) -> Tokenizer:
    return Tokenizer.from_file(real_tokenizer_json)


@pytest.fixture
def tiny_json(tmp_path: Path) -> Path:
    """A whole tokenizer.json in a few lines: letters, one merge, one special and one ordinary added token."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_tokens([tokenizers.AddedToken("<s>", special=True, normalized=False)])
    bpe.add_tokens([tokenizers.AddedToken("<中>", normalized=False)])
    path = tmp_path / "tokenizer.json"
    bpe.save(str(path))
    return path


def test_encode_like_the_official_tokenizer(tokenizer: Tokenizer, official_prompts: dict[str, Any]) -> None:
    for case in official_prompts["encode"]:
        assert tokenizer.encode(case["text"]) == case["ids"], case["text"]


def test_decode_like_the_official_tokenizer(tokenizer: Tokenizer, official_prompts: dict[str, Any]) -> None:
    for case in official_prompts["decode"]:
        assert tokenizer.decode(case["ids"], skip_special=case["skip_special"]) == case["text"], case


def test_special_ids(tokenizer: Tokenizer) -> None:
    assert {text: tokenizer.special_id(text) for text in SPECIAL_IDS} == SPECIAL_IDS
    assert len(tokenizer.added_tokens) == 62


def test_a_missing_special_token_is_a_bundle_error(tokenizer: Tokenizer) -> None:
    for text in ("<timestamp>", "hello", ""):
        with pytest.raises(BundleError, match="has no token"):
            tokenizer.special_id(text)


def test_no_text_gives_an_added_token(tokenizer: Tokenizer) -> None:
    for token in tokenizer.added_tokens.values():
        for text in (token.text, f"a{token.text}b", f" {token.text}\n"):
            ids = tokenizer.encode(text)
            assert not tokenizer.added_tokens.keys() & set(ids)
            assert tokenizer.decode(ids) == text


def test_lone_surrogate_is_an_options_error(tokenizer: Tokenizer) -> None:
    with pytest.raises(OptionsError, match="lone surrogate at character 2"):
        tokenizer.encode("ab\ud800")


def test_token_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(198) == b"\n"
    assert tokenizer.token_bytes(151704) == b"<asr_text>"
    assert tokenizer.token_bytes(151644) == b"<|im_start|>"
    assert tokenizer.token_bytes(151900) == b""
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode("héllo 你好 😀"))) == "héllo 你好 😀".encode()


def test_every_byte_has_a_token_of_its_own(tokenizer: Tokenizer) -> None:
    assert {tokenizer.token_bytes(token_id) for token_id in range(256)} == {bytes([byte]) for byte in range(256)}


def test_any_text_comes_back(tokenizer: Tokenizer) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    st = pytest.importorskip("hypothesis.strategies")

    def check(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.encode(tokenizer.decode(ids)) == ids  # the text comes back NFC-normalised and otherwise whole

    given = hypothesis.given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    hypothesis.settings(max_examples=300, deadline=None, database=None, derandomize=True)(given(check))()


def test_tiny_tokenizer(tiny_json: Path) -> None:
    tokenizer = Tokenizer.from_file(tiny_json)
    assert tokenizer.encode("abba<s>") == [2, 1, 0]
    assert tokenizer.decode([2, 3, 4, 1]) == "ab<中>b"
    assert tokenizer.decode([2, 3, 4, 1], skip_special=False) == "ab<s><中>b"


def test_a_vocabulary_entry_that_looks_like_the_key_does_no_harm(tiny_json: Path) -> None:
    content = json.loads(tiny_json.read_text(encoding="utf-8"))
    content["model"]["vocab"]['"added_tokens": ['] = 5
    reordered = {"model": content.pop("model"), **content}
    tiny_json.write_text(json.dumps(reordered, indent=2), encoding="utf-8")
    assert Tokenizer.from_file(tiny_json).special_id("<s>") == 3


def test_a_damaged_file_is_a_bundle_error(tiny_json: Path) -> None:
    whole = tiny_json.read_text(encoding="utf-8")
    for damaged in (
        "",
        "{}",
        "not json",
        '{"added_tokens": []}',
        whole[:60],
        whole[:-20],
        whole.replace('"id"', '"ix"'),
        re.sub(r'"id": *\d+', '"id": -1', whole),
        re.sub(r'"id": *\d+', '"id": true', whole),
        re.sub(r'"id": *\d+', f'"id": {10**30}', whole),
        '{"added_tokens": ' + "[" * 100_000,
    ):
        tiny_json.write_text(damaged, encoding="utf-8")
        with pytest.raises(BundleError, match=r"tokenizer\.json.*export the bundle again"):
            Tokenizer.from_file(tiny_json)
    tiny_json.write_bytes(b"\xff\xfe")
    with pytest.raises(BundleError, match="cannot read"):
        Tokenizer.from_file(tiny_json)


def test_a_missing_file_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"absent\.json"):
        Tokenizer.from_file(tmp_path / "absent.json")


def test_another_kind_of_tokenizer_is_refused(tiny_json: Path) -> None:
    content = json.loads(tiny_json.read_text(encoding="utf-8"))
    content["decoder"] = None
    tiny_json.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match="only byte-level"):
        Tokenizer.from_file(tiny_json)
