"""An output for the final hidden state, so that the runtime can compute single logits from the embedding table.

Rule: the input x of the head, x = norm(h), becomes an output as well. After a rotation of the residual stream, where
x = norm(h R) and the head holds the gain g of the norm, the output is (x transposed R) * g: what the head of the
checkpoint would have got.

Requires: one product by the head's weight, still in float32; the rotation, if there is one, done.
Ensures: everything else is as it was.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx.bundle.names import HIDDEN
from qwen3_asr_onnx_quantize.schemes.products import DOMAIN
from qwen3_asr_onnx_quantize.weights.pending import copied
from qwen3_asr_onnx_quantize.weights.rotation import RotatedTensor

from .rotate_residual import ROTATION

__all__ = ["ExposeHiddenPass"]


class ExposeHiddenPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head = head

    def call(self, model: ir.Model) -> PassResult:
        """Add the output."""
        graph = model.graph
        weight = graph.initializers[self.head]
        ((product, _),) = weight.uses()
        state = product.inputs[0]
        logits = product.outputs[0]
        assert state is not None
        if isinstance(weight.const_value, RotatedTensor):
            assert weight.const_value.gain is not None
            gain = copied(weight.const_value.gain, f"{self.head}.gain")
            graph.register_initializer(gain)
            turned = ir.node(
                "FusedMatMul", [state, graph.initializers[ROTATION]], {"transB": 1}, domain=DOMAIN, name="turn_back"
            )
            last = ir.node("Mul", [turned.outputs[0], gain], name=HIDDEN)
            graph.insert_after(product, [turned, last])
            graph.opset_imports.setdefault(DOMAIN, 1)
        else:
            last = ir.node("Identity", [state], name=HIDDEN)
            graph.insert_after(product, last)
        output = last.outputs[0]
        output.name, output.type = HIDDEN, ir.TensorType(ir.DataType.FLOAT)
        assert logits.shape is not None
        assert weight.shape is not None
        output.shape = ir.Shape([*logits.shape[:-1], weight.shape[0]])
        graph.outputs.append(output)
        return PassResult(model, modified=True)
