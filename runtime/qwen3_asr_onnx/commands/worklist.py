"""What `transcribe` is asked to do: command-line inputs in, a list of jobs out, each with its source and output files.

Everything that can go wrong before a model is loaded is found here: inputs that do not exist, two inputs that would
write one file, outputs that exist already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from qwen3_asr_onnx.audio.downloads import is_url, url_label
from qwen3_asr_onnx.audio.loading import AUDIO_SUFFIXES
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.writers import FORMATS

__all__ = ["Destination", "Job", "Source", "Unusable", "find_sources", "plan_jobs"]

STDIN = "-"

# Characters that Windows forbids in file names, and control characters.
_UNSAFE_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Source:
    """One piece of audio to transcribe.

    Attributes:
        label: how messages and results name it.
        audio: what is given to the transcriber: a path, or "-", a URL, a data: URL.
        relative: where its results go under an output directory, without a format's suffix.
    """

    label: str
    audio: str | Path
    relative: Path


@dataclass(frozen=True, slots=True)
class Unusable:
    """An input that stands for no audio, and why."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results are written.

    Attributes:
        formats: names in `outputs.FORMATS`.
        directory: output directory; None writes next to each input.
        resume: keep the outputs that exist and make the missing ones.
        overwrite: replace the outputs that exist.
    """

    formats: tuple[str, ...]
    directory: Path | None
    resume: bool = False
    overwrite: bool = False

    def path(self, source: Source, format_name: str) -> Path:
        """Return the output file of one source in one format."""
        if self.directory is not None:
            stem = self.directory / source.relative
        elif isinstance(source.audio, Path):
            stem = source.audio.with_suffix("")
        else:
            raise OptionsError(f"{source.label} is not a file, so nothing can be saved next to it; use --output-dir")
        return stem.with_name(f"{stem.name}.{format_name}")


@dataclass(frozen=True, slots=True)
class Job:
    """One source and the files still to be made from it: format name -> path. Empty when results go to stdout."""

    source: Source
    outputs: Mapping[str, Path]


def find_sources(inputs: Sequence[str]) -> tuple[list[Source], list[Unusable]]:
    """Return the sources that command-line inputs stand for, in order, and the inputs that stand for none.

    A directory stands for the audio files in it and below it, sorted, hidden ones left out.

    Raises:
        OptionsError: stdin is asked for twice.
    """
    if inputs.count(STDIN) > 1:
        raise OptionsError("- (stdin) can be read only once")
    found = [item for text in inputs for item in _sources_of(text)]
    sources = [item for item in found if isinstance(item, Source)]
    return sources, [item for item in found if isinstance(item, Unusable)]


def _sources_of(text: str) -> Iterator[Source | Unusable]:
    path = Path(text)
    if text == STDIN:
        yield Source("standard input", STDIN, Path("stdin"))
    elif text[:5].lower() == "data:":
        yield Source("data: URL", text, Path("data"))
    elif is_url(text):
        yield _source_from_url(text)
    elif path.is_dir():
        yield from _sources_below(path)
    elif path.is_file():
        yield Source(text, path, Path(path.stem))
    elif path.exists():  # a pipe: there is no place next to it
        yield Source(text, text, Path(path.stem))
    else:
        yield Unusable(text, _why_missing(path))


def _sources_below(directory: Path) -> Iterator[Source | Unusable]:
    empty = True
    unreadable: list[OSError] = []
    for parent, subdirectories, names in os.walk(directory, onerror=unreadable.append):
        subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            if path.exists() and not path.is_file():  # reading a pipe would wait for whoever writes; it can be named
                continue
            empty = False
            if path.exists():
                yield Source(str(path), path, path.relative_to(directory).with_suffix(""))
            else:
                yield Unusable(str(path), _why_missing(path))
    for error in unreadable:
        yield Unusable(str(error.filename), error.strerror or str(error))
    if empty and not unreadable:
        yield Unusable(str(directory), "no audio file in this directory")


def _why_missing(path: Path) -> str:
    return f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file or directory"


def plan_jobs(sources: Sequence[Source], destination: Destination) -> list[Job]:
    """Return what is left to do for each source; a source given twice, or done already, is left out.

    Raises:
        OptionsError: two sources would write one file, an output would replace an input, an output exists and neither
            resuming nor overwriting was asked for, or a directory cannot be written to.
    """
    inputs = {os.path.realpath(source.audio) for source in sources if isinstance(source.audio, Path)}
    owners: dict[str, Source] = {}
    jobs: list[Job] = []
    in_the_way: list[Path] = []
    for source in sources:
        paths = {name: destination.path(source, name) for name in destination.formats}
        if _already_planned(source, paths, owners):
            continue
        for path in paths.values():
            if os.path.realpath(path) in inputs:
                raise OptionsError(f"{path} is an input, and the result of {source.label} would replace it")
        if destination.resume:
            paths = {name: path for name, path in paths.items() if not _is_complete(name, path)}
        elif not destination.overwrite:
            in_the_way.extend(path for path in paths.values() if os.path.lexists(path))
        if paths:
            _check_writable(paths.values())
            jobs.append(Job(source, paths))
    if in_the_way:
        exist = f"and {len(in_the_way) - 1} more outputs exist" if len(in_the_way) > 1 else "exists"
        raise OptionsError(
            f"{in_the_way[0]} {exist}; --resume keeps what is there and makes the rest, --overwrite makes all again"
        )
    return jobs


def _already_planned(source: Source, paths: Mapping[str, Path], owners: dict[str, Source]) -> bool:
    """Claim the output files of a source; return whether the same audio has claimed them before.

    Raises:
        OptionsError: different audio has claimed one of them.
    """
    for path in paths.values():
        owner = owners.setdefault(os.path.normcase(os.path.realpath(path)), source)
        if owner is source:
            continue
        if _same_audio(owner, source):
            return True
        raise OptionsError(
            f"{owner.label} and {source.label} would both write {path}; rename one or transcribe them separately"
        )
    return False


def _check_writable(paths: Iterable[Path]) -> None:
    """Refuse now what would fail only after the transcribing."""
    for path in paths:
        directory = next(parent for parent in path.absolute().parents if parent.exists())
        if not directory.is_dir():
            raise OptionsError(f"{path} cannot be written: {directory} is not a directory")
        if not os.access(directory, os.W_OK):
            raise OptionsError(f"{path} cannot be written: no permission in {directory}; use another --output-dir")
        if path.is_dir():
            raise OptionsError(f"{path} cannot be written: it is a directory")


def _is_complete(format_name: str, path: Path) -> bool:
    """Return whether an earlier run finished this file: its writes are atomic, other programs' are not."""
    return path.is_file() and (FORMATS[format_name].may_be_empty or path.stat().st_size > 0)


def _same_audio(one: Source, other: Source) -> bool:
    if isinstance(one.audio, Path) and isinstance(other.audio, Path):
        return os.path.realpath(one.audio) == os.path.realpath(other.audio)
    return one.audio == other.audio


def _source_from_url(url: str) -> Source | Unusable:
    try:
        label = url_label(url)
        parts = urlsplit(url)
    except ValueError as error:
        return Unusable("URL", f"{error} in {url}")
    name = Path(unquote(parts.path)).stem or parts.hostname or "audio"
    return Source(label, url, Path(_UNSAFE_IN_NAMES.sub("_", name).lstrip(".") or "audio"))
