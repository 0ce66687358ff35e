"""Graphs with pending weights -> external-data files, each tensor computed in slices by all cores and written once.

`WeightFiles` remembers what has been written and where. A graph added later points to what is there already and adds
only what is new to its own file, so the graphs of a variant never store a tensor twice. Slices are computed in any
order and written in one: the same input gives the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import FileRecord
from qwen3_asr_onnx.bundle.writing import HashedFile
from qwen3_asr_onnx.model.session import usable_cores

from .derived import DerivedTensor
from .pending import Job, PendingTensor
from .sources import StreamedTensor

__all__ = ["Placement", "WeightFiles", "source_bytes", "stored_bytes"]

Array: TypeAlias = npt.NDArray[Any]
Key: TypeAlias = tuple[object, ...]
Progress: TypeAlias = Callable[[int], object]

INLINE_BYTES = 256
"""Constants up to this size, shapes and the like, stay inside the graph where the source has them there."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one tensor lies: file name, offset and length in bytes."""

    file: str
    offset: int
    n_bytes: int


def source_bytes(models: Iterable[ir.Model]) -> int:
    """Return the float32 bytes that writing the weights of some graphs will read."""
    return sum(4 * job.source.size for job in _jobs(models))


def stored_bytes(models: Iterable[ir.Model]) -> int:
    """Return the bytes that writing the weights of some graphs will store, padding aside."""
    return sum(stored.n_bytes for job in _jobs(models) for stored in job.outputs)


class WeightFiles:
    """The weight files of one variant, written into one directory.

    Attributes:
        placed: where each tensor lies, by what is stored.
        records: size and digest of each file written.
    """

    def __init__(self, directory: Path, progress: Progress | None = None, threads: int | None = None) -> None:
        self.directory = directory
        self.placed: dict[Key, Placement] = {}
        self.records: dict[str, FileRecord] = {}
        self._progress = progress
        self._threads = threads or usable_cores()

    def add(self, model: ir.Model, file: str) -> tuple[str, ...]:
        """Write the weights of a graph that no earlier graph has written, and point the graph at all of them.

        Args:
            model: its initializers are pending, external to the source's files, or small constants.
            file: the file for what is new; not created when nothing is.

        Returns:
            The names of the files the graph now reads.

        Raises:
            BundleError: a weight is not a finite number.
            OSError: the file cannot be written.
        """
        new = [job for job in _jobs([model]) if (job.key, 0) not in self.placed]
        if new:
            with (self.directory / file).open("wb") as handle:
                out = HashedFile(handle)
                self._write(new, file, out)
                self.records[file] = out.record()
        return self._attach(model)

    def adopt(self, model: ir.Model, graph: ir.Graph) -> None:
        """Take what a graph of the bundle reads as written already: tensors `model` has under the same names.

        Args:
            model: weights pending, made from the same source by the same schemes as `graph`.
            graph: a graph of the bundle.
        """
        for name, value in model.graph.initializers.items():
            identity = _identity(value.const_value)
            stored = graph.initializers[name].const_value if name in graph.initializers else None
            if identity is not None and isinstance(stored, ir.ExternalTensor):
                assert (stored.dtype, stored.shape) == (value.dtype, value.shape), name
                self.placed[identity] = Placement(str(stored.location), stored.offset or 0, stored.nbytes)

    def _write(self, jobs: Sequence[Job], file: str, out: HashedFile) -> None:
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                results = _computed(jobs, pool, self._threads + 2)
                for job in jobs:
                    self._write_job(job, results, file, out)
                    if self._progress is not None:
                        self._progress(4 * job.source.size)
            finally:
                pool.shutdown(cancel_futures=True)

    def _write_job(self, job: Job, results: Iterator[tuple[Array, ...]], file: str, out: HashedFile) -> None:
        """Write the outputs of one job, taking the shares of its slices from `results`."""
        shares = (next(results) for _ in job.slices)
        first, *rest = job.outputs
        if first.axis == 0:
            # The first output is the large one: its slices follow each other in the file and need not be collected.
            begin = self._place(job, 0, file, out)
            later = []
            for share in shares:
                out.write(share[0])
                later.append(share[1:])
            assert out.size - begin == first.n_bytes, first
            arrays = [np.concatenate(pieces) for pieces in zip(*later, strict=True)]
        else:
            whole, *arrays = job.join(list(shares))
            self._place(job, 0, file, out)
            out.write(whole)
        for index, (stored, array) in enumerate(zip(rest, arrays, strict=True), start=1):
            assert array.nbytes == stored.n_bytes, stored
            self._place(job, index, file, out)
            out.write(array)

    def _place(self, job: Job, index: int, file: str, out: HashedFile) -> int:
        """Note that the next bytes are one output of a job, and return their offset."""
        n_bytes = job.outputs[index].n_bytes
        offset = out.align(n_bytes)
        self.placed[job.key, index] = Placement(file, offset, n_bytes)
        return offset

    def _attach(self, model: ir.Model) -> tuple[str, ...]:
        files: dict[str, None] = {}
        for name, value in model.graph.initializers.items():
            identity = _identity(value.const_value)
            if identity is None:
                continue
            place = self.placed[identity]
            tensor = value.const_value
            assert tensor is not None
            value.const_value = ir.ExternalTensor(
                place.file, place.offset, place.n_bytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
            files[place.file] = None
        return tuple(files)


def _computed(jobs: Sequence[Job], pool: ThreadPoolExecutor, ahead: int) -> Iterator[tuple[Array, ...]]:
    """Yield the shares of every slice of every job, in order, at most `ahead` being computed or waiting."""
    todo = ((job, piece) for job in jobs for piece in job.slices)
    waiting: deque[Future[tuple[Array, ...]]] = deque()
    while True:
        while len(waiting) < ahead and (work := next(todo, None)) is not None:
            waiting.append(pool.submit(work[0].compute, work[1]))
        if not waiting:
            return
        yield waiting.popleft().result()


def _jobs(models: Iterable[ir.Model]) -> list[Job]:
    """Return what has to be stored for some graphs, each tensor once, in the order of their initializers."""
    jobs: dict[Key, Job] = {}
    for value in (value for model in models for value in model.graph.initializers.values()):
        tensor = value.const_value
        if isinstance(tensor, PendingTensor):
            jobs.setdefault(tensor.job.key, tensor.job)
        elif isinstance(tensor, ir.ExternalTensor | StreamedTensor | DerivedTensor):
            job = Job(tensor)
            jobs.setdefault(job.key, job)
        else:
            assert tensor is not None, value
            assert tensor.nbytes <= INLINE_BYTES, value
    return list(jobs.values())


def _identity(tensor: ir.TensorProtocol | None) -> Key | None:
    """Return the key under which a tensor is placed; None when it stays inside the graph."""
    if isinstance(tensor, PendingTensor):
        return (tensor.job.key, tensor.index)
    if isinstance(tensor, ir.ExternalTensor | StreamedTensor | DerivedTensor):
        return (Job(tensor).key, 0)
    return None
