"""Random-weight checkpoints made by transformers' own classes, in both layouts, sound or deliberately broken.

The native model is built and seeded here, saved by transformers (`hf` layout), or rewritten by an independent name map
into the layout of the original repositories (`thinker.*`). Nothing here comes from the packages under test.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from tests.support.original_layout import original_config, to_original_name
from tests.support.shapes import SHAPES, Shape
from tests.support.tiny_tokenizer import write_tiny_tokenizer
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
    Qwen3ASRProcessor,
)
from transformers.utils import logging as transformers_logging

__all__ = [
    "SHAPES",
    "CheckpointOptions",
    "Defect",
    "Layout",
    "Shape",
    "make_aligner",
    "make_checkpoint",
    "native_from_original",
    "native_model",
    "to_original_name",
]

Layout: TypeAlias = Literal["original", "hf"]
Defect: TypeAlias = Literal["missing_tensor", "wrong_shape", "unknown_architecture"]
Tensors: TypeAlias = dict[str, torch.Tensor]

TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
)

# The template of the original repositories: system text, one audio slot per audio part, generation prompt.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='', audio='') -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'system' and m.content is string -%}{%- set ns.system = ns.system + m.content -%}{%- endif -%}"
    "{%- if m.content is not string -%}{%- for c in m.content -%}"
    "{%- if m.role == 'system' and c.type == 'text' -%}{%- set ns.system = ns.system + c.text -%}{%- endif -%}"
    "{%- if c.type == 'audio' -%}"
    "{%- set ns.audio = ns.audio + '<|audio_start|><|audio_pad|><|audio_end|>' -%}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
    "{{- '<|im_start|>system\\n' + ns.system + '<|im_end|>\\n' -}}"
    "{{- '<|im_start|>user\\n' + ns.audio + '<|im_end|>\\n' -}}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class CheckpointOptions:
    """How a checkpoint is written.

    Attributes:
        layout: original repositories (`thinker.*`, nested config) or transformers' own.
        storage: dtype in the file. The values are bfloat16 values either way.
        shards: number of safetensors files; above 1 there is an index.
        head: original layout only: the tied embedding as `lm_head` and `embed_tokens` (as published), or one of them.
        defect: what is wrong with it.
    """

    layout: Layout = "original"
    storage: Literal["bfloat16", "float32"] = "bfloat16"
    shards: int = 1
    head: Literal["both", "embed", "lm_head"] = "both"
    defect: Defect | None = None


def _native_config(shape: Shape, n_labels: int | None) -> Qwen3ASRConfig:
    eos = [shape.token_id("<|endoftext|>"), shape.token_id("<|im_end|>")]
    tied = n_labels is None
    extra: dict[str, Any] = {}
    if n_labels is not None:
        extra = {"num_labels": n_labels, "timestamp_token_id": shape.timestamp_id}
    return Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            "encoder_layers": shape.encoder_layers,
            "encoder_attention_heads": shape.encoder_heads,
            "encoder_ffn_dim": shape.encoder_ffn,
            "d_model": shape.d_model,
            "output_dim": shape.hidden,
            "downsample_hidden_size": shape.conv_channels,
        },
        text_config={
            "model_type": "qwen3",
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "vocab_size": shape.vocab_rows,
            "max_position_embeddings": shape.max_positions,
            "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
            "tie_word_embeddings": tied,
        },
        audio_token_id=shape.token_id("<|audio_pad|>"),
        pad_token_id=eos[1],
        eos_token_id=eos,
        tie_word_embeddings=tied,
        **extra,
    )


def _random_values(name: str, like: torch.Tensor, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Return random float32 values for one parameter, scaled so that audio and every norm weight matter.

    The library's N(0, 0.02) leaves audio a thousand times smaller than the position table, and a decoder that repeats
    its last token. Here branches keep unit variance, so the residual stream forgets the (small) token embedding.
    """

    def normal(std: float) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator) * std

    if name.endswith("embed_tokens.weight"):
        rows = normal(1 / math.sqrt(shape.hidden))
        for stop in ("<|endoftext|>", "<|im_end|>"):
            rows[shape.token_id(stop)] *= shape.eos_gain
        return rows
    if name.endswith("bias"):
        return normal(0.1)
    if like.ndim == 1:  # norms
        spread = 0.6 + 0.8 * torch.rand(like.shape, generator=generator)
        gain = shape.logit_gain if name.endswith("language_model.norm.weight") else 1.0
        # Sharp attention: averaged over hundreds of audio tokens, every clip would look the same to the decoder.
        return spread * (3.0 if "q_norm" in name or "k_norm" in name else gain)
    fan_in = math.prod(like.shape[1:])
    if like.ndim == 4:
        return normal(math.sqrt(2 / fan_in))
    return normal((4.0 if "conv_out" in name else 1.0) / math.sqrt(fan_in))


