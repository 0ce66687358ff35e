"""MatMul by a constant -> `MatMulNBits`: weights in 4 or 8 bits, activations in float32.

Rule: y = MatMul(x, W) becomes y = MatMulNBits(x, codes, scales[, zero points]); scales stored in half precision pass
through a `Cast`, which onnxruntime folds once at load.

Requires: W is a float32 initializer (K, N) whose numbers can be read in slices.
Ensures: no product whose weight the recipe gives to this scheme is left; the codes are pending, nothing is computed.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.recipes.recipe import WeightOnly
from qwen3_asr_onnx_quantize.weights.pending import Job

from .products import DOMAIN, Choose, constant_products, replace_product

__all__ = ["WeightOnlyPass"]


class WeightOnlyPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self.choose = choose

    def call(self, model: ir.Model) -> PassResult:
        """Replace every product that the recipe gives to this scheme."""
        modified = False
        for node, weight, tensor in constant_products(model):
            spec = self.choose(str(weight.name))
            if isinstance(spec, WeightOnly):
                self._replace(model, node, tensor, spec)
                modified = True
        return PassResult(model, modified=modified)

    @staticmethod
    def _replace(model: ir.Model, node: ir.Node, tensor: ir.TensorProtocol, spec: WeightOnly) -> None:
        known = model.graph.initializers
        values = [known.get(str(value.name), value) for value in Job(tensor, spec).initializers()]
        codes, scales, *zero_points = values
        nodes = []
        wide = scales
        if spec.scales == "fp16":
            cast = ir.node("Cast", [scales], {"to": ir.DataType.FLOAT}, name=f"{node.name}_scales")
            cast.outputs[0].name = f"{scales.name}_f32.{node.name}"
            nodes.append(cast)
            wide = cast.outputs[0]
        k, n = (int(size) for size in tensor.shape.numpy())
        product = ir.node(
            "MatMulNBits",
            [node.inputs[0], codes, wide, *zero_points],
            {"K": k, "N": n, "bits": spec.bits, "block_size": spec.block, "accuracy_level": spec.accuracy_level},
            domain=DOMAIN,
            name=node.name,
        )
        replace_product(model, node, [*nodes, product], values)
