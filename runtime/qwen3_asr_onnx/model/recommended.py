"""A checkpoint's size and this machine -> the published recipe that serves it best, for who names none.

`fast` writes better text than `int4` (0.0 points more errors than float32 on clips of 8 to 25 s, against 0.6; entries
069, 083). With AMX it takes 0.9 of the time; without 8-bit products in the processor 1.2 to 1.4 times the time (entry
085). It holds two sets of decoder weights.
"""

from __future__ import annotations

from .memory import total_bytes
from .saturation import int8_products_saturate

__all__ = ["recommended_recipe"]

PEAK_OF_FAST = 1.15
"""Peak memory of `fast` in 10 minutes of audio per byte of a bfloat16 checkpoint: 2.09 GB of 1.88 (0.6B)."""

SHARE = 3
"""A third of the memory at most: `fast` of 0.6B from 8 GB on, of 1.7B from 16 GB on."""


def recommended_recipe(weight_bytes: int) -> tuple[str, str]:
    """Return the name of a published recipe, and why it is that one.

    Args:
        weight_bytes: of the checkpoint's weights, as stored: one in float32 counts double.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    if int8_products_saturate():
        return "int4", "this processor has no instructions for 8-bit products, which fast lives on"
    total, needed = total_bytes(), SHARE * PEAK_OF_FAST * weight_bytes
    if total is None:
        return "int4", "this system does not say how much memory it has"
    if total < needed:
        return "int4", f"fast asks for {needed / 1e9:.1f} GB of memory, and there are {total / 1e9:.1f}"
    return "fast", f"8-bit products, and {total / 1e9:.1f} GB of memory"
