"""The miniature network: its dimensions, an initialisation that trains, and the original checkpoint layout.

Flows in: `Dimensions`. Flows out: native transformers models, and folders that look like Qwen/Qwen3-ASR-0.6B or
Qwen/Qwen3-ForcedAligner-0.6B in every file.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration, Qwen3ASRForTokenClassification

from mini.language.vocabulary import VOCAB_SIZE, Vocabulary, tokenizer_config

N_WINDOW, N_WINDOW_INFER, N_MELS = 50, 800, 128
SEGMENT_MS = 80


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Sizes of one model; every linear input is a multiple of 128, so all group sizes up to 128 divide it."""

    d_model: int = 256
    encoder_layers: int = 4
    encoder_ffn: int = 768
    conv_channels: int = 16
    hidden: int = 256
    decoder_layers: int = 3
    intermediate: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    vocab: int = VOCAB_SIZE
    time_classes: int = 0  # 0: transcriber; else the aligner's number of 80 ms classes


def native_config(dims: Dimensions, vocabulary: Vocabulary) -> Qwen3ASRConfig:
    """Return the transformers configuration for these sizes."""
    audio = {
        "num_mel_bins": N_MELS, "d_model": dims.d_model, "encoder_layers": dims.encoder_layers,
        "encoder_attention_heads": dims.d_model // 64, "encoder_ffn_dim": dims.encoder_ffn,
        "downsample_hidden_size": dims.conv_channels, "output_dim": dims.hidden, "n_window": N_WINDOW,
        "n_window_infer": N_WINDOW_INFER, "model_type": "qwen3_asr_encoder",
    }  # fmt: skip
    text = {
        "model_type": "qwen3", "vocab_size": dims.vocab, "hidden_size": dims.hidden,
        "intermediate_size": dims.intermediate, "num_hidden_layers": dims.decoder_layers,
        "num_attention_heads": dims.heads, "num_key_value_heads": dims.kv_heads, "head_dim": dims.head_dim,
        "max_position_embeddings": 65536, "rms_norm_eps": 1e-6, "attention_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "tie_word_embeddings": True,
        "pad_token_id": None,
    }  # fmt: skip
    ids = vocabulary.ids
    extra: dict[str, Any] = {"num_labels": dims.time_classes} if dims.time_classes else {}
    return Qwen3ASRConfig(
        audio_config=audio,
        text_config=text,
        audio_token_id=ids["<|audio_pad|>"],
        timestamp_token_id=ids["<timestamp>"],
        pad_token_id=ids["<|endoftext|>"],
        eos_token_id=[ids["<|endoftext|>"], ids["<|im_end|>"]],
        tie_word_embeddings=True,
        **extra,
    )


def initialise(model: nn.Module, dims: Dimensions) -> None:
    """Give every weight a scale at which audio is as loud as the position table (the library default stalls)."""
    shrink = {
        "out_proj": dims.encoder_layers, "fc2": dims.encoder_layers, "o_proj": dims.decoder_layers,
        "down_proj": dims.decoder_layers,
    }  # fmt: skip
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            scale = 1.5 if name.endswith("conv_out") else 1.0
            layers = shrink.get(name.rsplit(".", 1)[-1])
            scale /= math.sqrt(2 * layers) if layers else 1.0
            nn.init.normal_(module.weight, std=scale / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, nn.Embedding):  # after the linears: the tied head shares this tensor
            nn.init.normal_(module.weight, std=0.05)


def new_transcriber(dims: Dimensions, vocabulary: Vocabulary) -> Qwen3ASRForConditionalGeneration:
    """Return a freshly initialised speech recogniser in float32."""
    model = Qwen3ASRForConditionalGeneration(native_config(dims, vocabulary))
    initialise(model, dims)
    return model


def new_aligner(dims: Dimensions, vocabulary: Vocabulary) -> Qwen3ASRForTokenClassification:
    """Return a freshly initialised forced aligner in float32; `dims.time_classes` must be set."""
    model = Qwen3ASRForTokenClassification(native_config(dims, vocabulary))
    initialise(model, dims)
    return model


