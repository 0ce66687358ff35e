"""The `config.json` of a folder or a repository in, which model it says is there out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwen3_asr_onnx.bundle.checkpoints import MODEL_TYPE
from qwen3_asr_onnx.bundle.json_text import parse_json, read_regular_text
from qwen3_asr_onnx.bundle.manifest import FORMAT_NAME, MANIFEST_FILE
from qwen3_asr_onnx.errors import BundleError

__all__ = ["Form", "Identity", "identity_of", "read_identity"]

Form: TypeAlias = Literal["bundle", "layout", "checkpoint", "other"]
"""A bundle; files that `export --layout` wrote; a checkpoint of the family; anything else."""

EXPORTER = FORMAT_NAME
"""What `exporter` begins with in a layout's config."""

SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model a config is of.

    Attributes:
        form: how it is stored.
        name: what it is called; of something else its type, "" where that is not said.
        kind: of a bundle, "asr" or "aligner".
        variants: of a bundle, what it lists.
    """

    form: Form
    name: str
    kind: str = ""
    variants: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it for a message."""
        if self.form == "bundle":
            return f"the bundle {self.name} ({self.kind})"
        if self.form == "layout":
            return f"{self.name} for another program"
        if self.form == "checkpoint":
            return "a checkpoint of Qwen3-ASR"
        return f"a model of the type {self.name}" if self.name else f"a {MANIFEST_FILE} that names no model"

    def is_same_model(self, other: Identity) -> bool:
        """Return whether one may replace the other."""
        return (self.form, self.name, self.kind) == (other.form, other.name, other.kind)


def read_identity(path: Path) -> Identity:
    """Return which model a `config.json` is of.

    Raises:
        BundleError: it is no regular file, or cannot be read; not JSON is another model.
    """
    text = read_regular_text(path)
    try:
        return identity_of(parse_json(text, path))
    except BundleError:
        return Identity("other", "")


def identity_of(config: object) -> Identity:
    """Return which model the fields of a config are of, whatever version wrote them."""
    fields: dict[str, Any] = config if isinstance(config, dict) else {}
    if fields.get("format") == FORMAT_NAME:
        variants = fields.get("variants")
        names = tuple(map(str, variants)) if isinstance(variants, dict) else ()
        return Identity("bundle", _shown(fields.get("name")), _shown(fields.get("kind")), names)
    model_type = _shown(fields.get("model_type"))
    if model_type == MODEL_TYPE:
        is_ours = str(fields.get("exporter", "")).startswith(EXPORTER)
        return Identity("layout" if is_ours else "checkpoint", _shown(fields.get("name")) if is_ours else model_type)
    architectures = fields.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    return Identity("other", model_type or _shown(first))


def _shown(value: object) -> str:
    return value[:SHOWN_CHARACTERS] if isinstance(value, str) else ""
