"""Float32 weights -> signed 8-bit codes with one scale per output, as integer matrix products take them.

Used where activations are 8-bit too: the whole product is then integer arithmetic and its scales multiply the result.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FULL_RANGE", "REDUCED_RANGE", "quantize_channels"]

Floats: TypeAlias = npt.NDArray[np.float32]

FULL_RANGE, REDUCED_RANGE = 127, 63
"""Largest code with 8 and 7 bits. Without VNNI two products of a byte and a code are added in 16 signed bits:
2 x 255 x 63 = 32,130 fits, 2 x 255 x 127 does not."""


def quantize_channels(weight: Floats, largest_code: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Quantise a weight (K, N), or any run of its columns.

    Args:
        weight: (K, N) float32, finite.
        largest_code: `FULL_RANGE` or `REDUCED_RANGE`.

    Returns:
        Codes (K, N) int8 and scales (N,) float32: weight = codes x scales.
    """
    scales = np.maximum(weight.max(axis=0), -weight.min(axis=0)) / np.float32(largest_code)
    # A column of zeros (or of numbers too small to divide by) has codes 0 under any scale.
    scales[scales < np.finfo(np.float32).tiny] = 1
    codes = weight / scales
    np.rint(codes, out=codes)
    return codes.astype(np.int8), scales
