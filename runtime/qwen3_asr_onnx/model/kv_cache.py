"""The decoder's memory of what it has read: arrays that the graphs read and extend in place."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import DecoderDims
from qwen3_asr_onnx.bundle.names import cache_names, past_name, present_name

from .session import Binding, Session

__all__ = ["KvCache"]

CacheArray: TypeAlias = npt.NDArray[np.floating[Any]]


class KvCache:
    """Keys and values: two arrays (rows, kv_heads, capacity, head_dim) of `dims.cache_dtype` per layer."""

    def __init__(self, dims: DecoderDims, rows: int, capacity: int) -> None:
        self.dims = dims
        self.buffers = [self._empty(rows, capacity) for _ in range(2 * dims.layers)]

    def _empty(self, rows: int, capacity: int) -> CacheArray:
        shape = (rows, self.dims.kv_heads, capacity, self.dims.head_dim)
        dtype = np.dtype(self.dims.cache_dtype)
        n_bytes = dtype.itemsize * math.prod(shape)
        if not n_bytes:
            return np.zeros(shape, dtype=dtype)
        # Fresh pages are zero and cost nothing until they are touched; unset memory could hold NaN, which masking
        # cannot undo. numpy would ask for huge pages, and a row would take its whole capacity with its first token.
        return np.frombuffer(mmap.mmap(-1, n_bytes), dtype=dtype).reshape(shape)

    @staticmethod
    def position_bytes(dims: DecoderDims) -> int:
        """Return the bytes that one position of one row takes."""
        return 2 * dims.layers * dims.kv_heads * dims.head_dim * np.dtype(dims.cache_dtype).itemsize

    @property
    def rows(self) -> int:
        """How many rows there is room for."""
        return int(self.buffers[0].shape[0])

    @property
    def capacity(self) -> int:
        """Positions per row."""
        return int(self.buffers[0].shape[2])

    def bind(
        self,
        session: Session,
        first: int,
        last: int,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> Binding:
        """Return a call of `session` on the rows [first, last), the cache bound as past and present at once."""
        rows = [buffer[first:last] for buffer in self.buffers]
        past = dict(zip(cache_names(past_name, self.dims.layers), rows, strict=True))
        present = dict(zip(cache_names(present_name, self.dims.layers), rows, strict=True))
        return session.bind({**inputs, **past}, {**outputs, **present})

    def clear(self) -> None:
        """Forget everything and give its memory back."""
        for i, old in enumerate(self.buffers):
            self.buffers[i] = self._empty(old.shape[0], old.shape[2])

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        for buffer in self.buffers:
            buffer[target, :, :length] = buffer[source, :, :length]

    def grow(self, rows: int, length: int, capacity: int) -> None:
        """Give every row `capacity` positions; keep `length` positions of the first `rows` rows."""
        for i, old in enumerate(self.buffers):
            self.buffers[i] = self._empty(old.shape[0], capacity)
            self.buffers[i][:rows, :, :length] = old[:rows, :, :length]
