"""Convolution weights stored in half precision and widened at load.

Rule: Conv(x, W, b) becomes Conv(x, Cast(W16), b). onnxruntime folds the cast once at load, so a call costs what it did
and computes in float32; checkpoints come in bfloat16, whose 8 significant bits the 11 of half precision hold exactly.

Requires: W is a float32 initializer.
Ensures: every constant convolution weight is stored in half precision; nothing is computed.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.weights.pending import Job

from .fp16 import Half

__all__ = ["HalfConvolutionsPass"]


class HalfConvolutionsPass(InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> PassResult:
        """Replace the weight of every convolution."""
        graph = model.graph
        modified = False
        for node in list(graph):
            weight = node.inputs[1] if node.op_type == "Conv" else None
            if weight is None or not weight.is_initializer() or weight.dtype != ir.DataType.FLOAT:
                continue
            assert weight.const_value is not None
            (half,) = Job(weight.const_value, Half()).initializers()
            half = graph.initializers.get(str(half.name), half)
            if not half.is_initializer():
                graph.register_initializer(half)
            widen = ir.node("Cast", [half], {"to": ir.DataType.FLOAT}, name=f"{node.name}_weight")
            widen.outputs[0].name = f"{half.name}_f32.{node.name}"
            graph.insert_before(node, widen)
            node.replace_input_with(1, widen.outputs[0])
            if not weight.uses() and weight.name is not None:
                del graph.initializers[weight.name]
            modified = True
        return PassResult(model, modified=modified)
