"""A LoRA adapter -> what it adds to the weights of its base: W + scale B A, in float32, a run of rows at a time.

Adapters are as peft saves them. Whatever a plain sum cannot say is refused by its name, for a model that has learnt it
would silently be another one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_asr_onnx.bundle.fields import Section
from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.hub import ADAPTER_FILE
from qwen3_asr_onnx.bundle.names import HEAD
from qwen3_asr_onnx.errors import BundleError

from .stored_file import NUMPY_DTYPES, Floats, TensorRef, read_rows, stored_tensors
from .tensor_index import EMBED, ORIGINAL_PREFIX, from_native, read_json

__all__ = ["Adapter", "LowRank"]

WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."

LORA_KEY = re.compile(r"(.+)\.(lora_A|lora_B)\.weight|(.+)\.(lora_embedding_A|lora_embedding_B)")

REFUSED = ("use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "alora_invocation_tokens",
           "arrow_config", "target_parameters", "trainable_token_indices")  # fmt: skip
"""Settings of peft with which a layer computes something else than the base with W + B A in it."""

CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways of beginning that change the base as well; peft can convert such an adapter when it saves it."""

MAX_RANK = 1 << 14
BLOCK_ROWS = 64
"""Rows of B A computed in one product: always as many, so that the numbers do not depend on who asks for how many."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to one weight of the base.

    Attributes:
        a: (r, in); of a convolution with its kernel behind it; (r, rows) of the table.
        b: (out, r); (hidden, r) of the table.
        scale: what the product is multiplied by.
        is_table: whether it belongs to the table of embeddings, which is stored the other way round.
    """

    a: TensorRef
    b: TensorRef
    scale: float
    is_table: bool

    def rows(self, start: int, stop: int) -> Floats:
        """Return rows [start, stop) of what is added, later axes flattened: (stop - start, the rest)."""
        first = start - start % BLOCK_ROWS
        if self.is_table:
            left = read_rows(self.a, 0, self.a.shape[0])[:, first : stop + -stop % BLOCK_ROWS].T
            right = read_rows(self.b, 0, self.b.shape[0]).T
        else:
            left = read_rows(self.b, first, min(stop + -stop % BLOCK_ROWS, self.b.shape[0]))
            right = read_rows(self.a, 0, self.a.shape[0]).reshape(self.a.shape[0], -1)
        padded = np.zeros((len(left) + -len(left) % BLOCK_ROWS, left.shape[1]))
        padded[: len(left)] = left.reshape(len(left), -1)
        wide = right.astype(np.float64)
        added = np.empty((len(padded), wide.shape[1]), dtype=np.float32)
        for row in range(0, len(padded), BLOCK_ROWS):
            part = slice(row, row + BLOCK_ROWS)
            added[part] = padded[part] @ wide * self.scale
        return added[start - first : stop - first]


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that fits its base.

    Attributes:
        path: its directory.
        sha256: digest of its weights.
        added: canonical name -> what is added to that weight.
        replaced: canonical name -> the tensor in its place.
    """

    path: Path
    sha256: str
    added: Mapping[str, LowRank]
    replaced: Mapping[str, TensorRef]

    @classmethod
    def open(cls, path: Path, base: Mapping[str, TensorRef], *, tied: bool) -> Adapter:
        """Read what an adapter says of itself, and where its tensors lie.

        Args:
            path: its directory.
            base: the tensors of the checkpoint by canonical name.
            tied: whether the base's head is its table.

        Raises:
            BundleError: it is damaged, of another kind than LoRA, or for another base.
        """
        config = read_json(path / ADAPTER_FILE, required=True)
        _refuse_other_kinds(path, config)
        file = path / WEIGHTS_FILE
        if not file.exists():
            raise BundleError(f"{path}: no {WEIGHTS_FILE}; pickles are not read, save it as safetensors")
        pairs: dict[str, dict[str, TensorRef]] = {}
        replaced: dict[str, TensorRef] = {}
        trains_biases = config.get("bias") not in (None, "none")
        for ref in stored_tensors(file):
            if ref.dtype not in NUMPY_DTYPES:
                raise BundleError(f"{file}: {ref.key} is stored as {ref.dtype}; give an adapter that is not quantized")
            match = LORA_KEY.fullmatch(ref.key)
            if match is not None:
                pairs.setdefault(match[1] or match[3], {})[match[2] or match[4]] = ref
            elif ref.key.endswith(".bias") and trains_biases:
                raise BundleError(f"{path}: bias is {_short(config['bias'])}, and {ref.key} is one; merge it with peft")
            else:
                replaced[_canonical(path, ref.key.replace(".base_layer.", "."), base)] = ref
        added = {}
        for module, pair in pairs.items():
            name = _canonical(path, f"{module}.weight", base)
            if name in added:
                raise BundleError(f"{file}: two adapters of {name}; is it damaged?")
            added[name] = _low_rank(path, config, module, pair)
            _require_fit(path, config, name, added[name], base[name].shape)
        for name, ref in replaced.items():
            if ref.shape != base[name].shape:
                raise _other_base(path, config, ref.key, ref.shape, base[name].shape)
        adapter = cls(path, file_record(file).sha256, added, replaced)
        adapter._refuse_half_of_a_tie(base, tied=tied)
        return adapter

    def rows(self, name: str, base: TensorRef, start: int, stop: int) -> Floats:
        """Return rows [start, stop) of a weight of the base as the adapter makes it."""
        rows = read_rows(self.replaced.get(name, base), start, stop)
        if name not in self.added:
            return rows
        return rows + self.added[name].rows(start, stop).reshape(rows.shape)

    def changes(self, name: str) -> bool:
        """Return whether the weight of that name is another one than the base's."""
        return name in self.added or name in self.replaced

    def _refuse_half_of_a_tie(self, base: Mapping[str, TensorRef], *, tied: bool) -> None:
        """Raise where only the head or only the table would change of a model in which they are one."""
        for name in (EMBED, HEAD) if tied else ():
            if name in self.added or (name in self.replaced and not _equal(self.replaced[name], base[name])):
                raise BundleError(
                    f"{self.path}: changes {name}, and in its base the head and the table of embeddings are one "
                    "tensor; what the other should be cannot be told"
                )


