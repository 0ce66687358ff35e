"""The released shapes, and how their templates are made: traced with torch, then freed of all that weights are."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims

from . import INDEX_FILE, SUFFIX, Key, decoder_key, encoder_key

__all__ = ["MINIATURES", "RELEASED", "ReleasedShape", "Template", "graph_bytes", "traced", "write"]


@dataclass(frozen=True, slots=True)
class ReleasedShape:
    """Dimensions of one model.

    Attributes:
        name: what its templates are called after.
        encoder: shape of the encoder.
        decoder: shape of the decoder.
        head_rows: width of the logits: the vocabulary, or an aligner's time classes.
        n_mels: mel bins of the encoder's input.
    """

    name: str
    encoder: EncoderDims
    decoder: DecoderDims
    head_rows: int
    n_mels: int = 128


class Template(NamedTuple):
    """A graph to keep: the stem of its file, what it depends on, and its ONNX bytes."""

    stem: str
    key: Key
    content: bytes


RELEASED = (
    ReleasedShape(
        "asr-0.6b",
        EncoderDims(18, 896, 14, 3584, 480, 1024),
        DecoderDims(28, 1024, 3072, 16, 8, 128, 151_936, 1e6, 1e-6, 65_536),
        151_936,
    ),
    ReleasedShape(
        "asr-1.7b",
        EncoderDims(24, 1024, 16, 4096, 480, 2048),
        DecoderDims(28, 2048, 6144, 16, 8, 128, 151_936, 1e6, 1e-6, 65_536),
        151_936,
    ),
    ReleasedShape(
        "aligner-0.6b",
        EncoderDims(24, 1024, 16, 4096, 480, 1024),
        DecoderDims(28, 1024, 3072, 16, 8, 128, 152_064, 1e6, 1e-6, 8_192),
        5_000,
    ),
)
"""Qwen3-ASR-0.6B, Qwen3-ASR-1.7B and Qwen3-ForcedAligner-0.6B."""

_MINI_ENCODER = EncoderDims(4, 256, 4, 768, 16, 256)
_MINI_DECODER = DecoderDims(3, 256, 512, 4, 2, 64, 1024, 1e6, 1e-6, 65_536)

MINIATURES = (
    ReleasedShape("mini-asr", _MINI_ENCODER, _MINI_DECODER, 1024),
    ReleasedShape("mini-aligner", _MINI_ENCODER, replace(_MINI_DECODER, max_positions=8_192), 1024),
)
"""The models that come with the source: what is first exported, and most often."""


def traced(shapes: Iterable[ReleasedShape]) -> Iterator[Template]:
    """Yield the templates of the shapes, traced now: first the encoder's, then the decoder's of each."""
    from qwen3_asr_onnx_export.trace import trace_decoder, trace_encoder

    for shape in shapes:
        encoder = trace_encoder(shape.encoder, shape.n_mels)
        yield Template(f"{shape.name}-encoder", encoder_key(shape.encoder, shape.n_mels), graph_bytes(encoder))
        decoder = trace_decoder(shape.decoder, shape.head_rows)
        yield Template(f"{shape.name}-decoder", decoder_key(shape.decoder, shape.head_rows), graph_bytes(decoder))


def graph_bytes(model: ir.Model) -> bytes:
    """Return a traced graph as ONNX. Its float32 weights, which in `model` go too, keep name, type and shape alone."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None, name
        if tensor.dtype == ir.DataType.FLOAT:
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor("", None, None, tensor.dtype, shape=shape, name=name)
    content: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def write(templates: Iterable[Template], folder: Path) -> None:
    """Make the folder hold these templates, their index, and no others.

    A file that holds its graph already stays as it is: another release of xz may write other bytes for it.
    """
    index: dict[str, Key] = {}
    for template in templates:
        path = folder / (template.stem + SUFFIX)
        if not path.exists() or lzma.decompress(path.read_bytes()) != template.content:
            path.write_bytes(lzma.compress(template.content, preset=6 | lzma.PRESET_EXTREME))
        index[path.name] = template.key
    for path in set(folder.glob(f"*{SUFFIX}")) - {folder / name for name in index}:
        path.unlink()
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
