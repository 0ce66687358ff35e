"""A checkpoint as a float32 bundle without its large files: what is in them is computed when it is asked for."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, FileRecord
from qwen3_asr_onnx.bundle.workshops import Float32Source

from . import placement, weights
from .checkpoint import Checkpoint
from .contents import FILES, Records, float32_manifest, float32_variant, save_graphs, write_small_files
from .graphs import decoder_graph, encoder_graph
from .placement import WeightPlan
from .stored_file import Floats

__all__ = ["StreamedBundle", "streamed_bundle"]


@dataclass(frozen=True, slots=True)
class StreamedBundle:
    """What `qwen3_asr_onnx.bundle.workshops.Float32Source` says, of a checkpoint."""

    checkpoint: Checkpoint
    bundle: Bundle
    plans: Mapping[str, WeightPlan]
    computed: Mapping[str, Floats]
    writer: ThreadPoolExecutor
    cancelled: threading.Event

    @property
    def origin(self) -> Path:
        """The directory of the checkpoint."""
        return self.checkpoint.path

    @property
    def streamed(self) -> frozenset[str]:
        """The weight files and the table."""
        return frozenset({*self.plans, EMBEDDINGS_FILE})

    def read(self, name: str, start: int, stop: int, *, columns: bool) -> Floats:
        """Return rows or columns of a weight as its graph has it."""
        if any(name in plan.transposed for plan in self.plans.values()):
            if columns:
                return self.checkpoint.read_rows(name, start, stop).T
            return self.checkpoint.read_columns(name, start, stop)
        if columns:
            values = self.computed[name] if name in self.computed else self.checkpoint.read(name)
            return values[:, start:stop]
        if name in self.computed:
            return self.computed[name][start:stop]
        return self.checkpoint.read_rows(name, start, stop)

    def table(self, start: int, stop: int) -> npt.NDArray[np.float16]:
        """Return rows of the table of input embeddings."""
        return weights.read_table(self.checkpoint, start, stop)

    def deliver(self, file: str, target: Path | None) -> Future[FileRecord]:
        """Write a large file in another thread, or compute its record alone."""
        path = target or Path(os.devnull)
        if file == EMBEDDINGS_FILE:
            write = partial(weights.write_embeddings, self.checkpoint)
        else:
            write = partial(weights.write, self.plans[file], self.checkpoint, self.computed)
        return self.writer.submit(write, path, self._advance)

    def _advance(self, n_bytes: int) -> None:  # noqa: ARG002 - a place to stop at
        if self.cancelled.is_set():
            raise CancelledError


@contextlib.contextmanager
def streamed_bundle(
    checkpoint_dir: Path, folder: Path, *, adapter: Path | None = None, name: str | None = None
) -> Iterator[Float32Source]:
    """Open a checkpoint as a float32 bundle. Nothing of it is delivered any more when the block ends.

    Args:
        checkpoint_dir: a checkpoint in the original or the transformers-native layout.
        folder: an empty folder, for the small files.
        adapter: the directory of a LoRA adapter to merge into it.
        name: what the manifest calls the model; None for the name of the checkpoint's directory.

    Raises:
        BundleError: the checkpoint or the adapter is not usable.
        MissingExtra: it is of a shape whose graphs must be traced, and torch is not installed.
    """
    checkpoint = Checkpoint.open(checkpoint_dir, adapter)
    checkpoint.verify_tied_head()
    name = name or checkpoint.path.resolve().name
    records: Records = write_small_files(checkpoint, name, folder)
    encoder = encoder_graph(checkpoint.encoder, checkpoint.mel.n_mels)
    decoder = decoder_graph(checkpoint.decoder, checkpoint.head_rows)
    plans = {}
    for model, file in ((encoder, FILES.encoder_weights), (decoder, FILES.decoder_weights)):
        plans[file] = placement.plan(model, file)
        placement.attach(model, plans[file])
    records |= save_graphs(encoder, decoder, float32_variant(checkpoint), folder)
    sizes = {file: plan.size for file, plan in plans.items()}
    sizes[EMBEDDINGS_FILE] = 2 * checkpoint.decoder.vocab_size * checkpoint.decoder.hidden
    records |= {file: FileRecord(size, "") for file, size in sizes.items()}
    manifest = float32_manifest(checkpoint, name, records, checked=False)
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as writer:
        try:
            computed = weights.computed_weights(checkpoint)
            yield StreamedBundle(checkpoint, Bundle(folder, manifest), plans, computed, writer, cancelled)
        finally:
            cancelled.set()
