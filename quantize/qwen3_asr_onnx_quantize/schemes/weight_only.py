"""int4 and int8: MatMul by a constant -> `MatMulNBits`, weights in 4 or 8 bits, activations in float32.

Rule: y = MatMul(x, W) becomes y = MatMulNBits(x, codes, scales[, zero points]); scales stored in half precision pass
through a `Cast`, which onnxruntime folds once at load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass

from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_quantize.weights.blockwise import packed_shapes, quantize_blocks
from qwen3_asr_onnx_quantize.weights.gptq import quantize_calibrated
from qwen3_asr_onnx_quantize.weights.pending import Array, Factor, Stored

from .base import Scheme, require
from .products import DOMAIN, Choose, ProductPass

__all__ = ["WeightOnly", "WeightOnlyPass"]

ACTIVATION_ERROR = 0.01
"""Of activations in 8 bits, which accuracy level 4 computes with."""

BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class WeightOnly(Scheme):
    """Weights in blocks of `block` inputs with one scale each (`com.microsoft::MatMulNBits`), activations float32.

    Attributes:
        scheme: "int4" or "int8": bits per weight.
        block: weights per scale, along the input dimension.
        symmetric: zero is code 8 (int4) or 128 (int8); otherwise each block stores a zero point of its own.
        accuracy_level: what the operator computes in: 0 its choice, 1 float32, 2 float16, 3 bfloat16, 4 int8.
        scales: "fp16" stores scales in half precision (they are widened at load), "fp32" as they are.
        search: choose each block's scale by least squared error; otherwise from its largest weight.
        calibration: "gptq" rounds so that errors cancel on the inputs that calibration audio gives; "none" to nearest.
        exclude: patterns (`*` matches anything) of weight names that stay float32.
    """

    columns: ClassVar[bool] = True

    scheme: Literal["int4", "int8"] = "int4"
    block: int = 128
    symmetric: bool = True
    accuracy_level: int = 4
    scales: Literal["fp16", "fp32"] = "fp16"
    search: bool = True
    calibration: Literal["none", "gptq"] = "none"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.calibration in ("none", "gptq"), "calibration", self.calibration, '"none" or "gptq"')
        require(self.block in BLOCKS, "block", self.block, f"one of {', '.join(map(str, BLOCKS))}")
        require(0 <= self.accuracy_level <= 4, "accuracy_level", self.accuracy_level, "0 to 4")
        require(self.scales in ("fp16", "fp32"), "scales", self.scales, '"fp16" or "fp32"')

    @property
    def bits(self) -> int:
        """Bits per weight."""
        return int(self.scheme[3:])

    @property
    def calibrated(self) -> bool:
        """Whether it asks what the inputs look like."""
        return self.calibration != "none"

    @property
    def error(self) -> float:
        """A step of uniform codes, over the root of 12; the largest of a block of 128 is some 2.8 deviations."""
        return 2.8 / (1 << (self.bits - 1)) / math.sqrt(12) + ACTIVATION_ERROR

    def bytes_only(self) -> WeightOnly:
        """Return it without what leaves no trace in the bytes."""
        return replace(self, exclude=(), accuracy_level=0)

    def outputs(self, name: str, shape: tuple[int, ...]) -> tuple[Stored, ...]:
        """Return codes, scales and, where not symmetric, zero points."""
        codes, scales, zeros = packed_shapes(shape[0], shape[1], self)
        scale_dtype = np.dtype(np.float16 if self.scales == "fp16" else np.float32)
        stored = (
            Stored(f"{name}.{self.scheme}", np.dtype(np.uint8), codes),
            Stored(f"{name}.{self.scheme}_scales", scale_dtype, (scales[0] * scales[1],)),
        )
        if self.symmetric:
            return stored
        return (*stored, Stored(f"{name}.{self.scheme}_zeros", np.dtype(np.uint8), (zeros[0] * zeros[1],)))

    def compute(self, name: str, values: Array, factor: Factor | None) -> tuple[Array, ...]:
        """Return the shares of some columns.

        Raises:
            BundleError: FP16 cannot hold a scale.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # looked for right here
            if self.calibrated:
                assert factor is not None, "calibration was not attached"
                blocks = quantize_calibrated(values, factor(), self)
            else:
                blocks = quantize_blocks(values, self)
        if not np.isfinite(blocks.scales).all():
            raise BundleError(f'{name}: a scale exceeds FP16; set scales = "fp32" in the recipe')
        stored = (blocks.codes, blocks.scales.reshape(-1))
        return stored if blocks.zero_points is None else (*stored, blocks.zero_points.reshape(-1))

    @classmethod
    def passes(cls, choose: Choose) -> Sequence[InPlacePass]:
        """Return the pass of this file."""
        return [WeightOnlyPass(choose)]


class WeightOnlyPass(ProductPass):
    """See the module's docstring."""

    def covers(self, spec: object) -> bool:
        """Return whether it is this scheme."""
        return isinstance(spec, WeightOnly)

    def nodes(
        self, product: ir.Node, weight: ir.TensorProtocol, spec: WeightOnly, stored: Sequence[ir.Value]
    ) -> tuple[Sequence[ir.Node], Sequence[ir.Value]]:
        """Return the operator, behind the cast of its scales."""
        codes, scales, *zero_points = stored
        nodes = []
        if spec.scales == "fp16":
            cast = ir.node("Cast", [scales], {"to": ir.DataType.FLOAT}, name=f"{product.name}_scales")
            cast.outputs[0].name = f"{scales.name}_f32.{product.name}"
            nodes.append(cast)
            scales = cast.outputs[0]
        k, n = (int(size) for size in weight.shape.numpy())
        product = ir.node(
            "MatMulNBits",
            [product.inputs[0], codes, scales, *zero_points],
            {"K": k, "N": n, "bits": spec.bits, "block_size": spec.block, "accuracy_level": spec.accuracy_level},
            domain=DOMAIN,
            name=product.name,
        )
        return [*nodes, product], ()