def original_name(name: str) -> str | None:
    """Return the original checkpoint's name of a native weight; None where the original stores nothing."""
    for native, original in (
        ("model.language_model.", "thinker.model."),
        ("model.multi_modal_projector.linear_1.", "thinker.audio_tower.proj1."),
        ("model.multi_modal_projector.linear_2.", "thinker.audio_tower.proj2."),
        ("model.audio_tower.", "thinker.audio_tower."),
        ("lm_head.", "thinker.lm_head."),
        ("score.", "thinker.lm_head."),
    ):
        if name.startswith(native):
            return original + name[len(native) :]
    return None


def original_config(dims: Dimensions, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return config.json in the nested form of the original repositories."""
    ids, aligner = vocabulary.ids, dims.time_classes > 0
    audio = {
        "activation_dropout": 0, "activation_function": "gelu", "attention_dropout": 0, "conv_chunksize": 500,
        "d_model": dims.d_model, "downsample_hidden_size": dims.conv_channels, "dropout": 0, "dtype": None,
        "encoder_attention_heads": dims.d_model // 64, "encoder_ffn_dim": dims.encoder_ffn,
        "encoder_layers": dims.encoder_layers, "initializer_range": 0.02, "max_source_positions": 1500,
        "model_type": "qwen3_asr_audio_encoder", "n_window": N_WINDOW, "n_window_infer": N_WINDOW_INFER,
        "num_hidden_layers": dims.encoder_layers, "num_mel_bins": N_MELS, "output_dim": dims.hidden,
        "scale_embedding": False,
    }  # fmt: skip
    axis = dims.head_dim // 2
    sections = [axis - 2 * (axis * 5 // 16), axis * 5 // 16, axis * 5 // 16]  # 24, 20, 20 at head_dim 128
    text = {
        "attention_bias": False, "attention_dropout": 0.0, "dtype": None, "head_dim": dims.head_dim,
        "hidden_act": "silu", "hidden_size": dims.hidden, "initializer_range": 0.02,
        "intermediate_size": dims.intermediate,
        "max_position_embeddings": 8192 if aligner else 65536, "model_type": "qwen3", "num_attention_heads": dims.heads,
        "num_hidden_layers": dims.decoder_layers, "num_key_value_heads": dims.kv_heads, "rms_norm_eps": 1e-6,
        "rope_scaling": {"interleaved": True, "mrope_interleaved": True, "mrope_section": sections,
                         "rope_type": "default", "type": "default"},
        "rope_theta": 1000000, "tie_word_embeddings": not aligner, "use_cache": True, "vocab_size": dims.vocab,
    }  # fmt: skip
    thinker: dict[str, Any] = {
        "model_type": "qwen3_forced_aligner" if aligner else "qwen3_asr",
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "audio_config": audio,
        "audio_end_token_id": ids["<|audio_end|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_token_id": ids["<|audio_pad|>"],
        "dtype": "bfloat16",
        "initializer_range": 0.02,
        "text_config": text,
    }
    top: dict[str, Any] = {"architectures": ["Qwen3ASRForConditionalGeneration"], "model_type": "qwen3_asr"}
    if aligner:
        thinker["classify_num"] = dims.time_classes
        top |= {"timestamp_token_id": ids["<timestamp>"], "timestamp_segment_time": SEGMENT_MS}
    top |= {
        "support_languages": ["Chinese", "English", "German"],
        "thinker_config": thinker,
        "transformers_version": "4.57.6",
    }
    return top


CHAT_TEMPLATE = (
    "{%- set ns = namespace(system_text='', audio='') -%}\n"
    "{%- for m in messages -%}\n"
    "  {%- if m.content is string -%}\n"
    "    {%- if m.role == 'system' -%}{%- set ns.system_text = ns.system_text + m.content -%}{%- endif -%}\n"
    "  {%- else -%}\n"
    "    {%- for c in m.content -%}\n"
    "      {%- if c.type == 'audio' or ('audio' in c) or ('audio_url' in c) -%}\n"
    "        {%- set ns.audio = ns.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}\n"
    "      {%- elif m.role == 'system' and c.type == 'text' -%}\n"
    "        {%- set ns.system_text = ns.system_text + c.text -%}\n"
    "      {%- endif -%}\n"
    "    {%- endfor -%}\n"
    "  {%- endif -%}\n"
    "{%- endfor -%}\n"
    "{{- '<|im_start|>system\\n' + ns.system_text + '<|im_end|>\\n' -}}\n"
    "{{- '<|im_start|>user\\n' + ns.audio + '<|im_end|>\\n' -}}\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
PREPROCESSOR = {
    "chunk_length": 30, "dither": 0.0, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": N_MELS,
    "hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right",
    "padding_value": 0.0, "processor_class": "Qwen3ASRProcessor", "return_attention_mask": True,
}  # fmt: skip


def save_original(model: nn.Module, dims: Dimensions, vocabulary: Vocabulary, source: Path, folder: Path) -> None:
    """Write a checkpoint folder in the original layout, weights in bfloat16.

    Args:
        model: a native transcriber or aligner.
        dims: its sizes; `time_classes` tells an aligner.
        vocabulary: gives the special ids.
        source: folder with vocab.json and merges.txt.
        folder: where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        renamed = original_name(name)
        if renamed is None or (renamed == "thinker.lm_head.weight" and not dims.time_classes):
            continue  # tied: the embedding table is the head
        tensors[renamed] = tensor.detach().to(torch.bfloat16).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    ids, aligner = vocabulary.ids, dims.time_classes > 0
    generation: dict[str, Any] = {
        "_from_model_config": True,
        "eos_token_id": [ids["<|endoftext|>"], ids["<|im_end|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "do_sample": False,
    }
    documents: dict[str, dict[str, Any]] = {
        "config.json": original_config(dims, vocabulary),
        "tokenizer_config.json": tokenizer_config(aligner),
        "preprocessor_config.json": PREPROCESSOR,
        "generation_config.json": generation if aligner else generation | {"temperature": 1e-6},
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((source / name).read_bytes())


def read_dimensions(folder: Path) -> Dimensions:
    """Return the sizes of a checkpoint folder in the original layout."""
    thinker = json.loads((folder / "config.json").read_text(encoding="utf-8"))["thinker_config"]
    audio, text = thinker["audio_config"], thinker["text_config"]
    return Dimensions(
        d_model=audio["d_model"],
        encoder_layers=audio["encoder_layers"],
        encoder_ffn=audio["encoder_ffn_dim"],
        conv_channels=audio["downsample_hidden_size"],
        hidden=text["hidden_size"],
        decoder_layers=text["num_hidden_layers"],
        intermediate=text["intermediate_size"],
        heads=text["num_attention_heads"],
        kv_heads=text["num_key_value_heads"],
        head_dim=text["head_dim"],
        vocab=text["vocab_size"],
        time_classes=thinker.get("classify_num", 0),
    )


def load_original(folder: Path) -> Qwen3ASRForConditionalGeneration | Qwen3ASRForTokenClassification:
    """Return the native model of a folder in the original layout, float32 arithmetic on the stored bfloat16 weights."""
    dims = read_dimensions(folder)
    vocabulary = Vocabulary.load(folder)
    model = new_aligner(dims, vocabulary) if dims.time_classes else new_transcriber(dims, vocabulary)
    stored = load_file(folder / "model.safetensors")
    state = {}
    for name in model.state_dict():
        renamed = original_name(name)
        if renamed == "thinker.lm_head.weight" and not dims.time_classes:
            renamed = "thinker.model.embed_tokens.weight"
        assert renamed is not None, name
        state[name] = stored[renamed].float()
    model.load_state_dict(state)
    model.train(False)
    return model


def describe(dims: Dimensions) -> dict[str, int]:
    """Return the sizes as a plain dictionary, for logs and training checkpoints."""
    return asdict(dims)
