"""Full-size checkpoints with random weights, streamed to disk: what `bench` exports and runs.

Files, names, shapes and dtypes are those of the original repositories, so time and memory are those of the real models.
The words they produce mean nothing. Weights are scaled so that activations stay near unit size through all layers.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.writing import atomic_directory
from qwen3_asr_onnx.text.languages import LANGUAGES

from .synthetic_tokenizer import TIMESTAMP_TOKEN, added_token_ids, write_tokenizer

__all__ = ["BENCH_SHAPES", "BenchShape", "ensure_checkpoint", "tensor_shapes"]

ALIGNER_LANGUAGES = (
    *("Chinese", "Cantonese", "English", "German", "Spanish", "French", "Italian", "Portuguese", "Russian"),
    *("Korean", "Japanese"),
)
"""What the released aligner says it supports, in its order."""

# Part of the directory's name: raise it when the contents change, so that a stale cache is not used.
CONTENT_VERSION = 1

BLOCK_VALUES = 1 << 22  # 8 MB of bfloat16 at a time
BYTES_PER_VALUE = 2  # bfloat16


@dataclass(frozen=True, slots=True)
class BenchShape:
    """Dimensions of one model.

    Attributes:
        layers: decoder layers; the other unprefixed fields are the decoder's too.
        conv_channels: channels of the encoder's convolution stem.
        bpe_tokens: entries of vocab.json.
        vocab_rows: rows of the embedding.
        shards: safetensors files.
        time_classes: classes of a forced aligner's head; 0 for a transcriber, whose head is its embedding.
        max_positions: positions of the decoder.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    encoder_layers: int
    d_model: int
    encoder_heads: int
    encoder_ffn: int
    conv_channels: int
    bpe_tokens: int
    vocab_rows: int
    shards: int
    time_classes: int = 0
    max_positions: int = 65_536


BENCH_SHAPES: dict[str, BenchShape] = {
    shape.name: shape
    for shape in (
        BenchShape("0.6b", 28, 1024, 3072, 16, 8, 128, 18, 896, 14, 3584, 480, 151_643, 151_936, 1),
        BenchShape("1.7b", 28, 2048, 6144, 16, 8, 128, 24, 1024, 16, 4096, 480, 151_643, 151_936, 2),
        BenchShape(
            "aligner-0.6b", 28, 1024, 3072, 16, 8, 128, 24, 1024, 16, 4096, 480, 151_643, 152_064, 1, 5_000, 8_192
        ),
        BenchShape("tiny", 3, 256, 512, 4, 2, 64, 4, 256, 4, 768, 16, 900, 1_024, 2),
    )
}
"""The released sizes, and for tests of the benchmark itself that of the miniatures: their graphs need no trace."""


def ensure_checkpoint(
    shape: BenchShape, cache_dir: Path, progress: Callable[[int], object] | None = None
) -> tuple[Path, bool]:
    """Return the directory of the checkpoint, and whether it had to be made.

    A directory with the right name is complete: it got its name by a rename after the last byte was written.

    Args:
        shape: one of `BENCH_SHAPES`.
        cache_dir: where checkpoints live; created if missing.
        progress: called with the number of bytes just written.
    """
    target = cache_dir / f"qwen3-asr-{shape.name}-random-v{CONTENT_VERSION}"
    if target.is_dir():
        return target, False
    with atomic_directory(target) as partial:
        _write_json(partial / "config.json", _config(shape))
        ids = added_token_ids(shape.bpe_tokens)
        stop_ids = [ids["<|endoftext|>"], ids["<|im_end|>"]]
        generation = {"_from_model_config": True, "eos_token_id": stop_ids, "pad_token_id": stop_ids[0]}
        _write_json(partial / "generation_config.json", {**generation, "do_sample": False, "temperature": 1e-6})
        _write_json(partial / "preprocessor_config.json", _PREPROCESSOR)
        write_tokenizer(partial, shape.bpe_tokens, timestamp=shape.time_classes > 0)
        _write_shards(partial, shape, progress)
    return target, True


