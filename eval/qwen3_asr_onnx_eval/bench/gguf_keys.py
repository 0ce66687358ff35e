"""The keys of a GGUF file for transcribe.cpp, of a checkpoint's configuration and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.text.languages import LANGUAGE_CODES

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["add_keys"]

FILE_TYPES = {"F32": 0, "Q8_0": 7, "BF16": 32}
"""`general.file_type` of each kind."""

NORMAL, CONTROL = 1, 3

TEMPLATE_PIECES = ("system", "user", "assistant", "Ċ")
"""Whole words of the chat template: transcribe.cpp loads no vocabulary without them, as the synthetic ones are."""

SMALL_HIDDEN = 1024
"""Width of the 0.6B model; what is wider is told to be 1.7B: transcribe.cpp knows these two."""

ENCODER_KEYS = {
    "n_layers": "encoder_layers",
    "d_model": "d_model",
    "n_heads": "encoder_attention_heads",
    "ffn_dim": "encoder_ffn_dim",
    "num_mel_bins": "num_mel_bins",
    "downsample_hidden": "downsample_hidden_size",
    "output_dim": "output_dim",
    "max_source_positions": "max_source_positions",
    "n_window": "n_window",
    "n_window_infer": "n_window_infer",
    "conv_chunksize": "conv_chunksize",
}
DECODER_KEYS = {
    "n_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
}

FRONT_END: Mapping[str, str | int | float | bool] = {
    "type": "mel",
    "num_mels": 128,
    "sample_rate": 16_000,
    "n_fft": 400,
    "win_length": 400,
    "hop_length": 160,
    "window": "hann_periodic",
    "normalize": "per_utterance",
    "dither": 0.0,
    "pre_emphasis": 0.0,
    "f_min": 0.0,
    "f_max": 8000.0,
    "pad_mode": "reflect",
    "center": True,
    "mel_norm": "slaney",
    "chunk_length": 30,
    "n_samples": 480_000,
    "nb_max_frames": 3_000,
}


def add_keys(writer: GGUFWriter, checkpoint: Path, config: Mapping[str, Any], n_parameters: int, kind: str) -> None:
    """Add all keys in the order of transcribe.cpp's converter.

    Args:
        writer: of the file; knows the architecture already.
        checkpoint: directory in the original layout.
        config: its config.json.
        n_parameters: values in all tensors.
        kind: of the matrices.
    """
    thinker = config["thinker_config"]
    added = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    ids = {token["content"]: int(i) for i, token in added.items()}
    _add_names(writer, config, n_parameters, kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    _add_dimensions(writer, thinker)
    for name, value in FRONT_END.items():
        _add(writer, f"stt.frontend.{name}", value)
    _add_tokens(writer, checkpoint, added, thinker["text_config"]["vocab_size"])


def _add_names(writer: GGUFWriter, config: Mapping[str, Any], n_parameters: int, kind: str) -> None:
    from gguf.utility import model_weight_count_rounded_notation as rounded

    size = "0.6B" if config["thinker_config"]["text_config"]["hidden_size"] <= SMALL_HIDDEN else "1.7B"
    writer.add_name(f"Qwen3-ASR {size}")
    writer.add_basename("qwen3-asr")
    writer.add_size_label(rounded(n_parameters, min_digits=1))
    writer.add_author("Alibaba Qwen Team")
    writer.add_organization("Qwen")
    writer.add_license("apache-2.0")
    writer.add_license_name("Apache License 2.0")
    writer.add_license_link("https://www.apache.org/licenses/LICENSE-2.0")
    writer.add_repo_url(f"https://huggingface.co/Qwen/Qwen3-ASR-{size}")
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_languages([LANGUAGE_CODES[name] for name in config["support_languages"]])
    writer.add_string("stt.variant", f"qwen3-asr-{size.lower()}")
    writer.add_bool("stt.capability.lang_detect", True)


def _add_dimensions(writer: GGUFWriter, thinker: Mapping[str, Any]) -> None:
    audio, text, key = thinker["audio_config"], thinker["text_config"], "stt.qwen3_asr"
    for name, ours in ENCODER_KEYS.items():
        _add(writer, f"{key}.encoder.{name}", audio[ours])
    _add(writer, f"{key}.encoder.activation", audio["activation_function"])
    for name, ours in DECODER_KEYS.items():
        _add(writer, f"{key}.decoder.{name}", text[ours])
    _add(writer, f"{key}.decoder.hidden_act", text["hidden_act"])
    _add(writer, f"{key}.decoder.rms_norm_eps", float(text["rms_norm_eps"]))
    _add(writer, f"{key}.decoder.rope_theta", float(text["rope_theta"]))
    for axis, length in zip("thw", text["rope_scaling"]["mrope_section"], strict=True):
        _add(writer, f"{key}.decoder.rope_mrope_section_{axis}", length)
    _add(writer, f"{key}.decoder.rope_mrope_interleaved", bool(text["rope_scaling"]["mrope_interleaved"]))
    _add(writer, f"{key}.decoder.max_position_embeddings", text["max_position_embeddings"])
    _add(writer, f"{key}.decoder.tie_word_embeddings", bool(text["tie_word_embeddings"]))
    _add(writer, f"{key}.decoder.vocab_size", text["vocab_size"])
    for name in ("audio_token_id", "audio_start_token_id", "audio_end_token_id"):
        _add(writer, f"{key}.{name}", thinker[name])


def _add_tokens(writer: GGUFWriter, checkpoint: Path, added: Mapping[str, Any], n_rows: int) -> None:
    """Add vocabulary, merges and template; rows of the embedding without a token get a name that nothing writes."""
    vocab = json.loads((checkpoint / "vocab.json").read_text(encoding="utf-8"))
    texts = [f"<|unused_{i}|>" for i in range(n_rows)]
    kinds = [NORMAL] * n_rows
    for text, i in vocab.items():
        texts[i] = text
    missing = [piece for piece in TEMPLATE_PIECES if piece not in vocab]
    for piece, i in zip(missing, sorted(vocab.values(), reverse=True), strict=False):
        texts[i] = piece
    for i, token in added.items():
        texts[int(i)] = token["content"]
        kinds[int(i)] = CONTROL if token["special"] else NORMAL
    merges = (checkpoint / "merges.txt").read_text(encoding="utf-8").splitlines()
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([line for line in merges if line and not line.startswith("#version")])
    template = checkpoint / "chat_template.json"
    if template.exists():  # checkpoints with random weights have none: the loader falls back on its own prompt
        writer.add_chat_template(json.loads(template.read_text(encoding="utf-8"))["chat_template"])


def _add(writer: GGUFWriter, key: str, value: str | float | bool) -> None:
    """Add a value as the converter types it: counts are uint32."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_float32(key, value)