def _refuse_other_kinds(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise BundleError(f"{path}: an adapter of the kind {_short(kind)}; this exporter merges 'LORA'")
    for key in REFUSED:
        if config.get(key):
            raise BundleError(f"{path}: {key} is set, so this adapter is more than W + B A; merge it with peft")
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.startswith(CHANGES_BASE):
        raise BundleError(
            f"{path}: init_lora_weights is {_short(begun)}, which changes the base too; save it anew with peft's "
            "path_initial_model_for_weight_conversion, or merge it with peft"
        )


def _canonical(path: Path, key: str, base: Mapping[str, TensorRef]) -> str:
    """Return the canonical name of the weight that a key of the adapter is about, whichever class peft wrapped."""
    inner = key.removeprefix(PREFIX)
    # The whole model of either layout, or what it holds: `thinker` there, `model` here.
    for name in (inner.removeprefix(ORIGINAL_PREFIX), from_native(inner), from_native(f"model.{inner}")):
        if name is not None and name in base:
            return name
    raise BundleError(f"{path}: {key} belongs to no layer of the base; is it an adapter of another model?")


def _low_rank(path: Path, config: Mapping[str, Any], module: str, pair: Mapping[str, TensorRef]) -> LowRank:
    is_table = "lora_embedding_A" in pair
    names = ("lora_embedding_A", "lora_embedding_B") if is_table else ("lora_A", "lora_B")
    if set(pair) != set(names):
        raise BundleError(f"{path}: {module} has {', '.join(sorted(pair))} alone; is the adapter complete?")
    a, b = (pair[name] for name in names)
    name = module.removeprefix(PREFIX)
    said = Section(config, path / ADAPTER_FILE, remedy="is the adapter complete?")
    rank = int(_of_pattern(path, config, "rank_pattern", name, said.integer("r", 1, MAX_RANK, 8)))
    if len(a.shape) < 2 or len(b.shape) < 2 or not a.shape[0] == b.shape[1] == rank:
        raise BundleError(f"{path}: {module} has A {list(a.shape)} and B {list(b.shape)} where the rank is {rank}")
    alpha = _of_pattern(path, config, "alpha_pattern", name, said.number("lora_alpha", 0, 1e9, 8))
    rooted = said.has("use_rslora") and said.flag("use_rslora")
    # fan_in_fan_out says nothing here: peft itself ignores it for layers like these.
    return LowRank(a, b, alpha / (math.sqrt(rank) if rooted else rank), is_table)


def _of_pattern(path: Path, config: Mapping[str, Any], key: str, module: str, default: float) -> float:
    """Return what a pattern says of a module: the first that matches its name, or its end behind a dot, as in peft."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise BundleError(f"{path}: {key} is {_short(patterns)}, no object; is the adapter damaged?")
    for pattern, value in patterns.items():
        if len(pattern) > 200 or re.search(r"\)[*+{]", pattern):  # repeated groups can take for ever
            raise BundleError(f"{path}: {key} has the pattern {_short(pattern)}, which is too involved; simplify it")
        try:
            found = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise BundleError(f"{path}: {key} has {pattern!r}, which is no pattern ({error})") from error
        if found:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
                raise BundleError(f"{path}: {key} gives {_short(value)} for {pattern!r}; is the adapter damaged?")
            return value
    return default


def _require_fit(path: Path, config: Mapping[str, Any], name: str, added: LowRank, shape: tuple[int, ...]) -> None:
    a, b = added.a.shape, added.b.shape
    found = (a[1], b[0]) if added.is_table else (b[0], *a[1:])
    if found != shape or any(size != 1 for size in b[2:]):
        raise _other_base(path, config, name, found, shape)


def _other_base(
    path: Path, config: Mapping[str, Any], name: str, found: Iterable[int], shape: Iterable[int]
) -> BundleError:
    said = config.get("base_model_name_or_path")
    of = f" ({_short(said)})" if said else ""
    return BundleError(
        f"{path}: for another base{of}: it changes {name} of {list(found)}, this checkpoint's is {list(shape)}"
    )


def _short(value: object) -> str:
    return repr(value)[:100]


def _equal(left: TensorRef, right: TensorRef) -> bool:
    runs = ((start, min(start + 4096, left.shape[0])) for start in range(0, left.shape[0], 4096))
    return all(np.array_equal(read_rows(left, *run), read_rows(right, *run)) for run in runs)
