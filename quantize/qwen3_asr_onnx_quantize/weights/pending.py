"""Weights that a graph names before they are computed: what a pass puts into a graph, and `weight_file` writes.

A `Job` reads one float32 tensor of the source in slices and yields what is stored for it: a copy, or codes and scales.
`initializers` gives those as ONNX tensors that compute themselves when asked, so that a graph can be run as it stands
in tests; the writer calls `compute` slice by slice and never holds a whole float32 tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_quantize.recipes.recipe import Dynamic, Keep, Part, Stem, WeightOnly

from .blockwise import packed_shapes, quantize_blocks
from .channelwise import FULL_RANGE, REDUCED_RANGE, quantize_channels
from .derived import DerivedTensor
from .gptq import quantize_calibrated

__all__ = ["Job", "PendingTensor", "Stored"]

Array: TypeAlias = npt.NDArray[Any]

SLICE_BYTES = 16 << 20
"""Largest float32 piece of a source tensor in memory at once, per thread."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as stored: its name in the graph, and the axis along which the source's slices follow each other."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    axis: int = 0

    @property
    def n_bytes(self) -> int:
        """Length in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Job:
    """What becomes of one float32 tensor.

    Attributes:
        source: the tensor; a matrix (K, N) unless it is copied.
        part: the scheme; exclusions and all that leaves no trace in the bytes are set to their defaults.
        outputs: the tensors that are stored for it.
        key: equal for jobs that store the same bytes.
        factor: gives the factor of the inputs' second moments, set by `apply` where the scheme asks for calibration.
    """

    def __init__(self, source: ir.TensorProtocol, part: Part | Stem) -> None:
        self.source = source
        self.part = _bytes_only(part)
        self.outputs = _outputs(str(source.name), tuple(int(size) for size in source.shape.numpy()), self.part)
        derived = source.key if isinstance(source, DerivedTensor) else None
        self.key = (str(source.name), self.part, derived)
        self.factor: Callable[[], npt.NDArray[np.float32]] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether `factor` must be set before anything can be computed."""
        return isinstance(self.part, WeightOnly) and self.part.calibration != "none"

    @property
    def slices(self) -> list[slice]:
        """The pieces to compute: columns of a matrix that is quantised, rows of a tensor that is copied."""
        shape = self.source.shape.numpy()
        if not shape:
            return [slice(0, 1)]
        if isinstance(self.source, DerivedTensor) and (not self.source.columnwise or isinstance(self.part, Keep)):
            return [slice(0, max(shape))]
        length = int(shape[0] if isinstance(self.part, Keep | Stem) else shape[1])
        across = max(1, self.source.size // max(1, length))
        step = max(1, SLICE_BYTES // (4 * across))
        return [slice(start, min(start + step, length)) for start in range(0, length, step)]

    def compute(self, piece: slice) -> tuple[Array, ...]:
        """Return the outputs' shares of one slice, in the order of `outputs`.

        Raises:
            BundleError: the source holds NaN or infinity, or scales that FP16 cannot hold.
        """
        values = _read(self.source, piece, columns=not isinstance(self.part, Keep | Stem))
        if not np.isfinite(values).all():
            raise BundleError(f"{self.source.name} holds NaN or infinity; export the bundle again")
        if isinstance(self.part, Keep):
            return (values,)
        if isinstance(self.part, Stem):
            if np.abs(values).max() > np.finfo(np.float16).max:
                raise BundleError(f'{self.source.name} exceeds FP16; set scheme = "fp32" in [stem] of the recipe')
            return (values.astype(np.float16),)
        if isinstance(self.part, Dynamic):
            return quantize_channels(values, REDUCED_RANGE if self.part.reduce_range else FULL_RANGE)
        assert isinstance(self.part, WeightOnly), self.part  # half precision takes whole graphs, not weights
        with np.errstate(over="ignore", invalid="ignore"):  # looked for right here
            if self.calibrated:
                assert self.factor is not None, "calibration was not attached"
                blocks = quantize_calibrated(values, self.factor(), self.part)
            else:
                blocks = quantize_blocks(values, self.part)
        if not np.isfinite(blocks.scales).all():
            raise BundleError(f'{self.source.name}: a scale exceeds FP16; set scales = "fp32" in the recipe')
        stored = (blocks.codes, blocks.scales.reshape(-1))
        return stored if blocks.zero_points is None else (*stored, blocks.zero_points.reshape(-1))

    def join(self, pieces: Sequence[tuple[Array, ...]]) -> list[Array]:
        """Return the whole outputs from the shares of all slices."""
        shares = zip(*pieces, strict=True)
        return [
            np.concatenate(share, axis=out.axis).reshape(out.shape)
            for out, share in zip(self.outputs, shares, strict=True)
        ]

    def initializers(self) -> list[ir.Value]:
        """Return one graph value per output, its tensor pending."""
        values = []
        for index, out in enumerate(self.outputs):
            tensor = PendingTensor(self, index)
            values.append(
                ir.Value(name=out.name, shape=ir.Shape(out.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            )
        return values


class PendingTensor(ir.LazyTensor):
    """One output of a job, computed when its numbers are asked for."""

    def __init__(self, job: Job, index: int) -> None:
        out = job.outputs[index]

        def evaluate() -> ir.TensorProtocol:
            return ir.tensor(job.join([job.compute(piece) for piece in job.slices])[index], name=out.name)

        super().__init__(evaluate, ir.DataType.from_numpy(out.dtype), ir.Shape(out.shape), cache=True, name=out.name)
        self.job = job
        self.index = index


def _bytes_only(part: Part | Stem) -> Part | Stem:
    """Return the part with every field that does not change the stored bytes at its default."""
    if isinstance(part, WeightOnly):
        return replace(part, exclude=(), accuracy_level=0)
    if isinstance(part, Dynamic):
        return replace(part, exclude=(), activations="token")
    return part


def _outputs(name: str, shape: tuple[int, ...], part: Part | Stem) -> tuple[Stored, ...]:
    if isinstance(part, Keep):
        return (Stored(name, np.dtype(np.float32), shape),)
    if isinstance(part, Stem):
        return (Stored(f"{name}.{part.scheme}", np.dtype(np.float16), shape),)
    k, n = shape
    if isinstance(part, Dynamic):
        return (
            Stored(f"{name}.int8", np.dtype(np.int8), (k, n), axis=1),
            Stored(f"{name}.int8_scales", np.dtype(np.float32), (n,)),
        )
    assert isinstance(part, WeightOnly), part
    codes, scales, zeros = packed_shapes(k, n, part)
    stored = (
        Stored(f"{name}.{part.scheme}", np.dtype(np.uint8), codes),
        Stored(
            f"{name}.{part.scheme}_scales",
            np.dtype(np.float16 if part.scales == "fp16" else np.float32),
            (scales[0] * scales[1],),
        ),
    )
    if part.symmetric:
        return stored
    return (*stored, Stored(f"{name}.{part.scheme}_zeros", np.dtype(np.uint8), (zeros[0] * zeros[1],)))


def _read(source: ir.TensorProtocol, piece: slice, *, columns: bool) -> npt.NDArray[np.float32]:
    """Return rows or columns of a tensor as a contiguous float32 array."""
    if isinstance(source, DerivedTensor):
        return source.derive(_read(source.base, piece, columns=columns), piece)
    if isinstance(source, ir.ExternalTensor):
        # A map of its own per slice: pages leave this process's memory with it, not at the end.
        shape = tuple(int(size) for size in source.shape.numpy())
        values: Array = np.memmap(source.path, "<f4", "r", offset=source.offset or 0, shape=shape or (1,))
    else:
        values = source.numpy()
    part = values[:, piece] if columns else values[piece] if values.ndim else values.reshape(1)
    return np.array(part, dtype=np.float32)
