"""A Whisper of random weights, converted for CTranslate2, with a byte vocabulary: nothing is downloaded.

CTranslate2 takes it for an English-only model, because its vocabulary is small.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

__all__ = ["make_tiny_whisper"]


def make_tiny_whisper(folder: Path) -> Path:
    """Write a CTranslate2 model folder and return it."""
    import ctranslate2
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    source = folder / "transformers"
    source.mkdir(parents=True)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in _LANGUAGE_CODES), "<|translate|>",
               "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
               *(f"<|{i * 0.02:.2f}|>" for i in range(1501))]  # fmt: skip
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(bytes_)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(source / "tokenizer.json"))
    ids = {token: int(tokenizer.token_to_id(token) or 0) for token in special}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(bytes_) + len(special), d_model=64, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
            max_target_positions=448, eos_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"],
            pad_token_id=ids["<|endoftext|>"], decoder_start_token_id=ids["<|startoftranscript|>"],
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    model.generation_config = GenerationConfig(
        lang_to_id={f"<|{code}|>": ids[f"<|{code}|>"] for code in _LANGUAGE_CODES},
        suppress_tokens=[], begin_suppress_tokens=[], alignment_heads=[[0, 0]],
    )  # fmt: skip
    model.save_pretrained(source)
    WhisperFeatureExtractor().save_pretrained(source)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<|endoftext|>"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    converter = ctranslate2.converters.TransformersConverter(
        str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    converter.convert(str(folder / "ctranslate2"))
    return folder / "ctranslate2"
