"""The miniature checkpoint's tokenizer: Qwen's byte-level BPE in small.

Flows in: training texts. Flows out: ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json`` as the real family
ships them (no tokenizer.json), and a `Vocabulary` that encodes prompts and decodes answers.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>")
ASR_TEXT, TIMESTAMP = "<asr_text>", "<timestamp>"
VOCAB_SIZE = 1024
FORMAT_TEXTS = (
    "system\n",
    "user\n",
    "assistant\n",
    "language English",
    "language German",
    "language Chinese",
    "language None",
)


def added_tokens(aligner: bool) -> list[str]:
    """Return the added tokens in id order; only an aligner knows `TIMESTAMP`."""
    return [*SPECIALS, ASR_TEXT] + ([TIMESTAMP] if aligner else [])


def _bare_tokenizer(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_vocabulary(texts: Iterable[str], folder: Path) -> None:
    """Learn the merges from texts and write vocab.json and merges.txt into the folder."""
    tokenizer = _bare_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(added_tokens(aligner=True)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *FORMAT_TEXTS * 3000], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")


def tokenizer_config(aligner: bool) -> dict[str, Any]:
    """Return the contents of tokenizer_config.json in the form of the real checkpoints."""
    first = VOCAB_SIZE - len(added_tokens(aligner=True))
    decoder = {
        str(first + index): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": token in SPECIALS,
        }
        for index, token in enumerate(added_tokens(aligner))
    }  # fmt: skip
    audio = {"audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>", "audio_token": "<|audio_pad|>"}
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": list(SPECIALS[1:]),
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


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the special tokens, and plain-text encoding with special parsing kept to the places that want it."""

    tokenizer: Tokenizer
    ids: dict[str, int]

    @classmethod
    def load(cls, folder: Path) -> "Vocabulary":
        """Read vocab.json and merges.txt of a folder; the added tokens follow the BPE symbols."""
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        tokenizer = _bare_tokenizer(model)
        tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (ASR_TEXT, TIMESTAMP)])
        tokens = added_tokens(aligner=True)
        ids = {token: tokenizer.token_to_id(token) or 0 for token in tokens}
        assert list(ids.values()) == list(range(VOCAB_SIZE - len(tokens), VOCAB_SIZE)), ids
        return cls(tokenizer, ids)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; special tokens written in it are parsed."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Return the text without the special tokens; ``<asr_text>`` stays, as in the real family."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def prompt(self, n_audio: int, context: str) -> list[int]:
        """Return the chat prompt up to the start of the assistant's answer for `n_audio` encoder tokens."""
        before = self.encode(f"<|im_start|>system\n{context}<|im_end|>\n<|im_start|>user\n<|audio_start|>")
        after = self.encode("<|audio_end|><|im_end|>\n<|im_start|>assistant\n")
        return before + [self.ids["<|audio_pad|>"]] * n_audio + after


def vocabulary_texts(rows: Iterable[dict[str, Any]], most: int = 60000) -> list[str]:
    """Return the sentences and contexts of corpus rows that the merges are learned from."""
    texts: list[str] = []
    for row in rows:
        texts += [*row["sentences"], *([row["context"]] if row["context"] else [])]
        if len(texts) > most:
            break
    return texts
