"""What decides on the text of an input: which recording it is, which model hears it, with which options."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.options import TranscribeOptions

__all__ = ["Identity", "fingerprint", "identity_of"]

Identity: TypeAlias = Mapping[str, Any]
"""What decides on the text of an input, ready for JSON: "input", "model" and "options"."""

END_BYTES = 1 << 20
"""So much of the beginning and of the end of a file goes into its fingerprint."""

INDIFFERENT = frozenset({"batch_size", "time_limit_s"})
"""Options that have no say in the text."""


class Loaded(Protocol):
    """What is asked of a model that is loaded."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def variant(self) -> str: ...


def fingerprint(path: Path) -> dict[str, Any]:
    """Return what tells a file from others and from itself after a change: its size, its time, a digest of its ends.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(END_BYTES, status.st_size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "ends_sha256": digest.hexdigest()}


def identity_of(
    model: Loaded, aligner: Loaded | None, options: TranscribeOptions, language: str | None
) -> dict[str, Any]:
    """Return what of an identity all inputs of a call share.

    Args:
        model: the one that transcribes. Its manifest has the digests of all of its files.
        aligner: the one that times words, if any does.
        options: of the call.
        language: the forced language as the model spells it.
    """
    models = [one for one in (model, aligner) if one is not None]
    digests = [f"{one.variant}:{hashlib.sha256(repr(one.manifest).encode()).hexdigest()}" for one in models]
    fields = {**asdict(options), "language": language}
    return {"model": digests, "options": {key: value for key, value in fields.items() if key not in INDIFFERENT}}
