"""MatMul by a constant -> 8-bit integer product, activations quantised with one scale per position.

Rule: y = MatMul(x, W) becomes
    largest = Max(ReduceMax(Abs(x), last axis), tiny)      once per x, however many products read it
    codes = QuantizeLinear(x / largest, 1/127, 128)        likewise
    y = MatMulIntegerToFloat(codes, W8, 1/127, scales of W8, 128) * largest

Codes are unsigned around 128 because that is the mixture with signed weights that processors have a fast kernel for:
with signed codes the same product took 16 times as long (onnxruntime 1.31.1, AVX-512 VNNI, 158 x 1024 x 3072).

Requires: W is a float32 initializer (K, N) whose numbers can be read in slices.
Ensures: no product whose weight the recipe gives to this scheme is left; the codes are pending, nothing is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.recipes.recipe import Dynamic
from qwen3_asr_onnx_quantize.weights.pending import Job

from .products import DOMAIN, Choose, constant, constant_products, replace_product

__all__ = ["DynamicPerTokenPass"]

ACTIVATION_CODES = 127
ZERO_CODE = 128
TINY = 1e-20
"""Stands in for the largest value of a position that is all zeros (padding): its codes are then zero as well."""


class _Constants(NamedTuple):
    last_axis: ir.Value
    tiny: ir.Value
    scale: ir.Value
    zero: ir.Value


class DynamicPerTokenPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self.choose = choose

    def call(self, model: ir.Model) -> PassResult:
        """Replace every product that the recipe gives to this scheme."""
        chains: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        constants = _constants()
        modified = False
        for node, weight, tensor in constant_products(model):
            spec = self.choose(str(weight.name))
            if not isinstance(spec, Dynamic) or spec.activations != "token":
                continue
            x = node.inputs[0]
            assert x is not None
            nodes: list[ir.Node] = []
            if x not in chains:
                nodes, chains[x] = _quantize(x, constants)
            codes, largest = chains[x]
            known = model.graph.initializers
            weights, scales = (known.get(str(v.name), v) for v in Job(tensor, spec).initializers())
            product = ir.node(
                "MatMulIntegerToFloat",
                [codes, weights, constants.scale, scales, constants.zero],
                domain=DOMAIN,
                name=node.name,
            )
            rescaled = ir.node("Mul", [product.outputs[0], largest], name=f"{node.name}_rescale")
            replace_product(model, node, [*nodes, product, rescaled], [weights, scales, *constants])
            modified = True
        return PassResult(model, modified=modified)


def _quantize(x: ir.Value, constants: _Constants) -> tuple[list[ir.Node], tuple[ir.Value, ir.Value]]:
    """Return the nodes that quantise x, their codes, and the largest magnitude of each position."""
    name = x.name
    magnitude = ir.node("Abs", [x], name=f"{name}_abs")
    peak = ir.node("ReduceMax", [magnitude.outputs[0], constants.last_axis], {"keepdims": 1}, name=f"{name}_peak")
    largest = ir.node("Max", [peak.outputs[0], constants.tiny], name=f"{name}_largest")
    unit = ir.node("Div", [x, largest.outputs[0]], name=f"{name}_unit")
    codes = ir.node("QuantizeLinear", [unit.outputs[0], constants.scale, constants.zero], name=f"{name}_quantize")
    return [magnitude, peak, largest, unit, codes], (codes.outputs[0], largest.outputs[0])


def _constants() -> _Constants:
    return _Constants(
        constant("per_token.last_axis", np.array([-1], np.int64)),
        constant("per_token.tiny", np.array(TINY, np.float32)),
        constant("per_token.scale", np.array(1 / ACTIVATION_CODES, np.float32)),
        constant("per_token.zero", np.array(ZERO_CODE, np.uint8)),
    )
