"""Checkpoint tensors -> external-data files, streamed: one tensor, or one slice of a large one, in memory at a time.

Where each lies in the file is decided by `placement.plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from qwen3_asr_onnx.bundle.manifest import FileRecord
from qwen3_asr_onnx.bundle.writing import HashedFile
from qwen3_asr_onnx.errors import BundleError

from .checkpoint import EMBED, Checkpoint
from .placement import WeightPlan

__all__ = ["write", "write_embeddings"]

LARGEST_WEIGHT = 65504.0
"""What float16 can hold, which some variants are stored in. Real weights stay below a hundred."""

SLICE_BYTES = 64 << 20
"""Largest float32 piece converted at once."""

Progress = Callable[[int], object]


def write(
    weights: WeightPlan,
    checkpoint: Checkpoint,
    computed: Mapping[str, torch.Tensor],
    path: Path,
    progress: Progress | None = None,
) -> FileRecord:
    """Write a weight file.

    Args:
        weights: the layout.
        checkpoint: where the numbers come from.
        computed: initializers that no checkpoint stores, by name.
        path: the file to write.
        progress: called with the bytes just written.

    Returns:
        Size and sha256 of the file.

    Raises:
        BundleError: a tensor cannot be read, or holds NaN, infinity or numbers that no weight has.
    """
    with path.open("wb") as file:
        out = HashedFile(file, progress)
        for place in weights.placements:
            assert out.align(place.length) == place.offset, place
            tensor = computed.get(place.name)
            if tensor is None:
                tensor = checkpoint.read(place.name)
                if place.name in weights.transposed:
                    tensor = tensor.T
            assert tuple(tensor.shape) == place.shape, place
            _write_float32(out, tensor, place.name)
    return out.record()


def write_embeddings(checkpoint: Checkpoint, path: Path, progress: Progress | None = None) -> FileRecord:
    """Write the embedding table as FP16, row-major (vocab_size, hidden).

    Raises:
        BundleError: a value is too large for FP16, or is not a number.
    """
    table = checkpoint.read(EMBED)
    with path.open("wb") as file:
        out = HashedFile(file, progress)
        for rows in table.split(max(1, SLICE_BYTES // (4 * table.shape[1]))):
            half = rows.to(torch.float16)
            if not bool(torch.isfinite(half).all()):
                raise BundleError(f"{checkpoint.path}: {EMBED} holds values that FP16 cannot (over 65504 or NaN)")
            out.write(half.contiguous().numpy())
    return out.record()


def _write_float32(out: HashedFile, tensor: torch.Tensor, name: str) -> None:
    """Convert and write along the first axis in slices, so that a transposed table never exists twice in float32."""
    rows = max(1, SLICE_BYTES // max(1, 4 * tensor[0].numel()))
    for piece in tensor.split(rows):
        values = piece.to(torch.float32).contiguous().numpy()
        if not np.isfinite(values).all():
            raise BundleError(f"{name} holds NaN or infinity; this checkpoint is broken, download it again")
        largest = float(max(values.max(), -values.min())) if values.size else 0.0
        if largest > LARGEST_WEIGHT:
            raise BundleError(
                f"{name} holds {largest:.3g}; no weight of a sound model is beyond {LARGEST_WEIGHT:g}: this checkpoint "
                "is broken, download it again"
            )
        out.write(values)
