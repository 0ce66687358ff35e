"""Manifests changed by tests, as a careless exporter would have written them: with a digest that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.manifest import DIGEST, MANIFEST_FILE, manifest_digest

__all__ = ["edit_manifest", "record_anew", "set_field"]


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object], *, signed: bool = True) -> None:
    """Change the JSON of a manifest in place; without `signed`, as bundles had it before manifests carried a digest."""
    path = bundle / MANIFEST_FILE
    body = json.loads(path.read_text(encoding="utf-8"))
    body.pop(DIGEST, None)
    change(body)
    if signed:
        body[DIGEST] = manifest_digest(body)
    path.write_text(json.dumps(body), encoding="utf-8")


def set_field(bundle: Path, field: str, value: object, *, signed: bool = True) -> None:
    """Set a field by its dotted path."""
    *outer, last = field.split(".")

    def change(body: dict[str, Any]) -> None:
        for name in outer:
            body = body[name]
        body[last] = value

    edit_manifest(bundle, change, signed=signed)


def record_anew(bundle: Path, *names: str) -> None:
    """Let the manifest say of some files what they are now."""
    edit_manifest(
        bundle, lambda body: body["files"].update({name: asdict(file_record(bundle / name)) for name in names})
    )
