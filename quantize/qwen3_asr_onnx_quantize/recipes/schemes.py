"""What can become of a part of the model: a frozen dataclass per scheme, its fields the keys of a recipe's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["SCHEMES", "Dynamic", "Embedding", "Half", "Keep", "Part", "Stem", "WeightOnly", "require"]

BLOCKS = (16, 32, 64, 128, 256)

Activations: TypeAlias = Literal["token", "tensor"]


@dataclass(frozen=True, slots=True)
class Keep:
    """Leave the part as it is, in float32."""

    scheme: Literal["fp32"] = "fp32"


@dataclass(frozen=True, slots=True)
class Half:
    """The whole graph in float16, for CUDA; a decoder's layers and head only together."""

    scheme: Literal["fp16"] = "fp16"


@dataclass(frozen=True, slots=True)
class WeightOnly:
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


@dataclass(frozen=True, slots=True)
class Dynamic:
    """int8 weights, one scale per output; activations are quantised to 8 bits as they come.

    Attributes:
        scheme: "w8a8".
        activations: "token" gives each position its own scale, "tensor" one scale to all of a call: 8 % faster, and
            an outlier at one position costs all others their precision.
        reduce_range: 7-bit weights. x86 processors without VNNI add pairs of 8 x 8 bit products in 16 bits, where
            full-range weights saturate; with 7 bits no sum can.
        exclude: patterns (`*` matches anything) of weight names that stay float32.
    """

    scheme: Literal["w8a8"] = "w8a8"
    activations: Activations = "token"
    reduce_range: bool = False
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.activations in ("token", "tensor"), "activations", self.activations, '"token" or "tensor"')


@dataclass(frozen=True, slots=True)
class Embedding:
    """The table of input embeddings: "fp16", as exported and shared by variants, or "int8" with one scale per token."""

    scheme: Literal["fp16", "int8"] = "fp16"


@dataclass(frozen=True, slots=True)
class Stem:
    """The encoder's convolutions.

    Attributes:
        scheme: "fp32" as they are; "fp16" stores their weights in half precision, widened at load; "w8a8" computes all
            but the first, which is stored as with "fp16", in 8-bit integers.
        reduce_range: of "w8a8": 7-bit weights, as in `Dynamic`.
    """

    scheme: Literal["fp32", "fp16", "w8a8"] = "fp32"
    reduce_range: bool = True


Part: TypeAlias = Keep | Half | WeightOnly | Dynamic
SCHEMES: Mapping[str, type[Keep] | type[Half] | type[WeightOnly] | type[Dynamic]] = {
    "fp32": Keep,
    "fp16": Half,
    "int4": WeightOnly,
    "int8": WeightOnly,
    "w8a8": Dynamic,
}


def require(condition: bool, key: str, value: object, wanted: str) -> None:
    """Raise `OptionsError` that names a key, its value and what is wanted, unless the condition holds."""
    if not condition:
        raise OptionsError(f"{key} is {value!r}; give {wanted}")
