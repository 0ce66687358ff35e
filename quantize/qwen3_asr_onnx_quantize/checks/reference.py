"""The model in numpy and float64, as far as checks need it: the whole encoder, and the decoder's first layer.

Nothing here knows of graphs.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Mel
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims

__all__ = ["Weights", "encode", "first_layer"]

Doubles: TypeAlias = npt.NDArray[np.float64]


class Weights(Protocol):
    """Gives weights by name, products as (K, N), as `qwen3_asr_onnx.bundle.workshops.Float32Source` does."""

    def read(self, name: str, start: int, stop: int, *, columns: bool) -> npt.NDArray[np.float32]:
        """Return rows, or columns, [start, stop)."""


TOWER = "audio_tower."
LAYER_NORM_EPSILON = 1e-5
STRIDE = 8
"""Mel frames per audio token."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def encode(weights: Weights, dims: EncoderDims, mel: Mel) -> Doubles:
    """Return the audio embeddings (n_tokens, output_dim) of one window.

    Args:
        weights: the model's.
        dims: the encoder's shape.
        mel: (n_mels, n_frames), no longer than a window.
    """
    read = partial(_read, weights)
    blocks = []
    for start in range(0, mel.shape[1], dims.block_frames):
        frames = mel[:, start : start + dims.block_frames].astype(np.float64)
        x = np.pad(frames, ((0, 0), (0, dims.block_frames - frames.shape[1])))[None]
        for i in (1, 2, 3):
            name = f"{TOWER}conv2d{i}"
            kernel, bias = read(f"{name}.weight", dims.conv_channels), read(f"{name}.bias", dims.conv_channels)
            x = _gelu(_convolved(x, kernel) + bias[:, None, None])
        channels, bins, tokens = x.shape
        flat = x.transpose(2, 0, 1).reshape(tokens, channels * bins)
        x = _product(weights, f"{TOWER}conv_out", flat, dims.d_model) + read(f"{TOWER}positions", tokens)
        blocks.append(x[: -(-frames.shape[1] // STRIDE)])
    x = np.concatenate(blocks)
    width = dims.d_model
    for i in range(dims.layers):
        layer = f"{TOWER}layers.{i}."
        normed = _layer_norm(weights, f"{layer}self_attn_layer_norm", x)
        q, k, v = (_linear(weights, f"{layer}self_attn.{name}_proj", normed, width) for name in "qkv")
        heads = [_split(values, dims.heads) for values in (q, k, v)]
        x = x + _linear(weights, f"{layer}self_attn.out_proj", _attended(*heads, causal=False), width)
        normed = _layer_norm(weights, f"{layer}final_layer_norm", x)
        inner = _gelu(_linear(weights, f"{layer}fc1", normed, dims.ffn))
        x = x + _linear(weights, f"{layer}fc2", inner, width)
    x = _gelu(_linear(weights, f"{TOWER}proj1", _layer_norm(weights, f"{TOWER}ln_post", x), width))
    return _linear(weights, f"{TOWER}proj2", x, dims.output_dim)


def first_layer(weights: Weights, dims: DecoderDims, x: Doubles) -> Doubles:
    """Return what the decoder's first layer adds to its input.

    Args:
        weights: the model's.
        dims: the decoder's shape.
        x: (n, hidden) embeddings of the first n positions.
    """
    read = partial(_read, weights)
    layer, hidden, inner = "model.layers.0.", dims.hidden, dims.heads * dims.head_dim
    normed = _rms_norm(x, read(f"{layer}input_layernorm.weight", hidden), dims)
    shared = dims.kv_heads * dims.head_dim
    q, k, v = (
        _product(weights, f"{layer}self_attn.{name}_proj", normed, width)
        for name, width in (("q", inner), ("k", shared), ("v", shared))
    )
    angles = np.arange(len(x))[:, None] * read("model.inv_freq", dims.head_dim // 2)
    queries, keys = (
        _turned(_rms_norm(_split(values, n), read(f"{layer}self_attn.{name}_norm.weight", dims.head_dim), dims), angles)
        for values, n, name in ((q, dims.heads, "q"), (k, dims.kv_heads, "k"))
    )
    groups = dims.heads // dims.kv_heads
    keys, values = (np.repeat(heads, groups, axis=0) for heads in (keys, _split(v, dims.kv_heads)))
    added = _product(weights, f"{layer}self_attn.o_proj", _attended(queries, keys, values, causal=True), hidden)
    normed = _rms_norm(x + added, read(f"{layer}post_attention_layernorm.weight", hidden), dims)
    gate, up = (_product(weights, f"{layer}mlp.{name}_proj", normed, dims.intermediate) for name in ("gate", "up"))
    mixed = gate / (1 + np.exp(-gate)) * up
    return added + _product(weights, f"{layer}mlp.down_proj", mixed, hidden)


def _read(weights: Weights, name: str, length: int) -> Doubles:
    return weights.read(name, 0, length, columns=False).astype(np.float64)


def _product(weights: Weights, name: str, x: Doubles, width: int) -> Doubles:
    product: Doubles = x @ weights.read(f"{name}.weight", 0, width, columns=True).astype(np.float64)
    return product


def _linear(weights: Weights, name: str, x: Doubles, width: int) -> Doubles:
    return _product(weights, name, x, width) + _read(weights, f"{name}.bias", width)


def _layer_norm(weights: Weights, name: str, x: Doubles) -> Doubles:
    width = x.shape[1]
    centred = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
    normed: Doubles = centred / scale
    return normed * _read(weights, f"{name}.weight", width) + _read(weights, f"{name}.bias", width)


def _rms_norm(x: Doubles, gain: Doubles, dims: DecoderDims) -> Doubles:
    normed: Doubles = x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + dims.rms_norm_eps) * gain
    return normed


def _gelu(x: Doubles) -> Doubles:
    activated: Doubles = x * (1 + _erf(x / math.sqrt(2))) / 2
    return activated


def _split(x: Doubles, heads: int) -> Doubles:
    """Return (n, heads * width) as (heads, n, width)."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def _turned(x: Doubles, angles: Doubles) -> Doubles:
    """Return (heads, n, width) with the first half of each vector turned against the second."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=-1
    )


def _attended(queries: Doubles, keys: Doubles, values: Doubles, *, causal: bool) -> Doubles:
    """Return (n, heads * width) of queries, keys and values (heads, n, width)."""
    scores = queries @ keys.transpose(0, 2, 1) / math.sqrt(queries.shape[-1])
    if causal:
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Doubles = shares / shares.sum(axis=-1, keepdims=True) @ values
    return mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1)


def _convolved(x: Doubles, kernel: Doubles) -> Doubles:
    """Return (C', H', W') of x (C, H, W) and a kernel (C', C, 3, 3), stride 2, padding 1."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    convolved: Doubles = np.tensordot(kernel, patches, axes=((1, 2, 3), (0, 3, 4)))
    return convolved
