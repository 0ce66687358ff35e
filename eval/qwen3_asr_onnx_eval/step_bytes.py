"""Variant of a bundle -> the bytes that one decoding step has to read from memory: the floor of its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle import Bundle
from qwen3_asr_onnx.kv_cache import KvCache

__all__ = ["step_bytes"]


def step_bytes(bundle: Bundle, variant: str) -> dict[str, Any]:
    """Return `weights`: bytes of the step graph's weights as stored, and `per_position`: cache bytes per position."""
    path = bundle.path / bundle.manifest.variants[variant].decoder_step
    return {"weights": _external_bytes(path), "per_position": KvCache.position_bytes(bundle.manifest.decoder)}


def _external_bytes(graph: Path) -> int:
    """Return the bytes of external data that a graph names."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    lengths = (int(entry.value) for t in model.graph.initializer for entry in t.external_data if entry.key == "length")
    return sum(lengths)
