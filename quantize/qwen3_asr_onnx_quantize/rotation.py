"""An orthogonal change of basis that spreads outliers over all channels, and weights seen through it.

The basis is a randomised Hadamard transform: signs, then sums and differences, so that every new channel is an equal
mixture of all old ones. It is computed by additions in a fixed order, not by a matrix product, whose rounding depends
on the library and its number of threads. Widths that are not a power of two take a cosine transform for the odd
factor.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["RotatedTensor", "Side", "rotate", "rotation_matrix"]

Floats: TypeAlias = npt.NDArray[np.float32]
Side: TypeAlias = Literal["in", "out"]


def rotation_matrix(width: int) -> Floats:
    """Return R (width, width) float32, orthogonal: a row vector x becomes x R."""
    return rotate(np.eye(width, dtype=np.float32), axis=1)


def rotate(values: Floats, axis: int) -> Floats:
    """Return the values with every vector x along `axis` replaced by x R.

    Along axis 1 of a weight (K, N) that gives W R, whose outputs are in the new basis; along axis 0 it gives the
    transpose of R times W, which takes inputs in the new basis.
    """
    width = values.shape[axis]
    powers = width & -width
    odd = width // powers
    x = np.moveaxis(values, axis, -1) * _signs(width)
    x = _mixed(x.reshape(*x.shape[:-1], odd, powers))
    half = powers
    while half > 1:
        half //= 2
        pairs = x.reshape(*x.shape[:-1], powers // (2 * half), 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], axis=-2).reshape(x.shape)
    x *= np.float32(1 / math.sqrt(powers))
    return np.ascontiguousarray(np.moveaxis(x.reshape(*x.shape[:-2], width), -1, axis))


class RotatedTensor(ir.LazyTensor):
    """A weight (K, N) in the rotated basis, with the gain of the norm in front of it folded in.

    Attributes:
        base: the weight as the source stores it.
        gain: (K,) float32, the norm's weight; None on the output side, where no norm stands.
        side: "in" if the weight reads the residual stream, "out" if it adds to it.
    """

    def __init__(self, base: ir.TensorProtocol, gain: Floats | None, side: Side) -> None:
        super().__init__(
            lambda: ir.tensor(self.turn(base.numpy()), name=base.name),
            ir.DataType.FLOAT,
            ir.Shape(base.shape.numpy()),
            name=base.name,
        )
        self.base = base
        self.gain = gain
        self.side = side

    def turn(self, weight: npt.NDArray[np.float32]) -> Floats:
        """Return the weight, or on the input side any run of its columns, in the new basis."""
        if self.side == "out":
            return rotate(weight, axis=1)
        assert self.gain is not None
        return rotate(weight * self.gain[:, None], axis=0)


def _signs(width: int) -> Floats:
    """Return `width` signs, the same everywhere: bits of a hash, which no library will ever change."""
    digests = (hashlib.sha256(f"residual rotation {i}".encode()).digest() for i in range(-(-width // 256)))
    bits = np.unpackbits(np.frombuffer(b"".join(digests), dtype=np.uint8))[:width]
    return 1 - 2 * bits.astype(np.float32)


def _mixed(x: Floats) -> Floats:
    """Return x (..., odd, powers) after the orthonormal cosine transform along its second last axis."""
    odd = x.shape[-2]
    if odd == 1:
        return x
    k, n = np.meshgrid(np.arange(odd), np.arange(odd), indexing="ij")
    cosines = np.cos(np.pi * k * (2 * n + 1) / (2 * odd)) * np.sqrt(2 / odd)
    cosines[0] = np.sqrt(1 / odd)
    rows = []
    for row in cosines.astype(np.float32):
        total = x[..., 0, :] * row[0]
        for index in range(1, odd):
            total += x[..., index, :] * row[index]
        rows.append(total)
    return np.stack(rows, axis=-2)
