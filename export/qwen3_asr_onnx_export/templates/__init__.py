"""The graphs of the released shapes, as they are traced, without weights: read here, without torch.

A graph depends on dimensions alone. `index.json` says which file holds the graph of which dimensions: those that the
graph depends on, so that a fine-tune with other rotary frequencies finds it too. The files are ONNX, compressed by xz;
the weights in them have names, types and shapes, and no bytes. `make templates` makes them.
"""

from __future__ import annotations

import json
import lzma
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx.errors import BundleError

__all__ = ["INDEX_FILE", "SUFFIX", "Key", "decoder_key", "encoder_key", "find_decoder", "find_encoder"]

FOLDER = Path(__file__).parent
INDEX_FILE, SUFFIX = "index.json", ".onnx.xz"

Key: TypeAlias = dict[str, Any]
"""What a graph depends on: its kind and dimensions, as they stand in the index."""

FREE = ("vocab_size", "rope_theta", "cache_dtype")
"""Dimensions of a decoder that its graph does not show: they shape the table, a weight, and other variants."""


def find_encoder(dims: EncoderDims, n_mels: int) -> ir.Model | None:
    """Return what `trace_encoder(dims, n_mels)` returns, or None if there is no template of that shape.

    Raises:
        BundleError: the template is damaged.
    """
    return _find(encoder_key(dims, n_mels))


def find_decoder(dims: DecoderDims, head_rows: int) -> ir.Model | None:
    """Return what `trace_decoder(dims, head_rows)` returns, or None if there is no template of that shape.

    Raises:
        BundleError: the template is damaged.
    """
    return _find(decoder_key(dims, head_rows))


def encoder_key(dims: EncoderDims, n_mels: int) -> Key:
    """Return what the graph of `trace_encoder(dims, n_mels)` depends on."""
    return {"graph": "encoder", "n_mels": n_mels, **asdict(dims)}


def decoder_key(dims: DecoderDims, head_rows: int) -> Key:
    """Return what the graph of `trace_decoder(dims, head_rows)` depends on."""
    bound = {name: value for name, value in asdict(dims).items() if name not in FREE}
    return {"graph": "decoder", "head_rows": head_rows, **bound}


def _find(key: Key) -> ir.Model | None:
    index: dict[str, Key] = json.loads((FOLDER / INDEX_FILE).read_text(encoding="utf-8"))
    names = [name for name, found in index.items() if found == key]
    return _read(FOLDER / names[0]) if names else None


def _read(path: Path) -> ir.Model:
    try:
        content = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); install qwen3-asr-onnx again") from error
    return ir.from_proto(onnx.load_model_from_string(content))
