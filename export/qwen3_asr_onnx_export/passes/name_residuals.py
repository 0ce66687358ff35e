"""Name the two values that cross from one decoder layer to the next, so that the graph can be cut there.

Rule: in topological order the graph has 2 L skip norms, L = layers: one after each attention, and one in front of each
following attention or the final norm. The inputs 0 and 1 of the latter are the layer's output and its residual.

Requires: a decoder graph as traced from `wrappers.decoder`, with 2 L `SkipSimplifiedLayerNormalization` nodes.
Ensures: values `layer.{i}.output` and `layer.{i}.residual` exist for every layer i.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx.bundle.names import layer_boundary

__all__ = ["NameResidualsPass"]


class NameResidualsPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers

    def call(self, model: ir.Model) -> PassResult:
        """Rename the boundary values of every layer."""
        norms = [node for node in model.graph if node.op_type == "SkipSimplifiedLayerNormalization"]
        assert len(norms) == 2 * self.layers, f"{len(norms)} skip norms for {self.layers} layers"
        gathers = {v.name: v for node in model.graph if node.op_type == "GatherND" for v in node.outputs}
        for layer, node in enumerate(norms[1::2]):
            for value, name in zip(node.inputs[:2], layer_boundary(layer), strict=True):
                assert value is not None
                producer = value.producer()
                # In front of the final norm only the last position is kept: the boundary lies before that gather.
                source = producer.inputs[0] if value.name in gathers and producer is not None else value
                assert source is not None
                source.name = name
        return PassResult(model, modified=True)
