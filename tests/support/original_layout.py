"""The layout of the original repositories, stated independently of the exporter: tensor names and config.json."""

from __future__ import annotations

from typing import Any

from tests.support.shapes import Shape

__all__ = ["original_config", "to_original_name"]

SUPPORT_LANGUAGES = [
    "Chinese",
    "English",
    "Cantonese",
    "Arabic",
    "German",
    "French",
    "Spanish",
    "Portuguese",
    "Indonesian",
    "Italian",
    "Korean",
    "Russian",
    "Thai",
    "Vietnamese",
    "Japanese",
    "Turkish",
    "Hindi",
    "Malay",
    "Dutch",
    "Swedish",
    "Danish",
    "Finnish",
    "Polish",
    "Czech",
    "Filipino",
    "Persian",
    "Greek",
    "Romanian",
    "Hungarian",
    "Macedonian",
]

ALIGNER_LANGUAGES = [
    "Chinese",
    "Cantonese",
    "English",
    "German",
    "Spanish",
    "French",
    "Italian",
    "Portuguese",
    "Russian",
    "Korean",
    "Japanese",
]


def to_original_name(native: str) -> str:
    """Return the original repositories' name of a tensor of the native classes."""
    for prefix, original in (
        ("model.multi_modal_projector.linear_1.", "thinker.audio_tower.proj1."),
        ("model.multi_modal_projector.linear_2.", "thinker.audio_tower.proj2."),
        ("model.audio_tower.", "thinker.audio_tower."),
        ("model.language_model.", "thinker.model."),
        ("lm_head.", "thinker.lm_head."),
        ("score.", "thinker.lm_head."),
    ):
        if native.startswith(prefix):
            return original + native[len(prefix) :]
    raise KeyError(native)


def original_config(shape: Shape, n_labels: int | None) -> dict[str, Any]:
    """Return config.json; an aligner's if `n_labels` is given."""
    tied = n_labels is None
    audio = {
        "activation_function": "gelu",
        "conv_chunksize": 500,
        "d_model": shape.d_model,
        "downsample_hidden_size": shape.conv_channels,
        "encoder_attention_heads": shape.encoder_heads,
        "encoder_ffn_dim": shape.encoder_ffn,
        "encoder_layers": shape.encoder_layers,
        "max_source_positions": 1500,
        "model_type": "qwen3_asr_audio_encoder",
        "n_window": 50,
        "n_window_infer": 800,
        "num_hidden_layers": shape.encoder_layers,
        "num_mel_bins": 128,
        "output_dim": shape.hidden,
        "scale_embedding": False,
        # Legacy generation fields the real files carry too: a reader must not take them for dimensions.
        "max_length": 20,
        "top_k": 50,
    }
    text = {
        "attention_bias": False,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_length": 20,
        "max_position_embeddings": shape.max_positions,
        "model_type": "qwen3",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "interleaved": True,
            "mrope_interleaved": True,
            "mrope_section": [24, 20, 20],
            "rope_type": "default",
            "type": "default",
        },
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": tied,
        "vocab_size": shape.vocab_rows,
    }
    thinker: dict[str, Any] = {
        "model_type": "qwen3_asr" if tied else "qwen3_forced_aligner",
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "audio_config": audio,
        "audio_end_token_id": shape.token_id("<|audio_end|>"),
        "audio_start_token_id": shape.token_id("<|audio_start|>"),
        "audio_token_id": shape.token_id("<|audio_pad|>"),
        "dtype": "bfloat16",
        "initializer_range": 0.02,
        "text_config": text,
    }
    body: dict[str, Any] = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": SUPPORT_LANGUAGES,
        "thinker_config": thinker,
        "transformers_version": "4.57.6",
    }
    if not tied:
        thinker["classify_num"] = n_labels
        body |= {
            "timestamp_token_id": shape.timestamp_id,
            "support_languages": ALIGNER_LANGUAGES,
            "timestamp_segment_time": 80,
        }
    return body
