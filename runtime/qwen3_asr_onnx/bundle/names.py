"""The names that graphs and runtime agree on: files of a variant, inputs and outputs of its graphs, values inside them.

Whoever writes a bundle and whoever reads one takes them from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "AUDIO_FEATURES",
    "EMBEDS",
    "HEAD",
    "HIDDEN",
    "LOGITS",
    "MEL",
    "N_FRAMES",
    "POSITIONS",
    "SEQLENS",
    "TOTAL",
    "CacheKind",
    "VariantFiles",
    "cache_names",
    "layer_boundary",
    "past_name",
    "present_name",
    "variant_files",
]

MEL, N_FRAMES, AUDIO_FEATURES = "mel", "n_frames", "audio_features"
"""Inputs and output of the encoder: (windows, n_mels, frames), (windows,) and (windows, n_audio_tokens, output_dim)."""

EMBEDS, SEQLENS, TOTAL, POSITIONS = "inputs_embeds", "seqlens_k", "total_sequence_length", "logit_positions"
"""Inputs of the decoder, which has the caches beside them."""

LOGITS = "logits"

HIDDEN = "final_hidden"
"""Output (B, K, hidden) float32 of decoder graphs made for it: logits are its products with the embedding table."""

HEAD = "lm_head.weight"
"""The checkpoint's name, and so the graph's, for the projection to the vocabulary or to an aligner's times."""

CacheKind: TypeAlias = Literal["key", "value"]


class VariantFiles(NamedTuple):
    """File names of a variant's graphs and of their weights; what it shares with another bears the other's name."""

    encoder: str
    decoder_init: str
    decoder_step: str
    encoder_weights: str
    decoder_weights: str
    init_weights: str


def variant_files(variant: str = "") -> VariantFiles:
    """Return the file names of a variant; without a name, of the one that was exported."""
    infix = f".{variant}" if variant else ""
    graphs = (f"{name}{infix}.onnx" for name in ("encoder", "decoder_init", "decoder_step"))
    return VariantFiles(
        *graphs, *(f"{name}{infix}.data" for name in ("encoder", "decoder_weights", "decoder_init_weights"))
    )


def past_name(kind: CacheKind, layer: int) -> str:
    """Return the graph input that holds the cache of one layer, for example `past_key.3`."""
    return f"past_{kind}.{layer}"


def present_name(kind: CacheKind, layer: int) -> str:
    """Return the graph output that holds the cache of one layer, for example `present_key.3`."""
    return f"present_{kind}.{layer}"


def cache_names(name: Callable[[CacheKind, int], str], layers: int) -> list[str]:
    """Return `past_name` or `present_name` of all caches: key and value of each layer in turn."""
    kinds: tuple[CacheKind, ...] = ("key", "value")
    return [name(kind, layer) for layer in range(layers) for kind in kinds]


def layer_boundary(layer: int) -> tuple[str, str]:
    """Return what crosses from one layer to the next: its output, and the residual sum it has yet to be added to."""
    return f"layer.{layer}.output", f"layer.{layer}.residual"
