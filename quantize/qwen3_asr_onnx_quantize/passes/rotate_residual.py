"""Turn the residual stream of the decoder into another orthogonal basis: the same function, with outliers spread.

Rule, with R orthogonal and x the residual stream:
    inputs_embeds                     -> inputs_embeds R             one product at the graph's start
    norm(x) * g, then MatMul by W     -> norm(x R), then MatMul by R^T diag(g) W
    MatMul by W that is added to x    -> MatMul by W R
A root-mean-square norm does not see R, so every layer computes what it did. The embedding table stays as it is, and
with it every other variant of the bundle.

Requires: a decoder graph as exported: the norms of the residual stream are `SkipSimplifiedLayerNormalization` nodes and
one `SimplifiedLayerNormalization` of the input, and what follows them are products by constants.
Ensures: outputs are the same up to rounding; rotated weights are `RotatedTensor`s, computed when they are written.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx.bundle.names import EMBEDS
from qwen3_asr_onnx_quantize.weights.pending import copied
from qwen3_asr_onnx_quantize.weights.rotation import RotatedTensor, rotation_matrix

__all__ = ["ROTATION", "RotateResidualPass"]

ROTATION = "residual.rotation"
"""Initializer that holds R (hidden, hidden)."""

UNIT_GAIN = "residual.unit_gain"
SKIP_NORM = "SkipSimplifiedLayerNormalization"


class RotateResidualPass(InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> PassResult:
        """Rotate the stream that starts at `inputs_embeds`."""
        graph = model.graph
        embeds = next(value for value in graph.inputs if value.name == EMBEDS)
        shape = embeds.shape
        assert shape is not None
        width = int(str(shape[-1]))
        norms = list(_residual_norms(graph, embeds))
        for norm in norms:
            if norm.op_type == SKIP_NORM:
                for value in norm.inputs[:2]:
                    assert value is not None
                    _rotate_writer(value)
        unit_gain = copied(np.ones(width), UNIT_GAIN)
        graph.register_initializer(unit_gain)
        for norm in norms:
            _rotate_readers(norm, unit_gain)
        matrix = copied(rotation_matrix(width), ROTATION)
        graph.register_initializer(matrix)
        turn = ir.node("MatMul", [embeds, matrix], name="residual_rotation")
        graph.insert_before(graph[0], turn)
        ir.convenience.replace_all_uses_with(embeds, turn.outputs[0])
        turn.replace_input_with(0, embeds)
        return PassResult(model, modified=True)


def _residual_norms(graph: ir.Graph, embeds: ir.Value) -> Iterator[ir.Node]:
    """Yield the norms of the residual stream; those of single heads follow a reshape, never the stream."""
    for node in graph:
        if node.op_type == SKIP_NORM or (node.op_type == "SimplifiedLayerNormalization" and node.inputs[0] is embeds):
            yield node


def _rotate_writer(value: ir.Value) -> None:
    """Rotate the weight of the product that gives a value, if it is one; sums and inputs are in the basis already."""
    node = value.producer()
    if node is not None and node.op_type == "GatherND":  # the last position, picked in front of the final norm
        source = node.inputs[0]
        assert source is not None
        node = source.producer()
    if node is None or node.op_type != "MatMul":
        return
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    if not isinstance(weight.const_value, RotatedTensor):
        weight.const_value = RotatedTensor(weight.const_value, None, "out")


def _rotate_readers(norm: ir.Node, unit_gain: ir.Value) -> None:
    """Fold a norm's gain into the products that read the norm, rotate them, and leave the norm a gain of one."""
    place = 2 if norm.op_type == SKIP_NORM else 1
    gain = norm.inputs[place]
    assert gain is not None
    assert gain.const_value is not None
    # Read here and now: an external tensor may not be opened by several threads at once.
    factors = np.array(gain.const_value.numpy(), dtype=np.float32)
    for reader in {use.node for use in norm.outputs[0].uses()}:
        weight = reader.inputs[1]
        assert reader.op_type == "MatMul", f"{reader.op_type} reads a norm of the residual stream"
        assert weight is not None
        assert weight.const_value is not None
        weight.const_value = RotatedTensor(weight.const_value, factors, "in")
    norm.replace_input_with(place, unit_gain)
    if not gain.uses() and gain.name is not None and norm.graph is not None:
        graph = norm.graph
        assert isinstance(graph, ir.Graph)
        del graph.initializers[gain.name]
