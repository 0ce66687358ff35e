"""An orthogonal change of basis that spreads outliers over all channels, and weights seen through it.

The basis is a randomised Hadamard transform: signs, then sums and differences, so that every new channel is an equal
mixture of all old ones. It is computed by additions in a fixed order, not by a matrix product, whose rounding depends
on the library and its number of threads. Widths that are not a power of two take a cosine transform for the odd
factor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .derived import DerivedTensor

__all__ = ["RotatedTensor", "Side", "rotate", "rotation_matrix"]

Floats: TypeAlias = npt.NDArray[np.float32]
Side: TypeAlias = Literal["in", "out", "centred_out"]


BLOCK_VALUES = 1 << 16
"""Numbers transformed at once: two such arrays stay in the second-level cache."""


def rotation_matrix(width: int) -> Floats:
    """Return R (width, width) float32, orthogonal: a row vector x becomes x R."""
    return rotate(np.eye(width, dtype=np.float32), axis=1)


def rotate(values: Floats, axis: int) -> Floats:
    """Return the values with every vector x along `axis` replaced by x R, in the memory layout they came in.

    Along axis 1 of a weight (K, N) that gives W R, whose outputs are in the new basis; along axis 0 it gives the
    transpose of R times W, which takes inputs in the new basis.

    Args:
        values: (K, N), or one vector.
        axis: the axis of the vectors.
    """
    vectors = np.atleast_2d(np.moveaxis(values, axis, -1))
    count, width = vectors.shape
    result = np.empty_like(values)
    turned = np.atleast_2d(np.moveaxis(result, axis, -1))
    signs = _signs(width)[:, None]
    step = max(1, BLOCK_VALUES // width)
    for start in range(0, count, step):
        part = slice(start, start + step)
        # Vectors side by side: whatever is added to one is added to all, at neighbouring places.
        block = np.empty((width, min(step, count - start)), dtype=np.float32)
        np.multiply(vectors[part].T, signs, out=block)
        turned[part] = _transformed(block).T
    return result


def _transformed(x: Floats) -> Floats:
    """Return the orthonormal transform of the columns of x (width, n), which is overwritten."""
    width, n = x.shape
    powers = width & -width
    x = _mixed(x.reshape(width // powers, powers, n)).reshape(width, n)
    other = np.empty_like(x)
    half = powers
    while half > 1:
        half //= 2
        pairs, sums = x.reshape(-1, 2, half * n), other.reshape(-1, 2, half * n)
        np.add(pairs[:, 0], pairs[:, 1], out=sums[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=sums[:, 1])
        x, other = other, x
    x *= np.float32(1 / math.sqrt(powers))
    return x


class RotatedTensor(DerivedTensor):
    """A weight (K, N) in the rotated basis, with the gain of the norm in front of it folded in.

    Attributes:
        base: the weight before; on the output side also a bias (N,) or a table of rows.
        gain: (K,) float32, the norm's weight; None on the output side, where no norm stands.
        side: "in" if the weight reads the residual stream, "out" if it adds to it, "centred_out" if it adds to a stream
            whose mean no norm looks at: the mean is left out, so that a norm of the mean square can stand for one of
            the variance.
    """

    def __init__(self, base: ir.TensorProtocol, gain: Floats | None, side: Side) -> None:
        super().__init__(base)
        self.gain = gain
        self.side = side

    @property
    def key(self) -> Hashable:
        """The side, and what was done before."""
        return (self.side, self.base.key if isinstance(self.base, DerivedTensor) else None)

    @property
    def columnwise(self) -> bool:
        """A rotation of the outputs mixes all columns, one of the inputs all rows."""
        return self.side == "in" and super().columnwise

    def derive(self, values: Floats, columns: slice) -> Floats:  # noqa: ARG002 - all columns are treated alike
        """Return the weight, or on the input side any run of its columns, in the new basis."""
        if self.side == "in":
            assert self.gain is not None
            return rotate(values * self.gain[:, None], axis=0)
        if self.side == "centred_out":
            values = np.ascontiguousarray(values)  # the order of the sums depends on it
            values = values - values.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        return rotate(values, axis=values.ndim - 1)

    def moments(self, moments: Floats) -> Floats:
        """Return the moments of inputs in the new basis."""
        moments = super().moments(moments)
        if self.side != "in":
            return moments
        assert self.gain is not None
        # The gain is part of the weight now. A channel it silences tells nothing, and needs to tell nothing.
        undone = np.divide(1, self.gain, out=np.zeros_like(self.gain), where=self.gain != 0)
        return rotate(rotate(moments * undone * undone[:, None], axis=1), axis=0)


def _signs(width: int) -> Floats:
    """Return `width` signs, the same everywhere: bits of a hash, which no library will ever change."""
    digests = (hashlib.sha256(f"residual rotation {i}".encode()).digest() for i in range(-(-width // 256)))
    bits = np.unpackbits(np.frombuffer(b"".join(digests), dtype=np.uint8))[:width]
    return 1 - 2 * bits.astype(np.float32)


def _mixed(x: Floats) -> Floats:
    """Return x (odd, powers, n) after the orthonormal cosine transform along its first axis."""
    odd = x.shape[0]
    if odd == 1:
        return x
    k, n = np.meshgrid(np.arange(odd), np.arange(odd), indexing="ij")
    cosines = np.cos(np.pi * k * (2 * n + 1) / (2 * odd)) * np.sqrt(2 / odd)
    cosines[0] = np.sqrt(1 / odd)
    mixed = np.empty_like(x)
    for row, total in zip(cosines.astype(np.float32), mixed, strict=True):
        np.multiply(x[0], row[0], out=total)
        for index in range(1, odd):
            total += x[index] * row[index]
    return mixed