def tensor_shapes(shape: BenchShape) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of the checkpoint, in file order."""
    return {f"thinker.{name}": dims for name, dims in {**_audio_tensors(shape), **_text_tensors(shape)}.items()}


def _audio_tensors(shape: BenchShape) -> dict[str, tuple[int, ...]]:
    d, ffn, conv = shape.d_model, shape.encoder_ffn, shape.conv_channels
    tensors: dict[str, tuple[int, ...]] = {}

    def add(name: str, *dims: int, bias: bool = True) -> None:
        tensors[f"audio_tower.{name}.weight"] = dims
        if bias:
            tensors[f"audio_tower.{name}.bias"] = dims[:1]

    add("conv2d1", conv, 1, 3, 3)
    add("conv2d2", conv, conv, 3, 3)
    add("conv2d3", conv, conv, 3, 3)
    add("conv_out", d, conv * 16, bias=False)  # 128 mel bins halved three times leave 16
    for i in range(shape.encoder_layers):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            add(f"layers.{i}.self_attn.{projection}", d, d)
        add(f"layers.{i}.self_attn_layer_norm", d)
        add(f"layers.{i}.final_layer_norm", d)
        add(f"layers.{i}.fc1", ffn, d)
        add(f"layers.{i}.fc2", d, ffn)
    add("ln_post", d)
    add("proj1", d, d)
    add("proj2", shape.hidden, d)
    return tensors


def _text_tensors(shape: BenchShape) -> dict[str, tuple[int, ...]]:
    hidden, inner = shape.hidden, shape.intermediate
    q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_rows, hidden)}
    for i in range(shape.layers):
        layer = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (q_width, hidden),
            "self_attn.k_proj": (kv_width, hidden),
            "self_attn.v_proj": (kv_width, hidden),
            "self_attn.o_proj": (hidden, q_width),
            "self_attn.q_norm": (shape.head_dim,),
            "self_attn.k_norm": (shape.head_dim,),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        tensors |= {f"model.layers.{i}.{name}.weight": dims for name, dims in layer.items()}
    # The released files hold the tied head a second time; an aligner has one of its own.
    head_rows = shape.time_classes or shape.vocab_rows
    return tensors | {"model.norm.weight": (hidden,), "lm_head.weight": (head_rows, hidden)}


def _write_shards(directory: Path, shape: BenchShape, progress: Callable[[int], object] | None) -> None:
    tensors = tensor_shapes(shape)
    if shape.shards == 1:
        _write_safetensors(directory / "model.safetensors", tensors, shape, progress)
        return
    total = sum(math.prod(dims) for dims in tensors.values())
    shards: list[dict[str, tuple[int, ...]]] = [{} for _ in range(shape.shards)]
    done = 0
    for name, dims in tensors.items():
        shards[done * shape.shards // total][name] = dims
        done += math.prod(dims)
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{shape.shards:05d}.safetensors"
        _write_safetensors(directory / file, shard, shape, progress)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total * BYTES_PER_VALUE}, "weight_map": weight_map}
    _write_json(directory / "model.safetensors.index.json", index)


def _write_safetensors(
    path: Path, tensors: dict[str, tuple[int, ...]], shape: BenchShape, progress: Callable[[int], object] | None
) -> None:
    """Write one safetensors file (8-byte header length, JSON header, data) block by block."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dims in tensors.items():
        end = offset + math.prod(dims) * BYTES_PER_VALUE
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, dims in tensors.items():
            # A tied head gets the embedding's seed, so its values are the same.
            tied = name if shape.time_classes else name.replace("lm_head.", "model.embed_tokens.")
            seed = zlib.crc32(tied.encode())
            rng = np.random.Generator(np.random.SFC64(seed))
            table = _value_table(*_mean_and_std(name, dims, shape))
            left = math.prod(dims)
            while left:
                block = table[rng.integers(0, table.size, min(left, BLOCK_VALUES), dtype=np.uint16)]
                file.write(block.data)
                left -= block.size
                if progress is not None:
                    progress(block.nbytes)
        file.flush()
        os.fsync(file.fileno())


