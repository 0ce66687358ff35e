"""Weights of the graphs that no checkpoint stores, because they follow from its dimensions.

Every step of transformers' float32 arithmetic is taken here too, and its functions are computed in float64 and rounded
once. What torch computes depends on the processor in its last bit; this does not.
"""

from __future__ import annotations

import math

import numpy as np

from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims

from .shapes import conv_output_bins
from .stored_file import Floats

__all__ = ["position_table", "rotary_frequencies"]


def position_table(dims: EncoderDims) -> Floats:
    """Return `audio_tower.positions`, sinusoids of one block: (tokens per block, d_model), sines, then cosines."""
    half = dims.d_model // 2
    exponents = np.float32(-math.log(10_000) / max(half - 1, 1)) * np.arange(half, dtype=np.float32)
    frequencies = np.exp(exponents, dtype=np.float64).astype(np.float32)
    angles = np.arange(conv_output_bins(dims.block_frames), dtype=np.float32)[:, None] * frequencies
    waves = [np.sin(angles, dtype=np.float64), np.cos(angles, dtype=np.float64)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def rotary_frequencies(dims: DecoderDims) -> Floats:
    """Return `model.inv_freq`: (head_dim / 2,)."""
    exponents = np.arange(0, dims.head_dim, 2, dtype=np.float32) / np.float32(dims.head_dim)
    powers = np.power(np.float64(dims.rope_theta), exponents.astype(np.float64)).astype(np.float32)
    return np.float32(1) / powers
