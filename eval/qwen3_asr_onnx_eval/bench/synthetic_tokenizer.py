"""A byte-level BPE tokenizer of the real size, made from nothing: for measuring, where the words do not matter.

Benchmarks need a tokenizer with the real number of entries (it sets the vocabulary, the load time and file sizes) but
must not ship somebody's 4.4 MB of merges. The vocabulary here is the 256 bytes plus every string of two, three, then
four lower-case letters until the number is reached, each merged from its first letters and its last one.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ADDED_TOKENS", "TIMESTAMP_TOKEN", "added_token_ids", "byte_symbols", "write_tokenizer"]

ADDED_TOKENS: tuple[tuple[str, bool], ...] = (
    *((f"<|{name}|>", True) for name in ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end")),
    *((f"<|{name}|>", True) for name in ("box_start", "box_end", "quad_start", "quad_end")),
    *((f"<|{name}|>", True) for name in ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")),
    *((name, False) for name in ("<tool_call>", "</tool_call>")),
    *((f"<|{name}|>", False) for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")),
    *((f"<|{name}|>", False) for name in ("repo_name", "file_sep")),
    *((name, False) for name in ("<tool_response>", "</tool_response>", "<think>", "</think>")),
    *((f"<|{name}|>", True) for name in ("audio_start", "audio_end")),
    *((f"<tts_{name}>", True) for name in ("pad", "text_bos", "text_eod", "text_bos_single")),
    ("<non_speech>", False),
    ("<|audio_pad|>", True),
    *((f"<blank{i}>", True) for i in range(1, 28)),
    ("<asr_text>", False),
)
"""(text, special) of the 62 tokens that follow the BPE vocabulary in the released tokenizers, in id order."""


TIMESTAMP_TOKEN = "<timestamp>"  # noqa: S105 - not a secret
"""The token that follows them in the forced aligner's tokenizer only; not special."""


def added_token_ids(n_bpe_tokens: int, *, timestamp: bool = False) -> dict[str, int]:
    """Return text -> id of the tokens added behind `n_bpe_tokens` others; `timestamp` adds the aligner's own."""
    return {text: n_bpe_tokens + i for i, (text, _) in enumerate(_added_tokens(timestamp))}


def _added_tokens(timestamp: bool) -> tuple[tuple[str, bool], ...]:
    return (*ADDED_TOKENS, (TIMESTAMP_TOKEN, False)) if timestamp else ADDED_TOKENS


def byte_symbols() -> list[str]:
    """Return the 256 characters byte-level BPE writes bytes with: printable ones stand for themselves, first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    n_others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(n_others)]


def write_tokenizer(directory: Path, n_bpe_tokens: int, *, timestamp: bool = False) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json in the form of the original repositories.

    Args:
        directory: existing directory.
        n_bpe_tokens: entries of vocab.json, at least 256; 151,643 in the released models.
        timestamp: whether to add the aligner's own token.
    """
    tokens = byte_symbols()
    merges = list(itertools.islice(_merges(), n_bpe_tokens - len(tokens)))
    vocab = {token: i for i, token in enumerate([*tokens, *(left + right for left, right in merges)])}
    (directory / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]
    (directory / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    config = json.dumps(_tokenizer_config(n_bpe_tokens, timestamp), indent=2, ensure_ascii=False)
    (directory / "tokenizer_config.json").write_text(config, encoding="utf-8")


def _merges() -> Iterator[tuple[str, str]]:
    """Yield every merge once, in an order where both parts are already tokens: 676, then 17,576, then 456,976 pairs."""
    for n_letters in (2, 3, 4):
        for letters in itertools.product(string.ascii_lowercase, repeat=n_letters):
            yield "".join(letters[:-1]), letters[-1]


def _tokenizer_config(n_bpe_tokens: int, timestamp: bool) -> dict[str, object]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    audio = {
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
        "audio_token": "<|audio_pad|>",
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(n_bpe_tokens + i): {"content": text, **flags, "special": special}
            for i, (text, special) in enumerate(_added_tokens(timestamp))
        },
        **audio,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "extra_special_tokens": audio,
        "model_max_length": 131_072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3ASRProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
