"""A checkpoint directory -> where each tensor lies, under the names that both layouts share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from qwen3_asr_onnx.bundle.hub import ADAPTER_FILE
from qwen3_asr_onnx.bundle.json_text import parse_json, read_regular_text, require_regular
from qwen3_asr_onnx.errors import BundleError

from .stored_file import NUMPY_DTYPES, TensorRef, stored_tensors

__all__ = ["EMBED", "ORIGINAL_PREFIX", "Layout", "from_native", "read_json", "refuse_adapter", "tensor_index"]

Layout = Literal["original", "native"]

EMBED = "model.embed_tokens.weight"
"""Canonical name of the table of embeddings."""

ORIGINAL_PREFIX = "thinker."

NATIVE_PREFIXES = (
    ("model.multi_modal_projector.linear_1.", "audio_tower.proj1."),
    ("model.multi_modal_projector.linear_2.", "audio_tower.proj2."),
    ("model.audio_tower.", "audio_tower."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
    ("score.", "lm_head."),
)


def read_json(path: Path, *, required: bool) -> dict[str, Any]:
    """Return what a JSON file of a checkpoint says; nothing where it need not be there and is not.

    Raises:
        BundleError: it is missing, not JSON, or no object.
    """
    try:
        body = parse_json(read_regular_text(path), path)
    except FileNotFoundError as error:
        if not required:
            return {}
        raise BundleError(f"{path.parent}: no {path.name}, so this is not a checkpoint directory") from error
    if not isinstance(body, dict):
        raise BundleError(f"{path}: holds no JSON object")
    return body


def tensor_index(path: Path, layout: Layout) -> dict[str, TensorRef]:
    """Return canonical name -> place for every tensor of the checkpoint, single file or sharded.

    Raises:
        BundleError: a file is missing or damaged, or holds a tensor that no such checkpoint has.
    """
    tensors = {}
    for file in _weight_files(path):
        for ref in stored_tensors(file):
            if ref.dtype not in NUMPY_DTYPES:
                raise BundleError(
                    f"{file}: {ref.key} is stored as {ref.dtype}, which is a quantized checkpoint's; this exporter "
                    f"reads {', '.join(NUMPY_DTYPES)}: give the checkpoint that it was made from"
                )
            tensors[_canonical(path, layout, ref.key)] = ref
    return tensors


def _weight_files(path: Path) -> Iterator[Path]:
    """Yield the files with the weights, found in the order in which transformers looks: one file before an index."""
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.exists():
        require_regular(single)
        yield single
        return
    if not index.exists():
        raise BundleError(f"{path}: neither {single.name} nor {index.name}; {_what_else(path)}")
    weight_map = read_json(index, required=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BundleError(f"{index}: no weight_map; download it again")
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or Path(name).name != name or "\\" in name:
            raise BundleError(
                f"{index}: weight_map names {str(name)[:80]!r}, which is no .safetensors file of this folder; "
                "download it again"
            )
    for name in sorted(set(weight_map.values())):
        if not (path / name).exists():
            raise BundleError(f"{path / name}: missing, {index.name} lists it; is the download complete?")
        require_regular(path / name)
        yield path / name


def _what_else(path: Path) -> str:
    """Return what a folder without weights in safetensors files seems to be, and what to do about it."""
    names = sorted(entry.name for entry in path.iterdir())
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    others = [name for name in names if name.endswith((".gguf", ".ggml"))]
    if pickles:
        return (
            f"{pickles[0]} holds the weights as a pickle, which can run code when it is read; convert it, in a place "
            "that may run it, with transformers' save_pretrained (it writes safetensors)"
        )
    if others:
        return f"{others[0]} is made for llama.cpp; give the checkpoint that it was made from"
    return "is the download complete? Pickles (.bin) are neither fetched nor read"


def refuse_adapter(path: Path) -> None:
    """Raise where a folder holds a LoRA adapter, which is no model by itself.

    Raises:
        BundleError: it does; the message names the model that it belongs to, where that is known.
    """
    config = path / ADAPTER_FILE
    if not config.exists() and not (path / "adapter_model.safetensors").exists():
        return
    if (path / "model.safetensors").exists() or (path / "model.safetensors.index.json").exists():
        return  # transformers' trainers leave both; what counts is the whole model
    base = read_json(config, required=False).get("base_model_name_or_path")
    of = f" of {base}" if isinstance(base, str) else ""
    raise BundleError(
        f"{path}: this is a LoRA adapter{of}, not a model; `qwen3-asr-onnx get {path}` merges it into its base and "
        "makes a variant of that (or merge it with peft: merge_and_unload, then save_pretrained)"
    )


def from_native(key: str) -> str | None:
    """Return the canonical name of a tensor that transformers names so; None if it does not."""
    for native, canonical in NATIVE_PREFIXES:
        if key.startswith(native):
            return canonical + key.removeprefix(native)
    return None


def _canonical(path: Path, layout: Layout, key: str) -> str:
    if layout == "native":
        name = from_native(key)
    else:
        name = key.removeprefix(ORIGINAL_PREFIX) if key.startswith(ORIGINAL_PREFIX) else None
    if name is None:
        raise BundleError(
            f"{path}: unknown tensor {key} for the {layout} layout; is config.json of another checkpoint?"
        )
    return name
