"""w8a8: MatMul by a constant -> 8-bit integer product, activations quantised to 8 bits as they come.

Rule, with one scale per position: y = MatMul(x, W) becomes
    largest = Max(ReduceMax(Abs(x), last axis), tiny)      once per x, however many products read it
    codes = QuantizeLinear(x / largest, 1/127, 128)        likewise
    y = MatMulIntegerToFloat(codes, W8, 1/127, scales of W8, 128) * largest
Codes are unsigned around 128 because that is the mixture with signed weights that processors have a fast kernel for:
with signed codes the same product took 16 times as long (onnxruntime 1.31.1, AVX-512 VNNI, 158 x 1024 x 3072).

Rule, with one scale and zero point per call: it becomes
    codes, scale, zero = DynamicQuantizeLinear(x)          once per x, however many products read it
    y = MatMulIntegerToFloat(codes, W8, scale, scales of W8, zero)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from qwen3_asr_onnx.bundle.manifest import FULL_RANGE_INT8
from qwen3_asr_onnx_quantize.weights.channelwise import FULL_RANGE, REDUCED_RANGE, quantize_channels
from qwen3_asr_onnx_quantize.weights.pending import Array, Factor, Stored

from .base import Scheme, require
from .products import DOMAIN, Choose, ProductPass, constant

__all__ = ["Dynamic", "DynamicPerTensorPass", "DynamicPerTokenPass"]

Activations: TypeAlias = Literal["token", "tensor"]

ACTIVATION_CODES = 127
ZERO_CODE = 128
TINY = 1e-20
"""Stands in for the largest value of a position that is all zeros (padding): its codes are then zero as well."""


@dataclass(frozen=True, slots=True)
class Dynamic(Scheme):
    """int8 weights, one scale per output; activations are quantised to 8 bits as they come.

    Attributes:
        scheme: "w8a8".
        activations: "token" gives each position its own scale, "tensor" one scale to all of a call: 8 % faster, and
            an outlier at one position costs all others their precision.
        reduce_range: 7-bit weights. x86 processors without VNNI add pairs of 8 x 8 bit products in 16 bits, where
            full-range weights saturate; with 7 bits no sum can.
        exclude: patterns (`*` matches anything) of weight names that stay float32.
    """

    columns: ClassVar[bool] = True

    scheme: Literal["w8a8"] = "w8a8"
    activations: Activations = "token"
    reduce_range: bool = False
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.activations in ("token", "tensor"), "activations", self.activations, '"token" or "tensor"')

    @property
    def needs(self) -> tuple[str, ...]:
        """Codes of all 8 bits overflow where sums have 16."""
        return () if self.reduce_range else (FULL_RANGE_INT8,)

    @property
    def error(self) -> float:
        """Steps of 7 or 8 bits on both sides; with one scale for all positions those of the quiet ones are coarser."""
        return {"token": 0.025, "tensor": 0.06}[self.activations]

    def bytes_only(self) -> Dynamic:
        """Return it without what leaves no trace in the bytes."""
        return replace(self, exclude=(), activations="token")

    def outputs(self, name: str, shape: tuple[int, ...]) -> tuple[Stored, ...]:
        """Return codes and scales."""
        return (
            Stored(f"{name}.int8", np.dtype(np.int8), shape, axis=1),
            Stored(f"{name}.int8_scales", np.dtype(np.float32), shape[1:]),
        )

    def compute(self, name: str, values: Array, factor: Factor | None) -> tuple[Array, ...]:  # noqa: ARG002
        """Return the shares of some columns."""
        return quantize_channels(values, REDUCED_RANGE if self.reduce_range else FULL_RANGE)

    @classmethod
    def passes(cls, choose: Choose) -> Sequence[InPlacePass]:
        """Return the passes of this file."""
        return [DynamicPerTokenPass(choose), DynamicPerTensorPass(choose)]


class DynamicPerTensorPass(ProductPass):
    """See the module's docstring."""

    def __init__(self, choose: Choose) -> None:
        super().__init__(choose)
        self.quantized: dict[ir.Value | None, ir.Node] = {}

    def covers(self, spec: object) -> bool:
        """Return whether it is this scheme."""
        return isinstance(spec, Dynamic) and spec.activations == "tensor"

    def nodes(
        self,
        product: ir.Node,
        weight: ir.TensorProtocol,  # noqa: ARG002
        spec: Dynamic,  # noqa: ARG002
        stored: Sequence[ir.Value],
    ) -> tuple[Sequence[ir.Node], Sequence[ir.Value]]:
        """Return the product, behind the codes of its input if it is the first to read that."""
        (x, _), (weights, scales), nodes = product.inputs, stored, []
        if x not in self.quantized:
            assert x is not None
            self.quantized[x] = ir.node("DynamicQuantizeLinear", [x], num_outputs=3, name=f"{x.name}_quantize")
            nodes.append(self.quantized[x])
        codes, scale, zero = self.quantized[x].outputs
        return [*nodes, _product(product, [codes, weights, scale, scales, zero])], ()


class DynamicPerTokenPass(ProductPass):
    """See the module's docstring."""

    def __init__(self, choose: Choose) -> None:
        super().__init__(choose)
        self.chains: dict[ir.Value | None, tuple[ir.Value, ir.Value]] = {}
        self.constants = _constants()

    def covers(self, spec: object) -> bool:
        """Return whether it is this scheme."""
        return isinstance(spec, Dynamic) and spec.activations == "token"

    def nodes(
        self,
        product: ir.Node,
        weight: ir.TensorProtocol,  # noqa: ARG002
        spec: Dynamic,  # noqa: ARG002
        stored: Sequence[ir.Value],
    ) -> tuple[Sequence[ir.Node], Sequence[ir.Value]]:
        """Return the product between the codes of its input and their scale."""
        (x, _), (weights, scales), constants = product.inputs, stored, self.constants
        nodes: list[ir.Node] = []
        if x not in self.chains:
            assert x is not None
            nodes, self.chains[x] = _quantize(x, constants)
        codes, largest = self.chains[x]
        integers = _product(product, [codes, weights, constants.scale, scales, constants.zero])
        rescaled = ir.node("Mul", [integers.outputs[0], largest], name=f"{product.name}_rescale")
        return [*nodes, integers, rescaled], constants


def _product(product: ir.Node, inputs: Sequence[ir.Value]) -> ir.Node:
    return ir.node("MatMulIntegerToFloat", inputs, domain=DOMAIN, name=product.name)


class _Constants(NamedTuple):
    last_axis: ir.Value
    tiny: ir.Value
    scale: ir.Value
    zero: ir.Value


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