def _mean_and_std(name: str, dims: tuple[int, ...], shape: BenchShape) -> tuple[float, float]:
    """Return mean and standard deviation of one tensor's values: unit-variance layers, damped residual branches."""
    if name.endswith("bias"):
        return 0.0, 0.02
    if len(dims) == 1:
        return 1.0, 0.1
    if "embed_tokens" in name or "lm_head" in name:
        return 0.0, 1 / math.sqrt(shape.hidden)
    fan_in = math.prod(dims[1:])
    if "conv2d" in name:
        return 0.0, math.sqrt(2 / fan_in)
    branch_ends = {"out_proj": shape.encoder_layers, "fc2": shape.encoder_layers}
    branch_ends |= {"o_proj": shape.layers, "down_proj": shape.layers}
    n_layers = branch_ends.get(name.split(".")[-2])
    return 0.0, 1 / math.sqrt(fan_in * (2 * n_layers if n_layers else 1))


def _standard_normal_quantiles() -> npt.NDArray[np.float32]:
    """Return 65,536 equally likely values of N(0, 1): a 16-bit random number picks one, far faster than drawing."""
    inv_cdf = NormalDist().inv_cdf
    half = [inv_cdf((i + 0.5) / 65_536) for i in range(32_768)]
    return np.array([*half, *(-value for value in reversed(half))], np.float32)


_QUANTILES: list[npt.NDArray[np.float32]] = []


def _value_table(mean: float, std: float) -> npt.NDArray[np.uint16]:
    """Return 65,536 bfloat16 bit patterns distributed as N(mean, std)."""
    if not _QUANTILES:
        _QUANTILES.append(_standard_normal_quantiles())
    bits = (mean + std * _QUANTILES[0]).astype(np.float32).view(np.uint32)
    # Round to nearest even on the upper 16 bits, which are the bfloat16.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


_PREPROCESSOR = {
    "chunk_length": 30,
    "dither": 0.0,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480_000,
    "nb_max_frames": 3_000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "Qwen3ASRProcessor",
    "return_attention_mask": True,
}


def _config(shape: BenchShape) -> dict[str, Any]:
    """Return config.json in the nested form of the original repositories."""
    ids = added_token_ids(shape.bpe_tokens)
    thinker = {
        "model_type": "qwen3_asr",
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "audio_config": _audio_config(shape),
        "audio_end_token_id": ids["<|audio_end|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_token_id": ids["<|audio_pad|>"],
        "dtype": "bfloat16",
        "initializer_range": 0.02,
        "text_config": _text_config(shape),
    }
    config: dict[str, Any] = {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": list(LANGUAGES),
        "thinker_config": thinker,
        "transformers_version": "4.57.6",
    }
    if shape.time_classes:
        thinker |= {"model_type": "qwen3_forced_aligner", "classify_num": shape.time_classes}
        timestamp_id = added_token_ids(shape.bpe_tokens, timestamp=True)[TIMESTAMP_TOKEN]
        config |= {
            "support_languages": list(ALIGNER_LANGUAGES),
            "timestamp_token_id": timestamp_id,
            "timestamp_segment_time": 80,
        }
    return config


def _audio_config(shape: BenchShape) -> dict[str, Any]:
    return {
        "activation_function": "gelu",
        "conv_chunksize": 500,
        "d_model": shape.d_model,
        "downsample_hidden_size": shape.conv_channels,
        "encoder_attention_heads": shape.encoder_heads,
        "encoder_ffn_dim": shape.encoder_ffn,
        "encoder_layers": shape.encoder_layers,
        "max_source_positions": 1_500,
        "model_type": "qwen3_asr_audio_encoder",
        "n_window": 50,
        "n_window_infer": 800,
        "num_hidden_layers": shape.encoder_layers,
        "num_mel_bins": 128,
        "output_dim": shape.hidden,
        "scale_embedding": False,
    }


def _text_config(shape: BenchShape) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "model_type": "qwen3",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 1_000_000,
        "tie_word_embeddings": not shape.time_classes,
        "vocab_size": shape.vocab_rows,
    }


def _write_json(path: Path, body: dict[str, Any]) -> None:
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
