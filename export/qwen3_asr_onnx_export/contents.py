"""What a float32 bundle holds beside its weights: graphs, tokenizer, small files, and the manifest of it all."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import onnx_ir as ir

from qwen3_asr_onnx.alignment.prompt import ALIGNER_TEMPLATE
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import (
    TOKENIZER_FILE,
    AnswerGrammar,
    FileRecord,
    Manifest,
    PromptPieces,
    SpecialTokens,
    Variant,
)
from qwen3_asr_onnx.bundle.names import variant_files
from qwen3_asr_onnx.model.loading import load_tokenizer
from qwen3_asr_onnx.text.answer import TEXT_TAG
from qwen3_asr_onnx.text.prompt import FORCED_PREFIX, TEMPLATE

from .checkpoint import CONFIG_FILE, EMBED, Checkpoint
from .shapes import expected_shapes
from .tokenizer_json import build_tokenizer_json, check_tokenizer_json, verify_tokenizer_json

__all__ = [
    "FILES",
    "VARIANT",
    "Records",
    "float32_manifest",
    "float32_variant",
    "save_graphs",
    "weight_bytes",
    "write_small_files",
]

Records: TypeAlias = dict[str, FileRecord]

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


def weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of the checkpoint's weights in float32, the head once, and of the FP16 table; padding aside."""
    shapes = expected_shapes(checkpoint.encoder, checkpoint.decoder, checkpoint.mel.n_mels, checkpoint.head_rows)
    elements = {name: math.prod(shape) for name, shape in shapes.items()}
    table = elements.pop(EMBED)
    return 4 * sum(elements.values()) + 2 * table


def write_small_files(checkpoint: Checkpoint, name: str, folder: Path, *, compare: bool = False) -> Records:
    """Write what belongs to the tokenizer, and read it as everybody will who loads the bundle.

    Args:
        checkpoint: the checkpoint.
        name: what the manifest calls the model.
        folder: an empty folder.
        compare: compare the tokenizer with the one that transformers builds.

    Raises:
        BundleError: a tokenizer file is missing, damaged, or of another model.
    """
    target = folder / TOKENIZER_FILE
    build_tokenizer_json(checkpoint.path, target)
    for file in COPIED_FILES:
        if (checkpoint.path / file).is_file():
            shutil.copyfile(checkpoint.path / file, folder / file)
    records = {path.name: file_record(path) for path in sorted(folder.iterdir())}
    load_tokenizer(Bundle(folder, float32_manifest(checkpoint, name, records, checked=False)))
    (verify_tokenizer_json if compare else check_tokenizer_json)(checkpoint.path, target)
    return records


def save_graphs(encoder: ir.Model, decoder: ir.Model, variant: Variant, folder: Path) -> Records:
    """Write the graphs.

    Prefill and step are one graph under two names; the runtime sees equal digests and opens one session.
    """
    records = {}
    for model, name in ((encoder, variant.encoder), (decoder, variant.decoder_init), (decoder, variant.decoder_step)):
        ir.save(model, folder / name)
        records[name] = file_record(folder / name)
    return records


def float32_variant(checkpoint: Checkpoint) -> Variant:
    """Return the variant of a checkpoint, without its recipe."""
    return VARIANT if checkpoint.timestamps is None else ALIGNER_VARIANT


def float32_manifest(checkpoint: Checkpoint, name: str, records: Records, *, checked: bool) -> Manifest:
    """Return the manifest of a float32 bundle.

    Args:
        checkpoint: what it is made from.
        name: what it calls the model.
        records: its files.
        checked: whether its graphs were compared with transformers.
    """
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
        variants={"fp32": replace(float32_variant(checkpoint), recipe=recipe)},
        files=dict(sorted(records.items())),
        source={
            "layout": checkpoint.layout,
            "tied_head": checkpoint.tied,
            "config_sha256": file_record(checkpoint.path / CONFIG_FILE).sha256,
            **({} if checkpoint.adapter is None else {"adapter_sha256": checkpoint.adapter.sha256}),
        },
        timestamps=checkpoint.timestamps,
        answer=AnswerGrammar(tag=TEXT_TAG) if asr else None,
    )
