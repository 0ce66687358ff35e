"""Checkpoints on disk, rewritten by their bytes: in the other layout, another precision, or several files.

Nothing here comes from the packages under test, nor from safetensors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Precision", "read_weights", "rewritten", "to_native", "write_weights"]

Precision: TypeAlias = Literal["BF16", "F16", "F32"]
Weights: TypeAlias = dict[str, npt.NDArray[Any]]

SINGLE = "model.safetensors"
NATIVE = (
    ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
    ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
    ("thinker.audio_tower.", "model.audio_tower."),
    ("thinker.model.", "model.language_model."),
)


def read_weights(file: Path) -> Weights:
    """Return the tensors of a file of bfloat16 or float32, in float32."""
    data = file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + offset for offset in entry["data_offsets"])
            raw = np.frombuffer(data[begin:end], "<u2" if entry["dtype"] == "BF16" else "<f4")
            values = (raw.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else raw
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_weights(file: Path, tensors: Weights, precision: Precision = "F32") -> None:
    """Write float32 tensors; in bfloat16 they are cut, not rounded."""
    header, parts, end = {}, [], 0
    for name, values in tensors.items():
        values = np.ascontiguousarray(values, dtype=np.float32)
        if precision == "BF16":
            data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            data = values.astype("<f2" if precision == "F16" else "<f4").tobytes()
        start, end = end, end + len(data)
        header[name] = {"dtype": precision, "shape": list(values.shape), "data_offsets": [start, end]}
        parts.append(data)
    text = json.dumps(header).encode()
    file.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))


def rewritten(
    checkpoint: Path,
    folder: Path,
    *,
    native: bool = False,
    precision: Precision = "BF16",
    shards: int = 1,
    change: Callable[[Weights], object] = lambda weights: None,
) -> Path:
    """Copy a checkpoint of the original layout, and write its weights anew.

    Args:
        checkpoint: what to copy.
        folder: the new directory.
        native: in transformers' layout.
        precision: how weights are stored.
        shards: number of files; above 1 there is an index.
        change: called with the tensors, under their original names, to change them in place.
    """
    shutil.copytree(checkpoint, folder)
    tensors = read_weights(folder / SINGLE)
    change(tensors)
    if native:
        tensors = _to_native(folder, tensors)
    if shards == 1:
        write_weights(folder / SINGLE, tensors, precision)
        return folder
    (folder / SINGLE).unlink()
    files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    for i, file in enumerate(files):
        write_weights(folder / file, {name: tensors[name] for name in list(tensors)[i::shards]}, precision)
    weight_map = {name: files[i % shards] for i, name in enumerate(tensors)}
    (folder / f"{SINGLE}.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


def to_native(name: str, *, aligner: bool = False) -> str:
    """Return transformers' own name of a tensor."""
    for original, native in NATIVE:
        if name.startswith(original):
            return native + name.removeprefix(original)
    return name.replace("thinker.lm_head.", "score." if aligner else "lm_head.")


def _to_native(folder: Path, tensors: Weights) -> Weights:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    thinker = config.pop("thinker_config")
    aligner = "classify_num" in thinker
    config |= {**thinker, "model_type": "qwen3_asr"}
    if aligner:
        config["architectures"] = ["Qwen3ASRForTokenClassification"]
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(config.pop("classify_num"))}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return {to_native(name, aligner=aligner): values for name, values in tensors.items()}
