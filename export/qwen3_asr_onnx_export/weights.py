"""Checkpoint tensors -> external-data files, streamed: one tensor, or one slice of a large one, in memory at a time.

A graph's initializers keep their checkpoint names. `plan` decides where each lies in the file, `write` fills the file,
`attach` makes the graph point there. Graphs that share a plan share the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from qwen3_asr_onnx.bundle.manifest import FileRecord
from qwen3_asr_onnx.bundle.writing import HashedFile, aligned
from qwen3_asr_onnx.errors import BundleError

from .checkpoint import EMBED, Checkpoint
from .wrappers.operators import transposed_weights

__all__ = ["Placement", "WeightPlan", "attach", "plan", "write", "write_embeddings"]

LARGEST_WEIGHT = 65504.0
"""What float16 can hold, which some variants are stored in. Real weights stay below a hundred."""

SLICE_BYTES = 64 << 20
"""Largest float32 piece converted at once."""

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one initializer lies in a weight file, in bytes, and its shape as stored."""

    name: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """The layout of one weight file.

    Attributes:
        file: its name inside the bundle.
        placements: the initializers in file order.
        transposed: names stored transposed with respect to the checkpoint.
        size: length of the file in bytes.
    """

    file: str
    placements: tuple[Placement, ...]
    transposed: frozenset[str]
    size: int


def plan(module: nn.Module, file: str) -> WeightPlan:
    """Lay out the float32 parameters of a wrapper one after the other.

    Args:
        module: a wrapper, on the meta device if it likes: only names and shapes matter.
        file: name of the weight file inside the bundle.
    """
    placements = []
    offset = 0
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            continue
        length = 4 * parameter.numel()
        offset = aligned(offset, length)
        placements.append(Placement(name, tuple(parameter.shape), offset, length))
        offset += length
    return WeightPlan(file, tuple(placements), transposed_weights(module), offset)


def attach(model: ir.Model, weights: WeightPlan, computed: Mapping[str, torch.Tensor]) -> None:
    """Make the initializers of a graph point into the weight file; integers among `computed` go into the graph."""
    initializers = model.graph.initializers
    for name, tensor in computed.items():
        if name in initializers and not tensor.is_floating_point():
            initializers[name].const_value = ir.tensor(tensor.numpy(), name=name)
    external = {name for name, value in initializers.items() if value.dtype == ir.DataType.FLOAT}
    assert external == {place.name for place in weights.placements}, "the traced graph and the plan name other weights"
    for place in weights.placements:
        initializers[place.name].const_value = ir.ExternalTensor(
            weights.file, place.offset, place.length, ir.DataType.FLOAT, shape=ir.Shape(place.shape), name=place.name
        )


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
