"""The encoder's convolutions: half precision in the file, or 8-bit integer products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from onnx_ir.passes import InPlacePass

from .half_convolutions import HalfConvolutionsPass
from .integer_convolutions import IntegerConvolutionsPass
from .w8a8 import Dynamic

__all__ = ["Stem"]


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

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs of the processor, in the words of the manifest."""
        return Dynamic(reduce_range=self.reduce_range).needs if self.scheme == "w8a8" else ()

    def passes(self) -> Sequence[InPlacePass]:
        """Return the passes that put it into the encoder's graph."""
        if self.scheme == "fp32":
            return ()
        integer = [IntegerConvolutionsPass(reduce_range=self.reduce_range)] if self.scheme == "w8a8" else []
        return [*integer, HalfConvolutionsPass()]
