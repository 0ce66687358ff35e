"""A byte-level BPE tokenizer of a few hundred tokens in the files of the real one, trained here in milliseconds.

The format is that of the original checkpoints: vocab.json, merges.txt and the added tokens in tokenizer_config.json, no
tokenizer.json. Nothing here comes from the packages under test.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

__all__ = ["FULL_ADDED_TOKENS", "SHORT_ADDED_TOKENS", "write_tiny_tokenizer"]

# Qwen2's pre-tokenizer: note the single \p{N}, so digits never merge.
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# (text, special), in id order. `<asr_text>` is not special: decoding keeps it.
SHORT_ADDED_TOKENS: tuple[tuple[str, bool], ...] = (
    ("<|endoftext|>", True),
    ("<|im_start|>", True),
    ("<|im_end|>", True),
    ("<|audio_start|>", True),
    ("<|audio_end|>", True),
    ("<|audio_pad|>", True),
    ("<asr_text>", False),
)

FULL_ADDED_TOKENS: tuple[tuple[str, bool], ...] = (
    *((f"<|{name}|>", True) for name in ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end")),
    *((f"<|{name}|>", True) for name in ("box_start", "box_end", "quad_start", "quad_end")),
    *((f"<|{name}|>", True) for name in ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")),
    ("<tool_call>", False),
    ("</tool_call>", False),
    *((f"<|{name}|>", False) for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")),
    *((f"<|{name}|>", False) for name in ("repo_name", "file_sep")),
    *((name, False) for name in ("<tool_response>", "</tool_response>", "<think>", "</think>")),
    ("<|audio_start|>", True),
    ("<|audio_end|>", True),
    *((f"<tts_{name}>", True) for name in ("pad", "text_bos", "text_eod", "text_bos_single")),
    ("<non_speech>", False),
    ("<|audio_pad|>", True),
    *((f"<blank{i}>", True) for i in range(1, 28)),
    ("<asr_text>", False),
)

CORPUS = (
    "system user assistant language English Chinese German French None\n",
    "language English language Chinese language German language None\n",
    "the quick brown fox jumps over the lazy dog, and the weather is fine today.\n",
    "please set a timer for twenty minutes and call the station about the train at noon.\n",
    "der schnelle braune Fuchs springt über den faulen Hund; schöne Grüße aus Köln.\n",
    "今天天气很好，我们去公园散步吧。请把灯打开，谢谢你。\n",
    "names such as Anna, Ben, Carla and David help the recogniser with context.\n",
)


@lru_cache(maxsize=8)
def _train(n_tokens: int) -> tuple[str, str]:
    """Return the text of vocab.json and merges.txt of a BPE with at most `n_tokens` tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = dict(sorted(model["vocab"].items(), key=lambda item: int(item[1])))
    if len(vocab) != n_tokens:
        raise ValueError(f"the corpus gives {len(vocab)} tokens, {n_tokens} were asked for")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return json.dumps(vocab, ensure_ascii=False), "\n".join(["#version: 0.2", *merges, ""])


def write_tiny_tokenizer(
    directory: Path, n_tokens: int, added: tuple[tuple[str, bool], ...] = FULL_ADDED_TOKENS
) -> dict[str, int]:
    """Write vocab.json, merges.txt and tokenizer_config.json; return the ids of the added tokens.

    Args:
        directory: existing directory.
        n_tokens: size of the BPE vocabulary; the added tokens follow at ids n_tokens and up.
        added: text and special flag of the added tokens, in id order.
    """
    vocab, merges = _train(n_tokens)
    (directory / "vocab.json").write_text(vocab, encoding="utf-8")
    (directory / "merges.txt").write_text(merges, encoding="utf-8")
    ids = {text: n_tokens + i for i, (text, _) in enumerate(added)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    audio = {
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
        "audio_token": "<|audio_pad|>",
    }
    body = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(ids[text]): {"content": text, **flags, "special": special} for text, special in added
        },
        "additional_special_tokens": [text for text, special in added if special and text != "<|endoftext|>"],
        **audio,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "extra_special_tokens": audio,
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "processor_class": "Qwen3ASRProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(body, indent=2), encoding="utf-8")
    return ids
