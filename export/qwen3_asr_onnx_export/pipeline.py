"""The export, step by step: read and check, build graphs, stream the weights, check the graphs, write the manifest.

The bundle appears under its name only when all of it is there; an error or Ctrl-C on the way leaves nothing behind.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import onnx_ir as ir

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, FileRecord
from qwen3_asr_onnx.bundle.writing import atomic_directory, clear_directory_leftovers, require_space
from qwen3_asr_onnx.commands.console import progress_bar

from . import placement, weights
from .checkpoint import Checkpoint
from .contents import (
    FILES,
    VARIANT,
    Records,
    float32_manifest,
    float32_variant,
    save_graphs,
    weight_bytes,
    write_small_files,
)
from .graphs import decoder_graph, encoder_graph

__all__ = ["export_checkpoint"]

GRAPH_ALLOWANCE_BYTES = 64 << 20
"""Room for graphs, tokenizer and manifest in the disk-space check."""


def export_checkpoint(
    checkpoint_dir: Path,
    bundle_dir: Path,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    check: bool = True,
    trace: bool = False,
    progress: bool = False,
) -> Bundle:
    """Export a Qwen3-ASR or Qwen3-ForcedAligner checkpoint to an FP32 bundle.

    Args:
        checkpoint_dir: a checkpoint in the original or the transformers-native layout.
        bundle_dir: the directory to create.
        adapter: the directory of a LoRA adapter to merge into it; without `check`, which knows the base alone.
        name: what the manifest calls the model; None for the name of the checkpoint's directory.
        overwrite: replace an existing bundle.
        check: compare every graph with transformers' own layers on random inputs before the bundle is published.
        trace: trace the graphs anew even where the package brings templates of them.
        progress: show a progress bar, where stderr is a terminal.

    Returns:
        The finished bundle.

    Raises:
        BundleError: the checkpoint is not usable, the target is occupied, or a graph disagrees with its reference.
        LimitError: not enough disk space.
    """
    checkpoint = Checkpoint.open(checkpoint_dir, adapter)
    checkpoint.verify_tied_head()
    name = name or checkpoint.path.resolve().name
    bundle_dir.parent.mkdir(parents=True, exist_ok=True)
    clear_directory_leftovers(bundle_dir)  # before the room is measured
    _require_space(checkpoint, bundle_dir)
    with atomic_directory(bundle_dir, overwrite=overwrite) as partial:
        records = write_small_files(checkpoint, name, partial, compare=check)
        records |= _write_model(checkpoint, partial, trace=trace, progress=progress)
        if check:
            _check(checkpoint, partial, progress=progress)
        manifest = float32_manifest(checkpoint, name, records, checked=check)
        manifest.save(partial)
    return Bundle.open(bundle_dir)


def _require_space(checkpoint: Checkpoint, bundle_dir: Path) -> None:
    """Raise unless the disk can hold the whole bundle beside what it holds now."""
    needed = weight_bytes(checkpoint) + GRAPH_ALLOWANCE_BYTES
    require_space(bundle_dir, needed, "the bundle", "choose another disk")


def _write_model(checkpoint: Checkpoint, partial: Path, *, trace: bool, progress: bool) -> Records:
    """Write weights and graphs. Weights stream in a second thread, free of the interpreter while this one traces."""
    dims, n_mels = checkpoint.decoder, checkpoint.mel.n_mels
    computed = weights.computed_weights(checkpoint)
    cancelled = threading.Event()
    with (
        progress_bar(total=weight_bytes(checkpoint), unit="B", scale=True, quiet=not progress) as bar,
        ThreadPoolExecutor(1) as writer,
    ):
        bar.set_postfix_str("weights and graphs")

        def advance(n_bytes: int) -> None:
            if cancelled.is_set():
                raise CancelledError
            bar.update(n_bytes)

        def write_weights(model: ir.Model, file: str) -> Future[FileRecord]:
            """Have the weights of a graph written to a file, and make it point there."""
            plan = placement.plan(model, file)
            placement.attach(model, plan)
            return writer.submit(weights.write, plan, checkpoint, computed, partial / file, advance)

        # What is traced first is written while the second is traced: the larger part. The table needs no graph.
        written = {
            EMBEDDINGS_FILE: writer.submit(weights.write_embeddings, checkpoint, partial / EMBEDDINGS_FILE, advance)
        }
        try:
            decoder = decoder_graph(dims, checkpoint.head_rows, trace=trace)
            written[FILES.decoder_weights] = write_weights(decoder, FILES.decoder_weights)
            encoder = encoder_graph(checkpoint.encoder, n_mels, trace=trace)
            written[FILES.encoder_weights] = write_weights(encoder, FILES.encoder_weights)
            records = {file: future.result() for file, future in written.items()}
        finally:
            cancelled.set()
    return records | save_graphs(encoder, decoder, float32_variant(checkpoint), partial)


def _check(checkpoint: Checkpoint, partial: Path, *, progress: bool) -> None:
    from . import parity  # needs torch and transformers

    steps = checkpoint.decoder.layers + 2
    with progress_bar(total=steps, unit="part", quiet=not progress) as bar:
        bar.set_postfix_str("checking against transformers")
        parity.check_encoder(partial / VARIANT.encoder, checkpoint)
        bar.update()
        parity.check_decoder(partial / VARIANT.decoder_init, checkpoint, bar.update)
