"""An aligner's bundle on disk in, its loaded parts out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import Manifest, TimestampHead
from qwen3_asr_onnx.model.embeddings import EmbeddingTable
from qwen3_asr_onnx.model.encoder import AudioEncoder
from qwen3_asr_onnx.model.interface import decoder_interface, encoder_interface
from qwen3_asr_onnx.model.loading import load_session, load_tokenizer, open_variant
from qwen3_asr_onnx.model.session import return_free_memory
from qwen3_asr_onnx.text.tokenizer import Tokenizer

from .slots import SlotDecoder

__all__ = ["AlignmentModel", "load_aligner"]


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentModel:
    """One variant of an aligner's bundle, loaded.

    Attributes:
        manifest: what the bundle says about itself.
        variant: name of the variant.
        head: what it has in place of a vocabulary head.
        tokenizer: text <-> token ids.
        embeddings: token ids -> embedding rows.
        encoder: log-mel features -> audio embeddings.
        decoder: embedded prompts -> time classes.
    """

    manifest: Manifest
    variant: str
    head: TimestampHead
    tokenizer: Tokenizer
    embeddings: EmbeddingTable
    encoder: AudioEncoder
    decoder: SlotDecoder


def load_aligner(
    bundle: str | os.PathLike[str] | Bundle | None, variant: str | None, device: str, threads: int | None
) -> AlignmentModel:
    """Load one variant of an aligner's bundle; arguments and errors are those of `Aligner`."""
    opened, name, entry = open_variant(bundle, variant, device, "aligner")
    manifest = opened.manifest
    assert manifest.timestamps is not None, "every aligner's manifest has it"
    dims = replace(manifest.decoder, cache_dtype=entry.cache_dtype)
    tokenizer = load_tokenizer(opened)
    embeddings = EmbeddingTable(opened.require(entry.embeddings), dims.vocab_size, dims.hidden)
    encoder = load_session(opened, entry, entry.encoder, encoder_interface(manifest), device, threads)
    interface = decoder_interface(manifest, entry)
    decoder = load_session(opened, entry, entry.decoder_init, interface, device, threads)
    return_free_memory()
    return AlignmentModel(
        manifest,
        name,
        manifest.timestamps,
        tokenizer,
        embeddings,
        AudioEncoder(encoder, manifest.encoder),
        SlotDecoder(decoder, dims, manifest.timestamps),
    )
