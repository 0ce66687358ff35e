"""Weights that a graph names before they are computed: what a pass puts into a graph, and `weight_file` writes.

A `Job` reads one float32 tensor of the source in slices and yields what is stored for it: a copy, or codes and scales.
`initializers` gives those as ONNX tensors that compute themselves when asked, so that a graph can be run as it stands
in tests; the writer calls `compute` slice by slice and never holds a whole float32 tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.errors import BundleError

from .derived import DerivedTensor
from .sources import part

__all__ = ["COPY", "Array", "Factor", "Job", "PendingTensor", "Storage", "Stored", "copied"]

Array: TypeAlias = npt.NDArray[Any]

Factor: TypeAlias = Callable[[], npt.NDArray[np.float32]]
"""Gives the factor (K, K) of the inputs' second moments."""

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


@dataclass(frozen=True, slots=True)
class Storage:
    """How a float32 tensor is stored: here as it is, in other ways where schemes inherit from it.

    Attributes:
        columns: its slices are columns of a matrix (K, N); otherwise rows of any tensor.
    """

    columns: ClassVar[bool] = False

    @property
    def calibrated(self) -> bool:
        """Whether `compute` asks what the inputs look like."""
        return False

    def bytes_only(self) -> Storage:
        """Return it with all that leaves no trace in the bytes at its default: equal ones store the same."""
        return self

    def outputs(self, name: str, shape: tuple[int, ...]) -> tuple[Stored, ...]:
        """Return what is stored for a tensor of this name and shape, the largest first."""
        return (Stored(name, np.dtype(np.float32), shape),)

    def compute(self, name: str, values: Array, factor: Factor | None) -> tuple[Array, ...]:  # noqa: ARG002
        """Return the outputs' shares of one slice.

        Args:
            name: of the tensor, for errors.
            values: the slice, float32, finite.
            factor: given where it is calibrated.
        """
        return (values,)


COPY = Storage()


class Job:
    """What becomes of one float32 tensor.

    Attributes:
        source: the tensor; a matrix (K, N) unless it is copied.
        storage: how it is stored, without what leaves no trace in the bytes.
        outputs: the tensors that are stored for it.
        key: equal for jobs that store the same bytes.
        factor: set by `apply` where the scheme asks for calibration.
    """

    def __init__(self, source: ir.TensorProtocol, storage: Storage = COPY) -> None:
        self.source = source
        self.storage = storage.bytes_only()
        self.outputs = self.storage.outputs(str(source.name), tuple(int(size) for size in source.shape.numpy()))
        derived = source.key if isinstance(source, DerivedTensor) else None
        self.key = (str(source.name), self.storage, derived)
        self.factor: Factor | None = None

    @property
    def slices(self) -> list[slice]:
        """The pieces to compute: columns of a matrix that is quantised, rows of a tensor that is copied."""
        shape = self.source.shape.numpy()
        if not shape:
            return [slice(0, 1)]
        if isinstance(self.source, DerivedTensor) and not (self.source.columnwise and self.storage.columns):
            return [slice(0, max(shape))]
        length = int(shape[1 if self.storage.columns else 0])
        across = max(1, self.source.size // max(1, length))
        step = max(1, SLICE_BYTES // (4 * across))
        return [slice(start, min(start + step, length)) for start in range(0, length, step)]

    def compute(self, piece: slice) -> tuple[Array, ...]:
        """Return the outputs' shares of one slice, in the order of `outputs`.

        Raises:
            BundleError: the source holds NaN or infinity, or scales that FP16 cannot hold.
        """
        values = _read(self.source, piece, columns=self.storage.columns)
        if not np.isfinite(values).all():
            raise BundleError(f"{self.source.name} holds NaN or infinity; this model is broken, get or export it again")
        return self.storage.compute(str(self.source.name), values, self.factor)

    def join(self, pieces: Sequence[tuple[Array, ...]]) -> list[Array]:
        """Return the whole outputs from the shares of all slices."""
        shares = zip(*pieces, strict=True)
        return [
            np.ascontiguousarray(np.concatenate(share, axis=out.axis).reshape(out.shape))
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


def copied(array: Array, name: str) -> ir.Value:
    """Return a graph value whose numbers are stored as they are, in float32."""
    (value,) = Job(ir.tensor(array.astype(np.float32), name=name)).initializers()
    return value


def _read(source: ir.TensorProtocol, piece: slice, *, columns: bool) -> npt.NDArray[np.float32]:
    """Return rows or columns of a tensor in float32; rows in C order."""
    if isinstance(source, DerivedTensor):
        return source.derive(_read(source.base, piece, columns=columns), piece)
    return part(source, piece, columns=columns)
