"""Variant of a bundle -> the bytes that one decoding step has to read from memory: the floor of its time."""

from __future__ import annotations

from typing import Any

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.model.kv_cache import KvCache

from .roofline import graph_cost_facts

__all__ = ["step_bytes"]


def step_bytes(bundle: Bundle, variant: str) -> dict[str, Any]:
    """Return `weights`: bytes of the step graph's weights as stored, and `per_position`: cache bytes per position."""
    n_bytes, _ = graph_cost_facts(bundle.path / bundle.manifest.variants[variant].decoder_step)
    return {"weights": n_bytes, "per_position": KvCache.position_bytes(bundle.manifest.decoder)}
