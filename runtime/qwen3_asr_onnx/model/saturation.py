"""What a variant needs of the processor -> an error where this one would add up its 8-bit products wrongly.

x86 processors without VNNI (AMD before Zen 4, Intel before Cascade Lake and Ice Lake) add pairs of 8 x 8 bit products
in 16 signed bits: 2 x 255 x 127 does not fit, and onnxruntime does not say so. Weights of 7 bits (2 x 255 x 63) always
fit, and so do the blocks of int4 and int8 variants (INVESTIGATION.md, entry 050).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from qwen3_asr_onnx.bundle.manifest import FULL_RANGE_INT8
from qwen3_asr_onnx.errors import ProviderError

from .session import import_onnxruntime

__all__ = ["int8_products_saturate", "refuse_saturation"]

PRODUCT_GRAPH = bytes.fromhex(
    "08083a760a2e0a01610a01621201791a146e6f64655f4d61744d756c496e74656765725f30220d4d61744d756c496e74656765721201705a"
    "140a0161120f0a0d080212090a0312016d0a0208045a140a0162120f0a0d080312090a0208040a0312016e62150a017912100a0e0806120a"
    "0a0312016d0a0312016e42040a00100d"
)
"""An ONNX model of one node: y (m, n) int32 = MatMulInteger(a (m, 4) uint8, b (4, n) int8), opset 13."""


@functools.cache
def int8_products_saturate() -> bool:
    """Return whether onnxruntime gets the largest sum of 8-bit products wrong on this processor.

    It is asked, not looked up: the answer holds for any system, emulator and version of onnxruntime.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    ort = import_onnxruntime()
    session = ort.InferenceSession(PRODUCT_GRAPH, providers=["CPUExecutionProvider"])
    a, b = np.full((1, 4), 255, dtype=np.uint8), np.full((4, 16), 127, dtype=np.int8)
    return bool((session.run(None, {"a": a, "b": b})[0] != 4 * 255 * 127).any())


def refuse_saturation(where: object, variant: str, needs: Sequence[str]) -> None:
    """Raise when this processor cannot do what the variant needs.

    Args:
        where: the bundle, for the error.
        variant: the variant's name.
        needs: what it needs, as the manifest has it.

    Raises:
        ProviderError: products would overflow, or it is not known here what is needed.
    """
    for need in needs:
        if need != FULL_RANGE_INT8:
            raise ProviderError(
                f"{where}: variant {variant!r} needs {need}, which this version does not know; upgrade qwen3-asr-onnx"
            )
    if needs and int8_products_saturate():
        raise ProviderError(
            f"{where}: variant {variant!r} multiplies 8-bit numbers in full range, which this processor (x86 without "
            "VNNI) adds up wrongly; use another variant, or quantize again with reduce_range = true"
        )
