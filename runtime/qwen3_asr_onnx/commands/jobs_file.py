"""The file of --manifest: a line of JSON for each input in, sources with options of their own out.

    {"path": "call.mp3", "language": "German", "context": "Anna Meyer", "start": "1:30", "end": 600, "name": "call-1"}

Only the path is required; it is named as the manifests of `eval` name it, relative to the file's folder, and may be a
folder or a URL. Other fields, such as the text of a manifest that `eval` reads, are passed over, unless they are
spelled almost like one of these.
"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from qwen3_asr_onnx.audio.downloads import is_url
from qwen3_asr_onnx.audio.manifests import AUDIO_FIELDS, audio_name
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions

from .delivery import reason
from .excerpt_options import channels, moment
from .worklist import STDIN, Source, Unusable, find_sources, sources_of

__all__ = ["JOB_FIELDS", "chosen_sources", "read_jobs_file"]


_SHOWN_FAULTS = 10


def chosen_sources(
    inputs: Sequence[str], manifest: Path | None, defaults: TranscribeOptions
) -> tuple[list[Source], list[Unusable]]:
    """Return the sources that the command line names, or those of its manifest, and what is unusable of them.

    Raises:
        OptionsError: it names none or both; or as `find_sources` and `read_jobs_file`.
    """
    if manifest is None:
        if not inputs:
            raise OptionsError(
                "nothing to transcribe: name a file, a folder, a URL, - for standard input, or a --manifest"
            )
        return find_sources(inputs)
    if inputs:
        raise OptionsError(f"--manifest {manifest} names the inputs; leave out {inputs[0]}")
    return read_jobs_file(manifest, defaults)


def read_jobs_file(path: Path, defaults: TranscribeOptions) -> tuple[list[Source], list[Unusable]]:
    """Return the sources that a manifest names, in order, and its entries that stand for none.

    Args:
        path: of the manifest.
        defaults: options that a line leaves as they are.

    Raises:
        OptionsError: it cannot be read, or lines are wrong; the message names them.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"--manifest {path}: {reason(error)}") from error
    found: list[Source | Unusable] = []
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                found += _sources(_row(line), path.parent, defaults)
            except OptionsError as error:
                faults.append(f"{path}:{number}: {error}")
    if not (found or faults):
        raise OptionsError(f"--manifest {path} names no input")
    if faults:
        others = [f"and {len(faults) - _SHOWN_FAULTS} more"] if len(faults) > _SHOWN_FAULTS else []
        raise OptionsError("\n  ".join([*faults[:_SHOWN_FAULTS], *others]))
    sources = [item for item in found if isinstance(item, Source)]
    return sources, [item for item in found if isinstance(item, Unusable)]


def _row(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise OptionsError(f"not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise OptionsError('a line is an object, as {"path": "a.mp3", "language": "German"}')
    known = {*AUDIO_FIELDS, *_OPTIONS, "name"}
    for field in row:
        close = difflib.get_close_matches(field, known, n=1, cutoff=0.75)
        if field not in known and close:
            raise OptionsError(f"no field is called {field!r}; did you mean {close[0]}?")
    return row


def _sources(row: Mapping[str, Any], folder: Path, defaults: TranscribeOptions) -> Iterator[Source | Unusable]:
    given = audio_name(row)
    if given == STDIN:
        raise OptionsError("standard input is no file; give - on the command line")
    name = _text("name", row.get("name"))
    if name and (PurePath(name).name != name or "\\" in name):
        raise OptionsError(f"name is {name!r}; give the name of a file, without folders and suffix")
    changes = {field: parse(key, row[key]) for key, (field, parse) in _OPTIONS.items() if row.get(key) is not None}
    options = replace(defaults, **changes)
    is_named = is_url(given) or given[:5].lower() == "data:"
    for source in sources_of(given if is_named else str(folder / given)):
        if isinstance(source, Source):
            relative = source.relative.with_name(name) if name else source.relative
            yield replace(source, relative=relative, options=options)
        else:
            yield source


def _text(key: str, value: object) -> str:
    if not isinstance(value, str | None):
        raise OptionsError(f"{key} is {value!r}; give a string")
    return value or ""


def _seconds(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise OptionsError(f"{key} is {value!r}; give seconds, or a string as 1:30.5")
    return _parsed(key, moment, value) if isinstance(value, str) else float(value)


def _channels(key: str, value: object) -> Any:
    return _parsed(key, channels, str(value))


def _track(key: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionsError(f"{key} is {value!r}; give a whole number from 1")
    return value


def _parsed(key: str, parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except argparse.ArgumentTypeError as error:
        raise OptionsError(f"{key}: {error}") from error


_OPTIONS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "language": ("language", _text),
    "context": ("context", _text),
    "start": ("start_s", _seconds),
    "end": ("end_s", _seconds),
    "track": ("track", _track),
    "channels": ("channels", _channels),
}
"""What a line may say -> the option, and what reads it."""

JOB_FIELDS = ("path", *_OPTIONS, "name")
"""What a line may hold; all but the path may be missing."""
