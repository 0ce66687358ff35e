"""The JSONL manifest: one object per line in, a `Dataset` out; and the other way round.

    {"path": "a.flac", "text": "Hello.", "language": "English", "sha256": "...", "id": "a", "subset": "clean",
     "speaker": "Anna", "segments": [{"start_s": 0.0, "end_s": 1.5, "text": "Hello."}]}

`path` (relative to the manifest; also `file`, `audio`, `audio_filepath`) and `text` are required; text may be left out
where segments have it, and is "" where nobody speaks. Other fields may be present and are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.audio.manifests import audio_name
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.text.languages import joins_with_space

from .dataset import Dataset, DatasetBuilder, Utterance

__all__ = ["is_manifest", "read_manifest", "write_manifest"]


def is_manifest(path: Path) -> bool:
    """Return whether a path is named like a manifest."""
    return path.suffix == ".jsonl"


def read_manifest(path: Path, *, default_language: str = "", by_segment: bool = False, name: str = "") -> Dataset:
    """Return the utterances of a manifest and everything wrong with it.

    Args:
        path: the JSONL file.
        default_language: for rows that name none.
        by_segment: make every segment of a row an utterance of its own, cut from the file.
        name: of the dataset; "" takes the file's.

    Raises:
        OptionsError: the file cannot be read, or is not UTF-8.
    """
    builder = DatasetBuilder(name or path.stem, default_language)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"{path}: cannot be read as a UTF-8 manifest ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            builder.problem(where, f"not valid JSON ({error})")
            continue
        fault = _fault(row, by_segment)
        if fault:
            builder.problem(where, fault)
            continue
        for utterance in _utterances(row, path.parent, where, by_segment):
            builder.add(utterance, row.get("sha256") or "")
    return builder.build()


def write_manifest(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest."""
    text = "".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


def _fault(row: object, by_segment: bool) -> str:
    """Return what is wrong with the form of a row, "" if nothing."""
    if not isinstance(row, dict):
        return "not a JSON object; a line is {...} with path and text"
    for name in ("text", "language", "id", "subset", "speaker", "sha256"):
        if not isinstance(row.get(name, ""), (str, type(None))):
            return f"{name} is {row[name]!r}; give a string"
    try:
        audio_name(row)
    except OptionsError as error:
        return str(error)
    segments = row.get("segments")
    if segments is not None and not (isinstance(segments, list) and all(_is_segment(one) for one in segments)):
        return 'segments must be a list of {"start_s": number, "end_s": number, "text": string}'
    if by_segment and not segments:
        return "no segments, but the evaluation is by segment"
    if row.get("text") is None and not segments:
        return 'no text; give the reference, or "" where nobody speaks'
    return ""


def _is_segment(one: object) -> bool:
    return (
        isinstance(one, dict)
        and all(isinstance(one.get(n), (int, float)) and not isinstance(one[n], bool) for n in ("start_s", "end_s"))
        and isinstance(one.get("text"), str)
    )


def _utterances(row: Mapping[str, Any], folder: Path, where: str, by_segment: bool) -> Sequence[Utterance]:
    language = row.get("language") or ""
    segments = row.get("segments") or []
    name = audio_name(row)
    identity = row.get("id") or name
    subset, speaker = row.get("subset") or "", row.get("speaker") or ""
    audio = folder / name
    if by_segment:
        return [
            Utterance(
                f"{identity}#{index}",
                audio,
                one["text"],
                language,
                f"{where} segment {index}",
                start_s=float(one["start_s"]),
                end_s=float(one["end_s"]),
                subset=subset,
                speaker=speaker,
            )
            for index, one in enumerate(segments)
        ]
    text = row.get("text")
    if text is None:
        # An unknown language name joins with a space here and is reported when the row is added.
        text = (" " if joins_with_space(language) else "").join(one["text"].strip() for one in segments)
    return [Utterance(identity, audio, text, language, where, subset=subset, speaker=speaker)]
