"""Checkpoint tensors -> external-data files, streamed: one slice of a tensor in memory at a time.

Where each lies in the file is decided by `placement.plan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import FileRecord
from qwen3_asr_onnx.bundle.writing import HashedFile
from qwen3_asr_onnx.errors import BundleError

from .checkpoint import EMBED, Checkpoint
from .computed import position_table, rotary_frequencies
from .placement import Placement, WeightPlan
from .stored_file import Floats

__all__ = ["computed_weights", "read_table", "refuse_absurd", "write", "write_embeddings"]

LARGEST_WEIGHT = 65504.0
"""What float16 can hold, which some variants are stored in. Real weights stay below a hundred."""

SLICE_BYTES = 64 << 20
"""Largest float32 piece converted at once."""

Progress = Callable[[int], object]


def computed_weights(checkpoint: Checkpoint) -> dict[str, Floats]:
    """Return the initializers that no checkpoint stores, by name."""
    return {
        "audio_tower.positions": position_table(checkpoint.encoder),
        "model.inv_freq": rotary_frequencies(checkpoint.decoder),
    }


def write(
    weights: WeightPlan,
    checkpoint: Checkpoint,
    computed: Mapping[str, Floats],
    path: Path,
    progress: Progress | None = None,
) -> FileRecord:
    """Write a weight file.

    Args:
        weights: the layout.
        checkpoint: where the numbers come from.
        computed: initializers that no checkpoint stores, by name.
        path: the file to write; `os.devnull` for its digest alone.
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
            for values in _pieces(weights, place, checkpoint, computed):
                refuse_absurd(values, checkpoint.stored_name(place.name))
                out.write(values)
            assert out.size == place.offset + place.length, place
    return out.record()


def write_embeddings(checkpoint: Checkpoint, path: Path, progress: Progress | None = None) -> FileRecord:
    """Write the embedding table as FP16, row-major (vocab_size, hidden).

    Raises:
        BundleError: a value is too large for FP16, or is not a number.
    """
    dims = checkpoint.decoder
    with path.open("wb") as file:
        out = HashedFile(file, progress)
        for rows in _runs((dims.vocab_size, dims.hidden)):
            out.write(read_table(checkpoint, rows.start, rows.stop))
    return out.record()


def read_table(checkpoint: Checkpoint, start: int, stop: int) -> npt.NDArray[np.float16]:
    """Return rows [start, stop) of the embedding table as FP16.

    Raises:
        BundleError: as `write_embeddings`.
    """
    with np.errstate(over="ignore"):  # looked for right here
        half = checkpoint.read_rows(EMBED, start, stop).astype(np.float16)
    if not np.isfinite(half).all():
        raise BundleError(f"{checkpoint.path}: {EMBED} holds values that FP16 cannot (over 65504 or NaN)")
    return half


def _pieces(
    weights: WeightPlan, place: Placement, checkpoint: Checkpoint, computed: Mapping[str, Floats]
) -> Iterator[Floats]:
    """Yield the numbers of one placement, some rows at a time."""
    if place.name in computed:
        assert computed[place.name].shape == place.shape, place
        yield computed[place.name]
        return
    read = checkpoint.read_columns if place.name in weights.transposed else checkpoint.read_rows
    for rows in _runs(place.shape):
        yield read(place.name, rows.start, rows.stop)


def _runs(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield runs of rows of a float32 tensor that take no more than a slice."""
    rows = max(1, SLICE_BYTES // max(1, 4 * math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def refuse_absurd(values: Floats, name: str) -> None:
    """Raise unless these numbers can be those of a weight.

    Raises:
        BundleError: they cannot; the message names the weight.
    """
    if not np.isfinite(values).all():
        raise BundleError(f"{name} holds NaN or infinity; this checkpoint is broken, download it again")
    largest = float(max(values.max(), -values.min())) if values.size else 0.0
    if largest > LARGEST_WEIGHT:
        raise BundleError(
            f"{name} holds {largest:.3g}; no weight of a sound model is beyond {LARGEST_WEIGHT:g}: this checkpoint "
            "is broken, download it again"
        )
