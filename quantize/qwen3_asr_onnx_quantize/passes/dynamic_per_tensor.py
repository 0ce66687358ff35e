"""MatMul by a constant -> 8-bit integer product, activations quantised with one scale and zero point per call.

Rule: y = MatMul(x, W) becomes
    codes, scale, zero = DynamicQuantizeLinear(x)          once per x, however many products read it
    y = MatMulIntegerToFloat(codes, W8, scale, scales of W8, zero)

Requires: W is a float32 initializer (K, N) whose numbers can be read in slices.
Ensures: no product whose weight the recipe gives to this scheme is left; the codes are pending, nothing is computed.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.recipes.recipe import Dynamic
from qwen3_asr_onnx_quantize.weights.pending import Job

from .products import DOMAIN, Choose, constant_products, replace_product

__all__ = ["DynamicPerTensorPass"]


class DynamicPerTensorPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self.choose = choose

    def call(self, model: ir.Model) -> PassResult:
        """Replace every product that the recipe gives to this scheme."""
        quantized: dict[ir.Value, ir.Node] = {}
        modified = False
        for node, weight, tensor in constant_products(model):
            spec = self.choose(str(weight.name))
            if not isinstance(spec, Dynamic) or spec.activations != "tensor":
                continue
            x = node.inputs[0]
            assert x is not None
            nodes = []
            if x not in quantized:
                quantized[x] = ir.node("DynamicQuantizeLinear", [x], num_outputs=3, name=f"{x.name}_quantize")
                nodes.append(quantized[x])
            values = Job(tensor, spec).initializers()
            known = model.graph.initializers
            weights, scales = (known.get(str(value.name), value) for value in values)
            codes, scale, zero = quantized[x].outputs
            nodes.append(
                ir.node("MatMulIntegerToFloat", [codes, weights, scale, scales, zero], domain=DOMAIN, name=node.name)
            )
            replace_product(model, node, nodes, [weights, scales])
            modified = True
        return PassResult(model, modified=modified)
