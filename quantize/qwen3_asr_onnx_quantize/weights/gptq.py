"""A float32 weight and what its inputs look like -> block codes whose errors cancel on such inputs (GPTQ).

Rounding every weight by itself minimises |W - Q|; what counts is |X (W - Q)| over the inputs X that the layer will see.
With H = X^T X = L L^T, L lower triangular, that is the sum over i of |sum over j >= i of L[j,i] (W - Q)[j]|^2. The rows
are therefore rounded from the last to the first, each after the errors of all rows behind it have been subtracted from
what it has to say: Babai's nearest plane, which is what GPTQ computes (Frantar et al., arXiv 2210.17323; the
equivalence: Chen et al., arXiv 2507.18553), and which needs no inverse of H.

Block by block: the errors of finished blocks move the block's target; scales are chosen for that target; its rows are
rounded one by one; the scales are then fitted once more to the codes, in the norm that H gives.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .blockwise import Blocks, BlockSpec, block_scales, code_range, n_blocks, pack

__all__ = ["factor", "quantize_calibrated"]

Floats: TypeAlias = npt.NDArray[np.float32]

DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it: inputs that calibration never showed must not be forgotten."""


def factor(moments: Floats) -> Floats:
    """Return L (K, K) float32, lower triangular, with L L^T = H + damping.

    Args:
        moments: H (K, K) float32, the sum over positions of x x^T; symmetric, not all zeros.
    """
    h = moments.astype(np.float64)
    mean = float(np.trace(h)) / len(h)
    h[np.diag_indices_from(h)] += DAMPING * mean if mean > 0 else 1.0
    return np.linalg.cholesky(h).astype(np.float32)


def quantize_calibrated(weight: Floats, lower: Floats, spec: BlockSpec) -> Blocks:
    """Quantise a weight (K, N), or any run of its columns: columns do not depend on each other.

    Args:
        weight: (K, N) float32, finite.
        lower: (K, K) float32, as `factor` gives it.
        spec: bits, block and how scales are chosen.
    """
    k, n = weight.shape
    count = n_blocks(k, spec)
    codes = np.full((n, count, spec.block), 1 << (spec.bits - 1), dtype=np.uint8)
    scales = np.empty((n, count), dtype=np.float16 if spec.scales == "fp16" else np.float32)
    zeros = np.empty((n, count), dtype=np.uint8)
    errors = np.empty_like(weight)
    for index in reversed(range(count)):
        rows = slice(index * spec.block, min(k, (index + 1) * spec.block))
        corner = np.ascontiguousarray(lower[rows, rows])
        pull = lower[rows.stop :, rows].T @ errors[rows.stop :]
        target = weight[rows] + np.linalg.solve(corner.T, pull)
        scale, zero = block_scales(np.ascontiguousarray(target.T), spec, scales.dtype)
        found = _round_rows(target, corner, scale[:, 0].astype(np.float32), zero[:, 0], spec)
        if spec.search:
            scale = _refitted(target, corner, found, scale)
        errors[rows] = weight[rows] - found * scale[:, 0].astype(np.float32)
        scales[:, index] = scale[:, 0]
        zeros[:, index] = zero[:, 0]
        codes[:, index] = zero
        codes[:, index, : rows.stop - rows.start] = (found + zero[:, 0].astype(np.float32)).astype(np.uint8).T
    zero_points = None if spec.symmetric else pack(zeros, spec.bits)
    return Blocks(pack(codes, spec.bits), scales, zero_points)


def _round_rows(target: Floats, corner: Floats, scale: Floats, zero: npt.NDArray[np.uint8], spec: BlockSpec) -> Floats:
    """Return the codes (b, n) relative to the zero point of a target (b, n), rounded from the last row to the first."""
    low, high = code_range(zero, spec)
    inverse = 1 / np.where(scale == 0, np.float32(1), scale)
    found = np.empty_like(target)
    owed = np.zeros_like(target)
    for row in reversed(range(len(target))):
        wanted = target[row] + owed[row] / corner[row, row]
        code = np.clip(np.rint(wanted * inverse), low, high)
        found[row] = code
        # Additions in a fixed order, not a product: the same bits with any library and number of threads.
        owed[:row] += corner[row, :row, None] * (target[row] - code * scale)
    return found


def _refitted(target: Floats, corner: Floats, codes: Floats, scale: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the scales (n, 1) of least error for codes (b, n), in the norm of the block's corner of L."""
    seen, wanted = corner.T @ codes, corner.T @ target
    energy = np.einsum("ij,ij->j", seen, seen)
    dot = np.einsum("ij,ij->j", seen, wanted)
    fitted = np.where(energy > 0, dot / np.where(energy > 0, energy, 1), scale[:, 0].astype(np.float32))
    return fitted[:, None].astype(scale.dtype)
