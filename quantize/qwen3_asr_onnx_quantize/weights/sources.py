"""Where the float32 numbers of a graph come from, in parts: files beside it, or whoever streams them.

This is the one place that reads weights. A graph's initializers name them; `stream` makes those point at a source that
has no files, and everything after it works on both.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.bundle.workshops import Float32Source

__all__ = ["StreamedTensor", "numbers", "part", "stream"]

Floats: TypeAlias = npt.NDArray[np.float32]


class StreamedTensor(ir.LazyTensor):
    """A float32 weight of a source that has no file of it.

    Attributes:
        location: the file that it would lie in.
    """

    def __init__(self, source: Float32Source, tensor: ir.ExternalTensor) -> None:
        super().__init__(
            lambda: ir.tensor(np.ascontiguousarray(self.read(slice(None), columns=False)), name=tensor.name),
            ir.DataType.FLOAT,
            ir.Shape(tensor.shape.numpy()),
            name=tensor.name,
        )
        self.location = str(tensor.location)
        self._source = source

    def read(self, piece: slice, *, columns: bool) -> Floats:
        """Return rows or columns, in any memory layout."""
        length = int(self.shape.numpy()[1 if columns else 0])
        start, stop, _ = piece.indices(length)
        return self._source.read(str(self.name), start, stop, columns=columns)


def stream(model: ir.Model, source: Float32Source) -> None:
    """Make every weight of a graph that lies in a file which is not there come from the source."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and str(tensor.location) in source.streamed:
            value.const_value = StreamedTensor(source, tensor)


def part(tensor: ir.TensorProtocol, piece: slice, *, columns: bool) -> Floats:
    """Return rows or columns of a tensor in float32, in any memory layout; of a scalar, an array of one."""
    if isinstance(tensor, StreamedTensor):
        return tensor.read(piece, columns=columns)
    if isinstance(tensor, ir.ExternalTensor):
        # A map of its own per slice: pages leave this process's memory with it, not at the end.
        shape = tuple(int(size) for size in tensor.shape.numpy())
        values: Floats = np.memmap(tensor.path, "<f4", "r", offset=tensor.offset or 0, shape=shape or (1,))
    else:
        values = tensor.numpy()
    values = values[:, piece] if columns else values[piece] if values.ndim else values.reshape(1)
    return np.array(values, dtype=np.float32)


def numbers(tensor: ir.TensorProtocol) -> Floats:
    """Return all of a tensor in C order, without leaving a map of its file open: mapped pages count as memory."""
    if isinstance(tensor, StreamedTensor | ir.ExternalTensor):
        return np.ascontiguousarray(part(tensor, slice(None), columns=False))
    return np.array(tensor.numpy(), dtype=np.float32)
