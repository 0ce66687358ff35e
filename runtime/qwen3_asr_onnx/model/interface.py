"""What the graphs of a bundle must take and give, by its manifest: names, number types, the dimensions that are fixed.

The manifest is only trusted as far as the graphs agree with it: caches and tables are allocated by its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from qwen3_asr_onnx.bundle.manifest import DecoderDims, Manifest, Variant
from qwen3_asr_onnx.bundle.names import (
    AUDIO_FEATURES,
    EMBEDS,
    HIDDEN,
    LOGITS,
    MEL,
    N_FRAMES,
    POSITIONS,
    SEQLENS,
    TOTAL,
    cache_names,
    past_name,
    present_name,
)

__all__ = ["Dimension", "Interface", "Port", "decoder_interface", "encoder_interface"]

Dimension: TypeAlias = "tuple[str, int] | None"
"""The field of the manifest that fixes a dimension, and its value; None for one that varies from call to call."""


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: its number type as numpy names it, and its dimensions."""

    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """The inputs of a graph, all of them, and those of its outputs that are read."""

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]


def encoder_interface(manifest: Manifest) -> Interface:
    """Return what the encoder graph of a bundle must have."""
    n_mels = ("mel.n_mels", manifest.mel.n_mels)
    width = ("encoder.output_dim", manifest.encoder.output_dim)
    return Interface(
        {MEL: Port("float32", (None, n_mels, None)), N_FRAMES: Port("int64", (None,))},
        {AUDIO_FEATURES: Port("float32", (None, None, width))},
    )


def decoder_interface(manifest: Manifest, variant: Variant, *, drafts: bool = False) -> Interface:
    """Return what the decoder graphs of a variant must have; the one that drafts is not rescored."""
    dims, head = manifest.decoder, manifest.timestamps
    hidden = ("decoder.hidden", dims.hidden)
    width = ("decoder.vocab_size", dims.vocab_size) if head is None else ("timestamps.classes", head.classes)
    cache = _cache_port(dims, variant)
    inputs = {
        EMBEDS: Port("float32", (None, None, hidden)),
        SEQLENS: Port("int32", (None,)),
        TOTAL: Port("int32", ()),
        POSITIONS: Port("int64", (None, None)),
    }
    outputs = {LOGITS: Port("float32", (None, None, width))}
    if variant.rescored and not drafts:
        outputs[HIDDEN] = Port("float32", (None, None, hidden))
    return Interface(
        inputs | dict.fromkeys(cache_names(past_name, dims.layers), cache),
        outputs | dict.fromkeys(cache_names(present_name, dims.layers), cache),
    )


def _cache_port(dims: DecoderDims, variant: Variant) -> Port:
    shape = (None, ("decoder.kv_heads", dims.kv_heads), None, ("decoder.head_dim", dims.head_dim))
    return Port(variant.cache_dtype, shape)
