"""Give the channels between two products the same weight on both sides: large in one, small in the other no longer.

Rule, with s a power of two for each channel j, about the root of |column j of W| / |row j of V|:
    up_proj W, times the gate, then down_proj V    -> W / s, V s
    v_proj W, mixed by attention, then o_proj V    -> W / s, V s, one s for all query heads that share a value head
Gate and attention only mix positions or multiply, so the scales cancel, and as powers of two they do so to the last
bit. No rotation reaches these channels. SmoothQuant (arXiv 2211.10438) takes s from activations; from the weights alone
(Nagel et al., arXiv 1906.04721) it needs no audio.

Requires: a decoder graph as exported.
Ensures: outputs are the same; scaled weights are `ScaledTensor`s, computed when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.weights.derived import ScaledTensor
from qwen3_asr_onnx_quantize.weights.sources import numbers

__all__ = ["SmoothPass"]

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two weights with channels between them.

    Attributes:
        first: weight whose outputs are the channels, (K, kv * width).
        second: weight whose inputs they are, (kv * shared * width, N).
        width: channels that are scaled one by one.
        shared: how many runs of inputs of the second read each run of outputs of the first.
    """

    first: ir.Value
    second: ir.Value
    width: int
    shared: int


class SmoothPass(InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> PassResult:
        """Scale the two weights of every pair."""
        for pair in list(_pairs(model.graph)):
            first, second = pair.first.const_value, pair.second.const_value
            assert first is not None
            assert second is not None
            scale = _scales(numbers(first), numbers(second), pair)
            rows = np.repeat(scale.reshape(-1, 1, pair.width), pair.shared, axis=1).reshape(-1)
            pair.first.const_value = ScaledTensor(first, None, np.float32(1) / scale)
            pair.second.const_value = ScaledTensor(second, rows, None)
        return PassResult(model, modified=True)


def _pairs(graph: ir.Graph) -> Iterator[_Pair]:
    for node in graph:
        if node.op_type != "MatMul" or node.inputs[0] is None or node.inputs[1] is None:
            continue
        between = node.inputs[0].producer()
        if between is None or not node.inputs[1].is_initializer():
            continue
        if between.op_type == "GroupQueryAttention":
            first = _weight_of(between.inputs[2])
            if first is not None:
                heads, groups = (int(between.attributes[key].as_int()) for key in ("num_heads", "kv_num_heads"))
                assert first.shape is not None
                yield _Pair(first, node.inputs[1], int(str(first.shape[1])) // groups, heads // groups)
        elif between.op_type == "Mul":
            found = [weight for weight in map(_weight_of, between.inputs) if weight is not None]
            if len(found) == 1:
                assert found[0].shape is not None
                yield _Pair(found[0], node.inputs[1], int(str(found[0].shape[1])), 1)


def _weight_of(value: ir.Value | None) -> ir.Value | None:
    """Return the constant of the product that gives a value."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "MatMul" or node.inputs[1] is None or not node.inputs[1].is_initializer():
        return None
    return node.inputs[1]


def _scales(first: Floats, second: Floats, pair: _Pair) -> Floats:
    """Return powers of two (kv * width,) that even out the two sides, one where a side is zero."""
    written = np.einsum("kn,kn->n", first, first, dtype=np.float64)
    read = np.einsum("kn,kn->k", second, second, dtype=np.float64)
    read = read.reshape(-1, pair.shared, pair.width).mean(axis=1).reshape(-1)
    alive = (written > 0) & (read > 0)
    # A quarter: the two are squares of norms, and each side takes half of the ratio.
    exponents = np.log2(written, where=alive, out=np.zeros_like(written))
    exponents -= np.log2(read, where=alive, out=np.zeros_like(read))
    exponents = (exponents - np.median(exponents[alive] if alive.any() else exponents)) / 4
    scales: Floats = np.where(alive, np.exp2(np.rint(exponents)), 1).astype(np.float32)
    return scales
