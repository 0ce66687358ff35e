"""Attention over a cache that belongs to the caller: what stands for `GroupQueryAttention` in graphs of other programs.

That operator wants the cache of our runtime. Here a layer takes what its caller keeps, reads it where it lies, and
hands out the keys and values of the new positions alone.

Requires: a decoder graph of a bundle, with one `GroupQueryAttention` for every layer.
Ensures: no such node is left; queries and keys are turned by the positions that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims

from .nodes import CONTRIB, FLOAT, Nodes

__all__ = ["Past", "attend", "blocked", "causal_bias", "counted", "repeat_rows", "seen"]

BLOCKED = -1e30
"""What is added to the score of a position that must not be seen; finite, so that no row is ever without a number."""

ATTENTION = "GroupQueryAttention"

FREQUENCIES = "model.inv_freq"


@dataclass(frozen=True, slots=True)
class Past:
    """The cache of one layer as its caller keeps it: both (kv_heads, P, head_dim), or `by_row` (P, kv_heads, head_dim).

    P must not be 0 `by_row`: onnxruntime's product divides by it.
    """

    keys: ir.Value
    values: ir.Value
    by_row: bool


def attend(
    nodes: Nodes, dims: DecoderDims, positions: ir.Value, bias: ir.Value, past_of: Callable[[int], Past | None]
) -> list[tuple[ir.Value, ir.Value]]:
    """Replace the attention of every layer.

    Args:
        nodes: a decoder graph.
        dims: its dimensions.
        positions: (1, S) int64, where the new positions stand.
        bias: (1, S x heads per kv head, P + S) float32, added to the scores.
        past_of: the cache of a layer, by its number; None where P is 0.

    Returns:
        For each layer the keys, turned, and the values of the new positions: (S, kv_heads, head_dim).
    """
    cosines, sines = _waves(nodes, positions)
    new = []
    for layer, node in enumerate(list(_attentions(nodes.graph))):
        query, keys, values = node.inputs[:3]
        turned_query, turned_keys = (
            nodes.op("RotaryEmbedding", value, nodes.ints(0), cosines, sines, domain=CONTRIB, num_heads=heads)
            for value, heads in ((query, dims.heads), (keys, dims.kv_heads))
        )
        assert values is not None
        new_keys, new_values = (nodes.reshape(one, -1, dims.kv_heads, dims.head_dim) for one in (turned_keys, values))
        now = Past(new_keys, new_values, by_row=True)
        before = past_of(layer)
        attended = _attended(nodes, dims, turned_query, [now] if before is None else [before, now], bias)
        nodes.replace(node.outputs[0], attended)
        new.append((now.keys, now.values))
    return new


def causal_bias(nodes: Nodes, length: ir.Value) -> ir.Value:
    """Return what keeps S new positions, of which `length` (1,) is the number, from those behind them: (S, S)."""
    numbers = counted(nodes, length)
    rows, columns = (nodes.op("Unsqueeze", numbers, nodes.ints(axis)) for axis in (1, 0))
    return nodes.op("Where", nodes.op("GreaterOrEqual", rows, columns), seen(nodes), blocked(nodes))


def counted(nodes: Nodes, length: ir.Value) -> ir.Value:
    """Return the numbers 0, 1, ... of which `length` (1,) is how many."""
    first, step = (nodes.constant(np.array(number, np.int64), f"layout.scalar.{number}") for number in (0, 1))
    return nodes.op("Range", first, nodes.op("Squeeze", length), step)


def seen(nodes: Nodes) -> ir.Value:
    """Return the constant (1,) for what may be seen."""
    return nodes.constant(np.zeros(1, np.float32), "layout.seen")


def blocked(nodes: Nodes) -> ir.Value:
    """Return the constant (1,) for what must not be seen."""
    return nodes.constant(np.full(1, BLOCKED, np.float32), "layout.blocked")


def repeat_rows(nodes: Nodes, dims: DecoderDims, bias: ir.Value) -> ir.Value:
    """Give the queries that share a key a row each: (S, P + S) -> (1, S x heads per kv head, P + S)."""
    group = dims.heads // dims.kv_heads
    spread = nodes.op("Expand", nodes.op("Unsqueeze", bias, nodes.ints(1)), nodes.ints(1, group, 1))
    shape = nodes.op("Concat", nodes.ints(1, -1), nodes.size(bias, 1), axis=0)
    return nodes.op("Reshape", spread, shape)


def _waves(nodes: Nodes, positions: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return cosines and sines of the positions alone: (S, head_dim / 2). A table of all positions is 33 MB."""
    numbers = nodes.op("Cast", nodes.reshape(positions, -1, 1), to=FLOAT)
    angles = nodes.op("Mul", numbers, nodes.graph.initializers[FREQUENCIES])
    return nodes.op("Cos", angles), nodes.op("Sin", angles)


def _attentions(graph: ir.Graph) -> Iterator[ir.Node]:
    return (node for node in graph if node.op_type == ATTENTION)


def _attended(nodes: Nodes, dims: DecoderDims, query: ir.Value, parts: list[Past], bias: ir.Value) -> ir.Value:
    """Return (1, S, heads x head_dim). Scores against each part are concatenated; the parts themselves never are."""
    group = dims.heads // dims.kv_heads
    heads = nodes.reshape(query, -1, dims.kv_heads, group, dims.head_dim)
    heads = nodes.op("Transpose", heads, perm=[1, 0, 2, 3])
    rows = nodes.reshape(heads, dims.kv_heads, -1, dims.head_dim)
    scale = dims.head_dim**-0.5
    scores = [
        nodes.op("FusedMatMul", rows, part.keys, domain=CONTRIB, transB=1, transBatchB=int(part.by_row), alpha=scale)
        for part in parts
    ]
    together = scores[0] if len(parts) == 1 else nodes.op("Concat", *scores, axis=2)
    shares = nodes.op("Softmax", nodes.op("Add", together, bias), axis=-1)
    pieces = [shares]
    if len(parts) > 1:
        lengths = nodes.op("Concat", *(nodes.size(score, 2) for score in scores), axis=0)
        pieces = list(nodes.ops("Split", shares, lengths, n_outputs=len(parts), axis=2))
    sums = [
        nodes.op("FusedMatMul", piece, part.values, domain=CONTRIB, transBatchB=int(part.by_row))
        for piece, part in zip(pieces, parts, strict=True)
    ]
    total = sums[0] if len(parts) == 1 else nodes.op("Add", *sums)
    back = nodes.op("Transpose", nodes.reshape(total, dims.kv_heads, -1, group, dims.head_dim), perm=[1, 0, 2, 3])
    return nodes.reshape(back, 1, -1, dims.heads * dims.head_dim)
