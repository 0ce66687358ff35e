"""`config.json` as the programs of the split family read it."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from .source import LayoutSource

__all__ = ["config_text"]

SPECIAL = {
    "pad_token_id": "<|endoftext|>",
    "im_start_token_id": "<|im_start|>",
    "im_end_token_id": "<|im_end|>",
    "audio_start_token_id": "<|audio_start|>",
    "audio_end_token_id": "<|audio_end|>",
    "asr_text_token_id": "<asr_text>",
}
"""Ids that are found by the text of the token, where the vocabulary has it."""

LOWEST_HZ, HIGHEST_HZ = 0, 8000


def config_text(source: LayoutSource) -> str:
    """Return the file: dimensions, front end, token ids, and what the table is stored as."""
    manifest = source.bundle.manifest
    encoder, decoder, mel = manifest.encoder, manifest.decoder, manifest.mel
    ids = source.special_ids()
    body: dict[str, Any] = {
        "model_type": "qwen3_asr",
        "name": manifest.name,
        "variant": source.name,
        "exporter": f"qwen3-asr-onnx {version('qwen3-asr-onnx')}",
        "encoder": {
            "num_layers": encoder.layers,
            "hidden_size": encoder.d_model,
            "num_attention_heads": encoder.heads,
            "ffn_dim": encoder.ffn,
            "conv_channels": encoder.conv_channels,
            "output_dim": encoder.output_dim,
            "num_mel_bins": mel.n_mels,
        },
        "decoder": {
            "num_layers": decoder.layers,
            "hidden_size": decoder.hidden,
            "intermediate_size": decoder.intermediate,
            "num_attention_heads": decoder.heads,
            "num_key_value_heads": decoder.kv_heads,
            "head_dim": decoder.head_dim,
            "vocab_size": decoder.vocab_size,
            "rope_theta": decoder.rope_theta,
            "rms_norm_eps": decoder.rms_norm_eps,
            "tie_word_embeddings": bool(manifest.source.get("tied_head")),
        },
        "embed_tokens_shape": [decoder.vocab_size, decoder.hidden],
        "embed_tokens_dtype": "float16",
        "mel": {
            "sample_rate": mel.sample_rate,
            "n_fft": mel.n_fft,
            "hop_length": mel.hop_length,
            "n_mels": mel.n_mels,
            "fmin": LOWEST_HZ,
            "fmax": HIGHEST_HZ,
        },
        "special_tokens": {
            "eos_token_ids": list(manifest.tokens.eos),
            "audio_pad_token_id": manifest.tokens.audio,
            **{key: ids[text] for key, text in SPECIAL.items() if text in ids},
        },
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