@lru_cache(maxsize=16)
def native_model(shape: Shape, n_labels: int | None = None) -> Any:
    """Return the seeded native model in float32, its weights bfloat16 values; an aligner if `n_labels` is given."""
    config = _native_config(shape, n_labels)
    model: Any = (Qwen3ASRForConditionalGeneration if n_labels is None else Qwen3ASRForTokenClassification)(config)
    generator = torch.Generator().manual_seed(shape.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_random_values(name, parameter, shape, generator).bfloat16())
    eos = [shape.token_id("<|endoftext|>"), shape.token_id("<|im_end|>")]
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=eos, pad_token_id=eos[1], max_new_tokens=512
    )
    return model.eval()


def make_checkpoint(
    directory: Path,
    shape: Shape,
    options: CheckpointOptions | None = None,
    *,
    real_tokenizer_dir: Path | None = None,
) -> Path:
    """Write a checkpoint into the new directory `directory` and return it.

    Args:
        directory: created; must not exist.
        shape: one of `SHAPES`.
        options: layout, storage, defects.
        real_tokenizer_dir: vocab.json, merges.txt and tokenizer_config.json, for shapes with the real vocabulary.
    """
    options = options or CheckpointOptions()
    directory.mkdir(parents=True)
    _write_tokenizer(directory, shape, real_tokenizer_dir)
    model = native_model(shape)
    if options.layout == "hf":
        _save_native(directory, model, options)
    else:
        _save_original(directory, shape, model, options, None)
    _damage(directory, options.defect)
    return directory


