"""A checkpoint in the original layout -> one GGUF file that transcribe.cpp reads, so that it runs on our very weights.

Keys, tensor names, their order and dtypes are those of transcribe.cpp's own converter. Its 4-bit kinds are missing: the
package `gguf` cannot write them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import MelParams
from qwen3_asr_onnx.errors import BundleError, MissingExtra
from qwen3_asr_onnx.model.features import mel_filters

from .gguf_keys import add_keys

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.utility import LocalTensor

__all__ = ["GgufKind", "write_gguf"]

GgufKind: TypeAlias = Literal["F32", "BF16", "Q8_0"]
"""Of the matrices. Norms, biases and the front end stay float32, the stem's convolutions float16 (in F32 float32)."""

BLOCK_VALUES = 1 << 22
"""16 MB of float32 at a time: the embedding of the 0.6B checkpoint would be 622."""

STEM = (
    *((f"enc.conv.{i}", f"thinker.audio_tower.conv2d{i + 1}", True) for i in range(3)),
    ("enc.conv_out", "thinker.audio_tower.conv_out", False),
    *((f"enc.{name}", f"thinker.audio_tower.{name}", True) for name in ("ln_post", "proj1", "proj2")),
)
"""Theirs, the checkpoint's, and whether there is a bias: around the encoder's layers."""

ENCODER_LAYER = {
    "norm_attn": "self_attn_layer_norm",
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "norm_ffn": "final_layer_norm",
    "ffn.fc1": "fc1",
    "ffn.fc2": "fc2",
}
DECODER_LAYER = {
    "norm_attn": "input_layernorm",
    "norm_ffn": "post_attention_layernorm",
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj",
    "attn.q_norm": "self_attn.q_norm",
    "attn.k_norm": "self_attn.k_norm",
    "ffn.gate": "mlp.gate_proj",
    "ffn.up": "mlp.up_proj",
    "ffn.down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the file: its name, numpy's shape, and its values row block by row block, float32."""

    name: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[npt.NDArray[np.float32]]]


def write_gguf(checkpoint: Path, target: Path, kind: GgufKind) -> None:
    """Write a checkpoint as GGUF, a few megabytes in memory at a time.

    Args:
        checkpoint: directory with `thinker.*` tensors in safetensors files, and the tokenizer of the original layout.
        target: the file; what is there is replaced.
        kind: of the matrices.

    Raises:
        BundleError: a tensor is missing, or the head is not the embedding.
        MissingExtra: the package `gguf` is not installed.
    """
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise MissingExtra("writing GGUF needs gguf: pip install 'qwen3-asr-onnx[peers]'") from error
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if not config["thinker_config"]["text_config"]["tie_word_embeddings"] or "classify_num" in config["thinker_config"]:
        raise BundleError(f"{checkpoint}: its head is not its embedding; only transcribers are written as GGUF")
    stored = _stored(checkpoint)
    entries = [*_front_end(), *(_read(stored, *names) for names in _names(config["thinker_config"]))]
    n_parameters = sum(math.prod(entry.shape) for entry in entries)
    writer = gguf.GGUFWriter(target, "qwen3_asr")
    try:
        add_keys(writer, checkpoint, config, n_parameters, kind)
        types = [gguf.GGMLQuantizationType[_type_of(entry, kind)] for entry in entries]
        _write(writer, entries, types)
    finally:
        writer.close()


def _write(writer: GGUFWriter, entries: list[_Entry], types: list[GGMLQuantizationType]) -> None:
    """Write headers, then the values of every tensor, each block as soon as it is made."""
    from gguf import quants

    for entry, kind in zip(entries, types, strict=True):
        shape = quants.quant_shape_to_byte_shape(entry.shape, kind)
        writer.add_tensor_info(entry.name, shape, np.dtype(np.uint8), math.prod(shape), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout is not None
    (file,) = writer.fout
    writer.write_padding(file, file.tell())
    for entry, kind in zip(entries, types, strict=True):
        n_bytes = 0
        for block in entry.blocks():
            data = quants.quantize(np.ascontiguousarray(block), kind)
            data.tofile(file)
            n_bytes += data.nbytes
        writer.write_padding(file, n_bytes)


def _type_of(entry: _Entry, kind: GgufKind) -> str:
    if len(entry.shape) == 1 or entry.name.startswith("frontend.") or kind == "F32":
        return "F32"
    return "F16" if len(entry.shape) > 2 else kind


def _front_end() -> Iterator[_Entry]:
    filters = mel_filters(MelParams()).T
    n_fft = MelParams().n_fft
    window = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    yield _Entry("frontend.mel_filterbank", filters.shape, lambda: iter([filters]))
    yield _Entry("frontend.window", window.shape, lambda: iter([window]))


def _names(thinker: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield their name and the checkpoint's of every tensor with weights, in their order."""
    for theirs, ours, has_bias in STEM:
        for part in ("weight", "bias")[: 1 + has_bias]:
            yield f"{theirs}.{part}", f"{ours}.{part}"
    for i in range(thinker["audio_config"]["encoder_layers"]):
        for theirs, ours in ENCODER_LAYER.items():
            for part in ("weight", "bias"):
                yield f"enc.blocks.{i}.{theirs}.{part}", f"thinker.audio_tower.layers.{i}.{ours}.{part}"
    yield "dec.token_embd.weight", "thinker.model.embed_tokens.weight"
    yield "dec.output_norm.weight", "thinker.model.norm.weight"
    for i in range(thinker["text_config"]["num_hidden_layers"]):
        for theirs, ours in DECODER_LAYER.items():
            yield f"dec.blocks.{i}.{theirs}.weight", f"thinker.model.layers.{i}.{ours}.weight"


def _stored(checkpoint: Path) -> dict[str, LocalTensor]:
    """Return where every tensor of the checkpoint lies."""
    from gguf.utility import SafetensorsLocal

    files = sorted(checkpoint.glob("model*.safetensors"))
    return {name: tensor for file in files for name, tensor in SafetensorsLocal(file).tensors.items()}


def _read(stored: Mapping[str, LocalTensor], theirs: str, ours: str) -> _Entry:
    """Return the entry of a tensor of the checkpoint.

    Raises:
        BundleError: the checkpoint lacks it, or has it in a dtype that is not written here.
    """
    if ours not in stored:
        raise BundleError(f"no tensor {ours!r}; a GGUF file is made of a transcriber in the original layout")
    tensor = stored[ours]
    if tensor.dtype not in ("BF16", "F32"):
        raise BundleError(f"tensor {ours!r} is {tensor.dtype}; BF16 and F32 are read here")
    return _Entry(theirs, tensor.shape, lambda: _blocks(tensor))


def _blocks(tensor: LocalTensor) -> Iterator[npt.NDArray[np.float32]]:
    """Yield runs of whole rows."""
    rows = max(1, BLOCK_VALUES // math.prod(tensor.shape[1:]))
    values = tensor.mmap_bytes().view(np.uint16 if tensor.dtype == "BF16" else np.float32).reshape(tensor.shape)
    for first in range(0, tensor.shape[0], rows):
        block = values[first : first + rows]
        yield (block.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else np.asarray(block)
