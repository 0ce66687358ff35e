"""The export, step by step: read and check, build graphs, stream the weights, check the graphs, write the manifest.

The bundle appears under its name only when all of it is there; an error or Ctrl-C on the way leaves nothing behind.
"""

from __future__ import annotations

import math
import shutil
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from qwen3_asr_onnx.alignment.prompt import ALIGNER_TEMPLATE
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import (
    EMBEDDINGS_FILE,
    TOKENIZER_FILE,
    AnswerGrammar,
    FileRecord,
    Manifest,
    PromptPieces,
    SpecialTokens,
    Variant,
)
from qwen3_asr_onnx.bundle.names import variant_files
from qwen3_asr_onnx.bundle.writing import atomic_directory, clear_directory_leftovers, require_space
from qwen3_asr_onnx.commands.console import progress_bar
from qwen3_asr_onnx.model.loading import load_tokenizer
from qwen3_asr_onnx.text.answer import TEXT_TAG
from qwen3_asr_onnx.text.prompt import FORCED_PREFIX, TEMPLATE

from . import placement, weights
from .checkpoint import CONFIG_FILE, EMBED, Checkpoint
from .computed import position_table, rotary_frequencies
from .graphs import decoder_graph, encoder_graph
from .shapes import expected_shapes
from .tokenizer_json import build_tokenizer_json, check_tokenizer_json, verify_tokenizer_json

__all__ = ["export_checkpoint"]

FILES = variant_files()
VARIANT = Variant(
    encoder=FILES.encoder,
    decoder_init=FILES.decoder_init,
    decoder_step=FILES.decoder_step,
    weights=(FILES.encoder_weights, FILES.decoder_weights),
    # A float32 step reads every weight once per token, so a rearranged copy buys nothing and costs its size in memory.
    mapped=(FILES.decoder_init, FILES.decoder_step),
)

ALIGNER_VARIANT = replace(VARIANT, decoder_step=VARIANT.decoder_init, mapped=(VARIANT.decoder_init,))
"""An aligner answers in one pass: there is no step."""

COPIED_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "chat_template.json",
    "chat_template.jinja",
)
"""Small files of the checkpoint that travel with the bundle, where present. The runtime does not read them."""

GRAPH_ALLOWANCE_BYTES = 64 << 20
"""Room for graphs, tokenizer and manifest in the disk-space check."""


def export_checkpoint(
    checkpoint_dir: Path,
    bundle_dir: Path,
    *,
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
    checkpoint = Checkpoint.open(checkpoint_dir)
    checkpoint.verify_tied_head()
    name = name or checkpoint.path.resolve().name
    bundle_dir.parent.mkdir(parents=True, exist_ok=True)
    clear_directory_leftovers(bundle_dir)  # before the room is measured
    _require_space(checkpoint, bundle_dir)
    with atomic_directory(bundle_dir, overwrite=overwrite) as partial:
        records = _write_tokenizer(checkpoint, name, partial, compare=check)
        records |= _write_model(checkpoint, partial, trace=trace, progress=progress)
        if check:
            _check(checkpoint, partial, progress=progress)
        manifest = _manifest(checkpoint, name, records, checked=check)
        manifest.save(partial)
    return Bundle.open(bundle_dir)


def _require_space(checkpoint: Checkpoint, bundle_dir: Path) -> None:
    """Raise unless the disk can hold the whole bundle beside what it holds now."""
    needed = _weight_bytes(checkpoint) + GRAPH_ALLOWANCE_BYTES
    require_space(bundle_dir, needed, "the bundle", "choose another disk")


def _weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of the checkpoint's weights in float32, the head once, and of the FP16 table; padding aside."""
    shapes = expected_shapes(checkpoint.encoder, checkpoint.decoder, checkpoint.mel.n_mels, checkpoint.head_rows)
    elements = {name: math.prod(shape) for name, shape in shapes.items()}
    table = elements.pop(EMBED)
    return 4 * sum(elements.values()) + 2 * table


def _write_tokenizer(
    checkpoint: Checkpoint, name: str, partial: Path, *, compare: bool = False
) -> dict[str, FileRecord]:
    """Write what belongs to the tokenizer and the other small files, and read it as everybody will."""
    target = partial / TOKENIZER_FILE
    build_tokenizer_json(checkpoint.path, target)
    for name in COPIED_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, partial / name)
    records = {path.name: file_record(path) for path in sorted(partial.iterdir())}
    load_tokenizer(Bundle(partial, _manifest(checkpoint, name, records, checked=False)))
    (verify_tokenizer_json if compare else check_tokenizer_json)(checkpoint.path, target)
    return records


def _write_model(checkpoint: Checkpoint, partial: Path, *, trace: bool, progress: bool) -> dict[str, FileRecord]:
    """Write weights and graphs. Weights stream in a second thread, free of the interpreter while this one traces."""
    dims, n_mels = checkpoint.decoder, checkpoint.mel.n_mels
    computed = {"audio_tower.positions": position_table(checkpoint.encoder), "model.inv_freq": rotary_frequencies(dims)}
    cancelled = threading.Event()
    with (
        progress_bar(total=_weight_bytes(checkpoint), unit="B", scale=True, quiet=not progress) as bar,
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
    # Prefill and step are one graph under two names; the runtime sees equal digests and opens one session.
    variant = _variant(checkpoint)
    for model, name in ((encoder, variant.encoder), (decoder, variant.decoder_init), (decoder, variant.decoder_step)):
        ir.save(model, partial / name)
        records[name] = file_record(partial / name)
    return records


def _variant(checkpoint: Checkpoint) -> Variant:
    return VARIANT if checkpoint.timestamps is None else ALIGNER_VARIANT


def _check(checkpoint: Checkpoint, partial: Path, *, progress: bool) -> None:
    from . import parity  # needs torch and transformers

    steps = checkpoint.decoder.layers + 2
    with progress_bar(total=steps, unit="part", quiet=not progress) as bar:
        bar.set_postfix_str("checking against transformers")
        parity.check_encoder(partial / VARIANT.encoder, checkpoint)
        bar.update()
        parity.check_decoder(partial / VARIANT.decoder_init, checkpoint, bar.update)


def _manifest(checkpoint: Checkpoint, name: str, records: dict[str, FileRecord], *, checked: bool) -> Manifest:
    recipe = {"scheme": "fp32", "checked_against_transformers": checked}
    asr = checkpoint.timestamps is None
    return Manifest(
        name=name,
        kind="asr" if asr else "aligner",
        encoder=checkpoint.encoder,
        decoder=checkpoint.decoder,
        mel=checkpoint.mel,
        tokens=SpecialTokens(checkpoint.audio_token, checkpoint.eos_tokens),
        prompt=PromptPieces(TEMPLATE, FORCED_PREFIX) if asr else PromptPieces(ALIGNER_TEMPLATE, ""),
        languages=checkpoint.languages,
        variants={"fp32": replace(_variant(checkpoint), recipe=recipe)},
        files=dict(sorted(records.items())),
        source={
            "layout": checkpoint.layout,
            "tied_head": checkpoint.tied,
            "config_sha256": file_record(checkpoint.path / CONFIG_FILE).sha256,
        },
        timestamps=checkpoint.timestamps,
        answer=AnswerGrammar(tag=TEXT_TAG) if asr else None,
    )
