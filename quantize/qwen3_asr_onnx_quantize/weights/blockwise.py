"""Float32 weights -> blocks of 4- or 8-bit codes with one scale each, packed as `com.microsoft::MatMulNBits` has them.

A weight (K, N) is cut along K into blocks; a block that K does not fill is padded with the code of zero. Codes are
unsigned: value = (code - zero point) x scale, two 4-bit codes to a byte, the even one in the low half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "BlockSpec",
    "Blocks",
    "block_scales",
    "code_range",
    "dequantize_blocks",
    "n_blocks",
    "pack",
    "packed_shapes",
    "quantize_blocks",
]

Floats: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = npt.NDArray[np.uint8]

SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Scales tried per block, as a share of the one that just covers its largest weight. Clipping the one largest weight
buys precision for all others; below 0.7 no block of a Gaussian gains."""

CHUNK_WEIGHTS = 1 << 16
"""Weights searched at once: the working set of five such arrays stays in the second-level cache."""


class BlockSpec(Protocol):
    """What the arithmetic wants to know of a scheme; `schemes.weight_only` says what each means."""

    @property
    def bits(self) -> int: ...  # noqa: D102
    @property
    def block(self) -> int: ...  # noqa: D102
    @property
    def symmetric(self) -> bool: ...  # noqa: D102
    @property
    def scales(self) -> str: ...  # noqa: D102
    @property
    def search(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Blocks:
    """A quantised weight (K, N), N being all its columns or some.

    Attributes:
        codes: (N, n_blocks, block * bits / 8) uint8.
        scales: (N, n_blocks) float32 or float16.
        zero_points: (N, ceil(n_blocks * bits / 8)) uint8; None where symmetric.
    """

    codes: Bytes
    scales: npt.NDArray[Any]
    zero_points: Bytes | None


def n_blocks(k: int, spec: BlockSpec) -> int:
    """Return how many blocks cover K inputs."""
    return -(-k // spec.block)


def packed_shapes(k: int, n: int, spec: BlockSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of codes, scales and zero points of a weight (k, n)."""
    count = n_blocks(k, spec)
    return (n, count, spec.block * spec.bits // 8), (n, count), (n, -(-count * spec.bits // 8))


def quantize_blocks(weight: Floats, spec: BlockSpec) -> Blocks:
    """Quantise a weight (K, N), or any run of its columns: columns do not depend on each other.

    Args:
        weight: (K, N) float32, finite.
        spec: bits, block and how scales are chosen.
    """
    k, n = weight.shape
    count = n_blocks(k, spec)
    rows = np.zeros((n, count * spec.block), dtype=np.float32)
    rows[:, :k] = weight.T
    blocks = rows.reshape(n * count, spec.block)
    scales = np.empty((n * count, 1), dtype=np.float16 if spec.scales == "fp16" else np.float32)
    codes = np.empty(blocks.shape, dtype=np.uint8)
    zeros = np.empty((n * count, 1), dtype=np.uint8)
    step = max(1, CHUNK_WEIGHTS // spec.block)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        scales[part], zeros[part] = block_scales(blocks[part], spec, scales.dtype)
        _encode(blocks[part], scales[part].astype(np.float32), zeros[part], spec, codes[part])
    zero_points = None if spec.symmetric else pack(zeros.reshape(n, count), spec.bits)
    return Blocks(pack(codes, spec.bits).reshape(n, count, -1), scales.reshape(n, count), zero_points)


def dequantize_blocks(blocks: Blocks, k: int, spec: BlockSpec) -> Floats:
    """Return the float32 weight (K, N) that the codes stand for."""
    n, count = blocks.scales.shape
    codes = _unpack(blocks.codes, spec.bits, spec.block).astype(np.float32)
    if blocks.zero_points is None:
        zeros: npt.NDArray[Any] = np.array(1 << (spec.bits - 1))
    else:
        zeros = _unpack(blocks.zero_points, spec.bits, count)[:, :, None]
    values = (codes - zeros.astype(np.float32)) * blocks.scales.astype(np.float32)[:, :, None]
    return np.ascontiguousarray(values.reshape(n, -1)[:, :k].T)


def block_scales(blocks: Floats, spec: BlockSpec, store: np.dtype[Any]) -> tuple[npt.NDArray[Any], Bytes]:
    """Return scales (R, 1), as they will be stored, and zero points (R, 1) of blocks (R, block)."""
    return (_symmetric if spec.symmetric else _asymmetric)(blocks, spec, store)


def _symmetric(blocks: Floats, spec: BlockSpec, store: np.dtype[Any]) -> tuple[npt.NDArray[Any], Bytes]:
    """Return scales (R, 1) and zero points (R, 1) of blocks (R, block) around a fixed zero.

    There is one more negative code than positive ones, so the scale takes the sign that gives it to the largest
    weight: a negative scale is as good as any.
    """
    half = 1 << (spec.bits - 1)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    zeros = np.full(largest.shape, half, dtype=np.uint8)
    return _best_scale(blocks, largest / np.float32(-half), zeros, spec, store), zeros


def _asymmetric(blocks: Floats, spec: BlockSpec, store: np.dtype[Any]) -> tuple[npt.NDArray[Any], Bytes]:
    """Return scales (R, 1) and zero points (R, 1) of blocks (R, block), zero itself being exact."""
    top = np.float32((1 << spec.bits) - 1)
    low = np.minimum(blocks.min(axis=1, keepdims=True), 0)
    full = (np.maximum(blocks.max(axis=1, keepdims=True), 0) - low) / top
    zeros = np.clip(np.rint(-low / _nonzero(full)), 0, top).astype(np.uint8)
    return _best_scale(blocks, full, zeros, spec, store), zeros


def _best_scale(blocks: Floats, full: Floats, zeros: Bytes, spec: BlockSpec, store: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return per block the scale (R, 1), as it will be stored, of least squared error.

    Each candidate fixes the codes; the best scale for those codes is then a one-line least squares fit.
    """
    if not spec.search:
        return full.astype(store)
    low, high = code_range(zeros, spec)
    best = full.astype(store)
    best_error = np.full(full.shape, np.inf, dtype=np.float32)
    scratch = np.empty_like(blocks)
    for share in SHRINK:
        scale = _nonzero(full * np.float32(share))
        codes = np.divide(blocks, scale, out=scratch)
        np.clip(np.rint(codes, out=codes), low, high, out=codes)
        energy = np.einsum("ij,ij->i", codes, codes)[:, None]
        dot = np.einsum("ij,ij->i", codes, blocks)[:, None]
        fitted = np.where(energy > 0, dot / _nonzero(energy), scale).astype(store)
        stored = fitted.astype(np.float32)
        # |w - s q|^2 without its constant |w|^2.
        error = stored * (stored * energy - 2 * dot)
        better = error < best_error
        best = np.where(better, fitted, best)
        best_error = np.where(better, error, best_error)
    return best


def _encode(blocks: Floats, scales: Floats, zeros: Bytes, spec: BlockSpec, out: Bytes) -> None:
    """Write the codes (R, block) of the blocks under the given scales and zero points (R, 1)."""
    low, high = code_range(zeros, spec)
    codes = np.rint(blocks / _nonzero(scales))
    np.clip(codes, low, high, out=codes)
    codes += zeros
    out[...] = codes.astype(np.uint8)


def code_range(zeros: Bytes, spec: BlockSpec) -> tuple[Floats | np.float32, Floats | np.float32]:
    """Return the least and largest code relative to the zero point, (R, 1) each; numbers where all blocks share them.

    Clipping by numbers takes a quarter of the time.
    """
    top = np.float32((1 << spec.bits) - 1)
    if spec.symmetric:
        half = np.float32(1 << (spec.bits - 1))
        return -half, top - half
    zero = zeros.astype(np.float32)
    return -zero, top - zero


def _nonzero(values: Floats) -> Floats:
    """Return the values with 1 for 0: a block of zeros has no scale, and any will do."""
    return np.where(values == 0, np.float32(1), values)


def pack(codes: Bytes, bits: int) -> Bytes:
    """Pack codes along the last axis; an odd count is filled up with 0."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    packed: Bytes = codes[..., 0::2] | np.left_shift(codes[..., 1::2], 4, dtype=np.uint8)
    return packed


def _unpack(packed: Bytes, bits: int, count: int) -> Bytes:
    if bits == 8:
        return packed
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    unpacked: Bytes = pairs.reshape(*packed.shape[:-1], -1)[..., :count]
    return unpacked
