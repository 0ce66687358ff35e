"""A row of a JSONL manifest in, the file it is about out: one reading for every workshop.

{"path": "a.flac", "text": "Hello.", "language": "English"}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["AUDIO_FIELDS", "audio_name"]

AUDIO_FIELDS = ("path", "file", "audio", "audio_filepath")
"""What manifests call their audio: ours, those of the miniature's clips, of Hugging Face's data sets and of NeMo."""


def audio_name(row: Mapping[str, Any]) -> str:
    """Return the file a row names, as it names it: relative to the manifest's folder, or absolute.

    Raises:
        OptionsError: the row names no file, or two; the message does not say in which line.
    """
    found: dict[str, str] = {}
    for name in AUDIO_FIELDS:
        value = row.get(name)
        if not isinstance(value, str | None):
            raise OptionsError(f"{name} is {value!r}; give a string")
        if value:
            found[name] = value
    named = {Path(value) for value in found.values()}
    if not named:
        fields = ", ".join(AUDIO_FIELDS[1:])
        raise OptionsError(f'no path; every line names its audio file, as "path" (or {fields})')
    if len(named) > 1:
        raise OptionsError(f"{' and '.join(found)} name different files; give one of them")
    return next(iter(found.values()))
