"""A checkpoint directory -> where each tensor lies, under the names that both layouts share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qwen3_asr_onnx.errors import BundleError

__all__ = ["Layout", "TensorRef", "read_json", "tensor_index"]

Layout = Literal["original", "native"]

NATIVE_PREFIXES = (
    ("model.multi_modal_projector.linear_1.", "audio_tower.proj1."),
    ("model.multi_modal_projector.linear_2.", "audio_tower.proj2."),
    ("model.audio_tower.", "audio_tower."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
    ("score.", "lm_head."),
)


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where one tensor lies: its file, its key there, its shape and its dtype as safetensors spells it ("BF16")."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str


def read_json(path: Path, *, required: bool) -> dict[str, Any]:
    """Return what a JSON file of a checkpoint says; nothing where it need not be there and is not.

    Raises:
        BundleError: it is missing, not JSON, or no object.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not required:
            return {}
        raise BundleError(f"{path.parent}: no {path.name}, so this is not a checkpoint directory") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    if not isinstance(body, dict):
        raise BundleError(f"{path}: holds no JSON object")
    return body


def tensor_index(path: Path, layout: Layout) -> dict[str, TensorRef]:
    """Return canonical name -> place for every tensor of the checkpoint, single file or sharded.

    Raises:
        BundleError: a file is missing or damaged, or holds a tensor that no such checkpoint has.
    """
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for file in _weight_files(path):
        try:
            with safe_open(file, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118 - safe_open is not a mapping
                    part = shard.get_slice(key)
                    tensors[_canonical(path, layout, key)] = TensorRef(
                        file, key, tuple(part.get_shape()), str(part.get_dtype())
                    )
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{file}: damaged or truncated ({error}); download it again") from error
    return tensors


def _weight_files(path: Path) -> Iterator[Path]:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        single = path / "model.safetensors"
        if not single.is_file():
            raise BundleError(f"{path}: neither model.safetensors nor {index.name}; is the download complete?")
        yield single
        return
    weight_map = read_json(index, required=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BundleError(f"{index}: no weight_map; download it again")
    for name in sorted(set(weight_map.values())):
        if not (path / name).is_file():
            raise BundleError(f"{path / name}: missing, {index.name} lists it; is the download complete?")
        yield path / name


def _canonical(path: Path, layout: Layout, key: str) -> str:
    if layout == "original":
        if key.startswith("thinker."):
            return key.removeprefix("thinker.")
    else:
        for native, canonical in NATIVE_PREFIXES:
            if key.startswith(native):
                return canonical + key.removeprefix(native)
    raise BundleError(f"{path}: unknown tensor {key} for the {layout} layout; is config.json of another checkpoint?")
