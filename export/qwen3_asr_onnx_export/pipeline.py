"""The export, step by step: read and check, trace, stream the weights, check the graphs, write the manifest.

The bundle appears under its name only when all of it is there; an error or Ctrl-C on the way leaves nothing behind.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from tqdm import tqdm

from qwen3_asr_onnx.bundle import (
    EMBEDDINGS_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    Bundle,
    FileRecord,
    Manifest,
    PromptPieces,
    SpecialTokens,
    Variant,
    atomic_directory,
    file_record,
)
from qwen3_asr_onnx.errors import LimitError
from qwen3_asr_onnx.prompt import FORCED_PREFIX, TEMPLATE

from . import parity, weights
from .checkpoint import EMBED, Checkpoint
from .tokenizer_json import build_tokenizer_json, verify_tokenizer_json
from .trace import TracedGraph, trace_decoder, trace_encoder
from .wrappers.decoder import computed_parameters
from .wrappers.encoder import position_table

__all__ = ["export_checkpoint"]

ENCODER_WEIGHTS = "encoder.data"
DECODER_WEIGHTS = "decoder_weights.data"
VARIANT = Variant(
    encoder="encoder.onnx",
    decoder_init="decoder_init.onnx",
    decoder_step="decoder_step.onnx",
    weights=(ENCODER_WEIGHTS, DECODER_WEIGHTS),
    # A float32 step reads every weight once per token, so a rearranged copy buys nothing and costs its size in memory.
    mapped=("decoder_init.onnx", "decoder_step.onnx"),
)

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

Progress = Callable[[int], object]


def export_checkpoint(
    checkpoint_dir: Path,
    bundle_dir: Path,
    *,
    overwrite: bool = False,
    check: bool = True,
    progress: bool = False,
) -> Bundle:
    """Export a Qwen3-ASR checkpoint to an FP32 bundle.

    Args:
        checkpoint_dir: a checkpoint in the original or the transformers-native layout.
        bundle_dir: the directory to create.
        overwrite: replace an existing bundle.
        check: compare every graph with transformers' own layers on random inputs before the bundle is published.
        progress: show a progress bar on stderr.

    Returns:
        The finished bundle.

    Raises:
        BundleError: the checkpoint is not usable, the target is occupied, or a graph disagrees with its reference.
        LimitError: not enough disk space.
    """
    checkpoint = Checkpoint.open(checkpoint_dir)
    checkpoint.verify_tied_head()
    bundle_dir.parent.mkdir(parents=True, exist_ok=True)
    _require_space(checkpoint, bundle_dir)
    with atomic_directory(bundle_dir, overwrite=overwrite) as partial:
        with tqdm(total=4, desc="export", unit="step", file=sys.stderr, disable=not progress) as bar:
            records = _write_tokenizer(checkpoint, partial)
            bar.set_description("tracing the encoder")
            encoder = trace_encoder(checkpoint.encoder, checkpoint.mel.n_mels)
            bar.update()
            bar.set_description("tracing the decoder")
            decoder = trace_decoder(checkpoint.decoder)
            bar.update()
            bar.set_description("writing weights")
            records |= _write_weights(checkpoint, encoder, decoder, partial, progress)
            records |= _write_graphs(encoder, decoder, partial)
            bar.update()
            bar.set_description("checking graphs" if check else "not checking graphs")
            if check:
                parity.check_encoder(partial / VARIANT.encoder, checkpoint)
                parity.check_decoder(partial / VARIANT.decoder_init, checkpoint)
            bar.update()
        manifest = _manifest(checkpoint, records, checked=check)
        (partial / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(bundle_dir)


def _require_space(checkpoint: Checkpoint, bundle_dir: Path) -> None:
    """Raise unless the disk can hold the whole bundle beside what it holds now."""
    elements = {name: _elements(ref.shape) for name, ref in checkpoint.tensors.items()}
    table = elements[EMBED]
    # float32 graphs (the head once, as a copy of the table when tied) and the FP16 table.
    needed = 4 * sum(elements.values()) + 2 * table + GRAPH_ALLOWANCE_BYTES
    if "lm_head.weight" in elements:
        needed -= 4 * table
    free = shutil.disk_usage(bundle_dir.parent).free
    if free < needed:
        raise LimitError(
            f"{bundle_dir.parent}: {free / 1e9:.1f} GB free, the bundle needs {needed / 1e9:.1f} GB; "
            "free some space or choose another disk"
        )


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _write_tokenizer(checkpoint: Checkpoint, partial: Path) -> dict[str, FileRecord]:
    build_tokenizer_json(checkpoint.path, partial / TOKENIZER_FILE)
    verify_tokenizer_json(checkpoint.path, partial / TOKENIZER_FILE)
    for name in COPIED_FILES:
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, partial / name)
    return {path.name: file_record(path) for path in sorted(partial.iterdir())}


def _write_weights(
    checkpoint: Checkpoint, encoder: TracedGraph, decoder: TracedGraph, partial: Path, progress: bool
) -> dict[str, FileRecord]:
    encoder_plan = weights.plan(encoder, ENCODER_WEIGHTS)
    decoder_plan = weights.plan(decoder, DECODER_WEIGHTS)
    table_bytes = 2 * checkpoint.decoder.vocab_size * checkpoint.decoder.hidden
    computed = {
        "audio_tower.positions": position_table(checkpoint.encoder),
        **computed_parameters(checkpoint.decoder),
    }
    with tqdm(
        total=encoder_plan.size + decoder_plan.size + table_bytes,
        desc="weights",
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        disable=not progress,
    ) as bar:
        records = {
            plan.file: weights.write(plan, checkpoint, computed, partial / plan.file, bar.update)
            for plan in (encoder_plan, decoder_plan)
        }
        records[EMBEDDINGS_FILE] = weights.write_embeddings(checkpoint, partial / EMBEDDINGS_FILE, bar.update)
    weights.attach(encoder, encoder_plan, computed)
    weights.attach(decoder, decoder_plan, computed)
    return records


def _write_graphs(encoder: TracedGraph, decoder: TracedGraph, partial: Path) -> dict[str, FileRecord]:
    """Save the graphs. Prefill and step are one graph under two names; the runtime sees equal digests, opens one."""
    for graph, name in ((encoder, VARIANT.encoder), (decoder, VARIANT.decoder_init), (decoder, VARIANT.decoder_step)):
        ir.save(graph.model, partial / name)
    names = (VARIANT.encoder, VARIANT.decoder_init, VARIANT.decoder_step)
    return {name: file_record(partial / name) for name in names}


def _manifest(checkpoint: Checkpoint, records: dict[str, FileRecord], *, checked: bool) -> Manifest:
    return Manifest(
        name=checkpoint.path.resolve().name,
        kind="asr",
        encoder=checkpoint.encoder,
        decoder=checkpoint.decoder,
        mel=checkpoint.mel,
        tokens=SpecialTokens(checkpoint.audio_token, checkpoint.eos_tokens),
        prompt=PromptPieces(TEMPLATE, FORCED_PREFIX),
        languages=checkpoint.languages,
        variants={"fp32": replace(VARIANT, recipe={"scheme": "fp32", "checked_against_transformers": checked})},
        files=dict(sorted(records.items())),
        source={
            "layout": checkpoint.layout,
            "tied_head": checkpoint.tied,
            "config_sha256": file_record(checkpoint.path / "config.json").sha256,
        },
    )
