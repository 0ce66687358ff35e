"""The caches of all layers in one array: (layers, 1, kv_heads, positions, head_dim)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims

from .attention import Past
from .nodes import FLOAT, Nodes

__all__ = ["past_inputs", "past_of_layers", "present_outputs"]

Caches = tuple[ir.Value, ir.Value]


def past_inputs(nodes: Nodes, dims: DecoderDims) -> Caches:
    """Add the inputs `past_keys` and `past_values`."""
    keys, values = (
        nodes.input(f"past_{kind}", FLOAT, dims.layers, 1, dims.kv_heads, "past", dims.head_dim)
        for kind in ("keys", "values")
    )
    return keys, values


def past_of_layers(nodes: Nodes, dims: DecoderDims, past: Caches) -> Callable[[int], Past]:
    """Return what tells a layer its part of the caches."""
    layers = [nodes.ops("Split", whole, n_outputs=dims.layers, axis=0, num_outputs=dims.layers) for whole in past]

    def of(layer: int) -> Past:
        # As products of matrices want them; the number of positions, which may be 0, comes from the array itself.
        keys, values = (nodes.op("Squeeze", parts[layer], nodes.ints(0, 1)) for parts in layers)
        return Past(keys, values, by_row=False)

    return of


def present_outputs(
    nodes: Nodes, dims: DecoderDims, new: Sequence[tuple[ir.Value, ir.Value]], past: Caches | None
) -> None:
    """Add the outputs `present_keys` and `present_values`: what was there before, and the new positions behind it."""
    before = (None, None) if past is None else past
    for kind, old, values in zip(("keys", "values"), before, zip(*new, strict=True), strict=True):
        rows = nodes.op("Concat", *(nodes.op("Unsqueeze", value, nodes.ints(0, 1)) for value in values), axis=0)
        heads_first = nodes.op("Transpose", rows, perm=[0, 1, 3, 2, 4])
        whole = heads_first if old is None else nodes.op("Concat", old, heads_first, axis=3)
        nodes.output(whole, f"present_{kind}", FLOAT, dims.layers, 1, dims.kv_heads, "total", dims.head_dim)