def native_from_original(original: Path, directory: Path) -> Path:
    """Rewrite a checkpoint of the original layout in transformers' layout, saved by transformers, and return it."""
    thinker = json.loads((original / "config.json").read_text(encoding="utf-8"))["thinker_config"]
    audio, text = thinker["audio_config"], thinker["text_config"]
    generation = json.loads((original / "generation_config.json").read_text(encoding="utf-8"))
    names = ("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "d_model", "output_dim")
    config = Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            "downsample_hidden_size": audio["downsample_hidden_size"],
            **{name: audio[name] for name in names},
        },
        text_config={
            **{name: text[name] for name in TEXT_FIELDS},
            "model_type": "qwen3",
            "rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]},
        },
        audio_token_id=thinker["audio_token_id"],
        eos_token_id=generation["eos_token_id"],
        pad_token_id=generation["eos_token_id"][-1],
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    model = Qwen3ASRForConditionalGeneration(config)
    tensors = load_file(original / "model.safetensors")
    head = tensors.get("thinker.lm_head.weight", tensors["thinker.model.embed_tokens.weight"])
    tensors["thinker.lm_head.weight"] = head
    model.load_state_dict({name: tensors[to_original_name(name)].float() for name in model.state_dict()})
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=generation["eos_token_id"], pad_token_id=generation["eos_token_id"][-1]
    )
    directory.mkdir(parents=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(original / name, directory / name)
    _save_native(directory, model.eval(), CheckpointOptions(layout="hf"))
    return directory


def make_aligner(directory: Path, shape: Shape, n_labels: int = 50, layout: Layout = "original") -> Path:
    """Write a forced aligner: a head of `n_labels` time classes, untied, and one token more."""
    directory.mkdir(parents=True)
    write_tiny_tokenizer(directory, shape.bpe_tokens, (*shape.added, ("<timestamp>", False)))
    model = native_model(shape, n_labels)
    if layout == "hf":
        _save_native(directory, model, CheckpointOptions(layout="hf"))
    else:
        _save_original(directory, shape, model, CheckpointOptions(), n_labels)
    return directory


def _write_tokenizer(directory: Path, shape: Shape, real_tokenizer_dir: Path | None) -> None:
    if not shape.real_tokenizer:
        write_tiny_tokenizer(directory, shape.bpe_tokens, shape.added)
        return
    if real_tokenizer_dir is None:
        raise ValueError(f"shape {shape.name} needs the real tokenizer's directory")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copyfile(real_tokenizer_dir / name, directory / name)


def _save_native(directory: Path, model: Any, options: CheckpointOptions) -> None:
    """Save as transformers does: its weights, config, generation config and processor with tokenizer.json."""
    tokenizer = Qwen2Tokenizer.from_pretrained(directory)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (directory / name).unlink()
    dtype = getattr(torch, options.storage)
    stored = type(model)(model.config).to(dtype)
    stored.load_state_dict(model.state_dict())
    stored.generation_config = model.generation_config
    n_bytes = sum(p.numel() * p.element_size() for p in stored.parameters())
    limit = n_bytes + 1 if options.shards == 1 else -(-n_bytes // options.shards)
    transformers_logging.disable_progress_bar()
    stored.save_pretrained(directory, max_shard_size=limit)
    processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=CHAT_TEMPLATE)
    processor.save_pretrained(directory)


def _save_original(directory: Path, shape: Shape, model: Any, options: CheckpointOptions, n_labels: int | None) -> None:
    """Save in the layout of the original repositories: renamed tensors, nested config, no tokenizer.json."""
    dtype = getattr(torch, options.storage)
    tensors = {to_original_name(name): value.to(dtype).clone() for name, value in model.state_dict().items()}
    if n_labels is None and options.head != "both":
        dropped = "thinker.lm_head.weight" if options.head == "embed" else "thinker.model.embed_tokens.weight"
        del tensors[dropped]
    _write_tensors(directory, tensors, options.shards)
    _write_json(directory / "config.json", original_config(shape, n_labels))
    eos = [shape.token_id("<|endoftext|>"), shape.token_id("<|im_end|>")]
    generation = {"_from_model_config": True, "eos_token_id": eos, "pad_token_id": eos[0], "do_sample": False}
    _write_json(directory / "generation_config.json", generation)
    _write_json(directory / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    preprocessor = {
        "chunk_length": 30,
        "dither": 0.0,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 128,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "Qwen3ASRProcessor",
        "return_attention_mask": True,
    }
    _write_json(directory / "preprocessor_config.json", preprocessor)


def _write_tensors(directory: Path, tensors: Tensors, shards: int) -> None:
    names = sorted(tensors)
    if shards == 1:
        save_file({name: tensors[name].contiguous() for name in names}, directory / "model.safetensors")
        return
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        save_file({name: tensors[name].contiguous() for name in names[i::shards]}, directory / file)
    weight_map = {name: files[i % shards] for i, name in enumerate(names)}
    n_bytes = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
    _write_json(directory / "model.safetensors.index.json", index)


def _damage(directory: Path, defect: Defect | None) -> None:
    """Break a finished, unsharded checkpoint of either layout."""
    if defect is None:
        return
    if defect == "unknown_architecture":
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        config.pop("thinker_config", None)
        config |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
        _write_json(directory / "config.json", config)
        return
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("layers.0.self_attn.k_norm.weight"))
    if defect == "missing_tensor":
        del tensors[name]
    else:
        tensors[name] = torch.cat([tensors[name], tensors[name]])
    save_file(tensors, path)


def _write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
