"""A repository in; whether it holds a checkpoint, an adapter or a bundle out, and which of its files are needed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwen3_asr_onnx.errors import BundleError

from .hub import ADAPTER_FILE
from .json_text import parse_json, read_regular_text
from .manifest import FORMAT_NAME, MANIFEST_FILE
from .repositories import Repository

__all__ = ["MODEL_TYPE", "Found", "Kind", "fetch_model", "look_into"]

Kind: TypeAlias = Literal["bundle", "checkpoint", "adapter"]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

BESIDE_WEIGHTS = frozenset(
    {
        MANIFEST_FILE,
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "generation_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "processor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
)
"""What a checkpoint is read from but for its weights. Pictures, pickles and other formats stay where they are."""

MODEL_TYPE = "qwen3_asr"

LORA = "LORA"
"""The kind of adapter that is a sum, as peft spells it."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a repository holds, known from its config alone.

    Attributes:
        repository: the repository.
        kind: what it holds.
        base: of an adapter, what it says it was trained on; "" where it does not say.
    """

    repository: Repository
    kind: Kind
    base: str = ""


def look_into(repository: Repository, *, quiet: bool) -> Found:
    """Return what a repository holds; no weights are fetched.

    Raises:
        BundleError: nothing that is known here.
    """
    names = repository.names
    is_whole = MANIFEST_FILE in names and (ADAPTER_FILE not in names or WEIGHTS in names or INDEX in names)
    if not is_whole and ADAPTER_FILE in names:
        if ADAPTER_WEIGHTS not in names:
            raise BundleError(
                f"{repository.label}: an adapter without {ADAPTER_WEIGHTS}; pickles (.bin) are neither fetched nor "
                "read: save it again with a peft that writes safetensors"
            )
        config = _read(repository, ADAPTER_FILE, quiet=quiet)
        if config.get("peft_type", LORA) != LORA:
            raise BundleError(
                f"{repository.label}: an adapter of the kind {str(config['peft_type'])[:80]!r}, and only LoRA is "
                "merged here; merge it with peft (merge_and_unload, then save_pretrained) and get the result"
            )
        base = config.get("base_model_name_or_path")
        return Found(repository, "adapter", base if isinstance(base, str) else "")
    if not is_whole:
        raise BundleError(
            f"{repository.label}: no {MANIFEST_FILE} and no {ADAPTER_FILE}: neither a checkpoint nor an adapter nor a "
            "bundle; check the name"
        )
    config = _read(repository, MANIFEST_FILE, quiet=quiet)
    if config.get("format") == FORMAT_NAME:
        return Found(repository, "bundle")
    _refuse_others(repository.label, config)
    return Found(repository, "checkpoint")


def fetch_model(found: Found, *, quiet: bool) -> Path:
    """Return a folder with all that a checkpoint or an adapter is read from, and nothing else moved.

    Raises:
        BundleError: a file is not there, cannot be fetched, or arrives damaged.
        LimitError: the disk is full.
    """
    repository = found.repository
    if found.kind == "adapter":
        return repository.fetch((ADAPTER_FILE, ADAPTER_WEIGHTS), quiet=quiet)
    wanted = {*(BESIDE_WEIGHTS & set(repository.names)), *_weights(repository, quiet=quiet)}
    absent = sorted(wanted - set(repository.names))
    if absent:
        raise BundleError(f"{repository.label}: {absent[0]} is not there, {INDEX} lists it; {repository.hint}")
    return repository.fetch(wanted, quiet=quiet)


def _refuse_others(label: str, config: dict[str, Any]) -> None:
    """Raise at once where no weights can make this a model of the family."""
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        raise BundleError(
            f"{label}: no Qwen3-ASR model but one of the type {str(model_type)[:80]!r}; "
            "give Qwen/Qwen3-ASR-0.6B, Qwen/Qwen3-ASR-1.7B, Qwen/Qwen3-ForcedAligner-0.6B, or what was made of them"
        )
    if config.get("quantization_config") is not None:
        raise BundleError(
            f"{label}: its weights are quantized already (quantization_config); give the checkpoint that they were "
            "made from"
        )


def _weights(repository: Repository, *, quiet: bool) -> Collection[str]:
    """Return the files with the weights, found in the order in which transformers looks: one file before an index."""
    names = repository.names
    if WEIGHTS in names:
        return (WEIGHTS,)
    if INDEX not in names:
        others = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".gguf")))
        also = f"; {others[0]} is not read" if others else ""
        raise BundleError(
            f"{repository.label}: neither {WEIGHTS} nor {INDEX}: no weights that can be read{also}; {repository.hint}"
        )
    listed = _read(repository, INDEX, quiet=quiet).get("weight_map")
    shards = set(listed.values()) if isinstance(listed, dict) else set()
    for shard in shards:
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise BundleError(f"{repository.label}: {INDEX} names {str(shard)[:80]!r}, which is no .safetensors file")
    if not shards:
        raise BundleError(f"{repository.label}: {INDEX} lists no weights")
    return {INDEX, *shards}


def _read(repository: Repository, name: str, *, quiet: bool) -> dict[str, Any]:
    path = repository.fetch((name,), quiet=quiet) / name
    try:
        body = parse_json(read_regular_text(path), path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    if not isinstance(body, dict):
        raise BundleError(f"{path}: holds no JSON object")
    return body
