"""What `transcribe` is asked to do: command-line inputs in, a list of jobs out, each with its source and output files.

Everything that can go wrong before a model is loaded is found here: inputs that do not exist, two inputs that would
write one file, outputs that exist already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from qwen3_asr_onnx.audio.downloads import is_url, url_label
from qwen3_asr_onnx.audio.loading import AUDIO_SUFFIXES
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.outputs.saving import remove_abandoned
from qwen3_asr_onnx.outputs.writers import FORMATS
from qwen3_asr_onnx.text.languages import LANGUAGE_CODES, resolve_language
from qwen3_asr_onnx.transcription.journal import Journal, holds_pieces

from .naming import fill_template
from .places import check_place, folded, journal_path, place_of, shortened, tells_case_apart
from .state import Records

__all__ = ["Destination", "Job", "Source", "Unusable", "find_sources", "plan_jobs", "remove_leftovers", "sources_of"]

State: TypeAlias = Literal["done", "stale", "missing"]
"""What became of an output so far: it is made of this recording, of what was there before it, or not made."""

STDIN = "-"

# Characters that Windows forbids in file names, and control characters.
_UNSAFE_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]')

# What Windows takes for a device, whatever follows after a dot.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*", re.IGNORECASE)

_URL_NAME_BYTES = 100
"""Longest name that is made of a URL, whose own may have no end."""


@dataclass(frozen=True, slots=True)
class Source:
    """One piece of audio to transcribe.

    Attributes:
        label: how messages and results name it.
        audio: what is given to the transcriber: a path, or "-", a URL, a data: URL.
        relative: where its results go under an output directory, without a format's suffix.
        extension: of the audio's own name, as ".mp3"; "" where it has none.
        options: how it is transcribed, where that is its own.
    """

    label: str
    audio: str | Path
    relative: Path
    extension: str = ""
    options: TranscribeOptions | None = None


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
        keep_extension: call the result of a.mp3 a.mp3.txt, so that a.wav may lie beside it.
        template: makes the names, see `naming`; None calls the result of a.mp3 a.txt.
        language: code of the language that is asked for, for templates; "" where it is detected.
    """

    formats: tuple[str, ...]
    directory: Path | None
    resume: bool = False
    overwrite: bool = False
    keep_extension: bool = False
    template: str | None = None
    language: str = ""

    def path(self, source: Source, format_name: str) -> Path:
        """Return the output file of one source in one format."""
        stem = self._stem(source)
        if self.template is not None:
            return stem.with_name(fill_template(self.template, self._fields(source, stem, format_name)))
        return stem.with_name(f"{stem.name}{self._kept(source)}.{format_name}")

    def journal(self, source: Source) -> Path:
        """Return where the journal of one source lies while its outputs are made."""
        if self.template is not None:
            return journal_path(self.path(source, "journal"))
        stem = self._stem(source)
        return journal_path(stem.with_name(f"{stem.name}{self._kept(source)}"))

    def _kept(self, source: Source) -> str:
        return source.extension if self.keep_extension else ""

    def _fields(self, source: Source, stem: Path, format_name: str) -> dict[str, str]:
        """Return what a template may hold."""
        language = source.options.language if source.options is not None else self.language
        code = LANGUAGE_CODES[resolve_language(language)] if language else ""
        if not code and "{lang}" in (self.template or ""):
            raise OptionsError(
                f"--name-template has {{lang}}, and no language is asked for of {source.label}; add --language"
            )
        folder = source.audio.absolute().parent.name if isinstance(source.audio, Path) else ""
        name = f"{stem.name}{source.extension}"
        return {"stem": stem.name, "name": name, "parent": folder, "lang": code, "ext": format_name}

    def _stem(self, source: Source) -> Path:
        if self.directory is not None:
            return self.directory / source.relative
        if isinstance(source.audio, Path):
            return source.audio.with_name(source.relative.name)
        raise OptionsError(f"{source.label} is not a file, so nothing can be saved next to it; use --output-dir")


@dataclass(frozen=True, slots=True)
class Job:
    """One source and the files still to be made from it.

    Attributes:
        source: the audio.
        outputs: format name -> path. Empty when results go to stdout.
        journal: keeps what is finished of it until they are written.
        stale: outputs that are there, but not of this recording as it is now.
    """

    source: Source
    outputs: Mapping[str, Path]
    journal: Journal = field(compare=False)
    stale: tuple[Path, ...] = ()


def find_sources(inputs: Sequence[str]) -> tuple[list[Source], list[Unusable]]:
    """Return the sources that command-line inputs stand for, in order, and the inputs that stand for none.

    A directory stands for the audio files in it and below it, sorted, hidden ones left out.

    Raises:
        OptionsError: stdin is asked for twice.
    """
    if inputs.count(STDIN) > 1:
        raise OptionsError("- (stdin) can be read only once")
    found = [item for text in inputs for item in sources_of(text)]
    sources = [item for item in found if isinstance(item, Source)]
    return sources, [item for item in found if isinstance(item, Unusable)]


def sources_of(text: str) -> Iterator[Source | Unusable]:
    """Yield the sources that one input stands for, and what is unusable of it."""
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
        yield Source(text, path, Path(path.stem), path.suffix)
    elif path.exists():  # a pipe: there is no place next to it
        yield Source(text, text, Path(path.stem), path.suffix)
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
            if path.is_file():
                yield Source(str(path), path, path.relative_to(directory).with_suffix(""), path.suffix)
            elif not path.exists():
                yield Unusable(str(path), _why_missing(path))
            else:  # reading a pipe would wait for whoever writes; it can be named
                continue
            empty = False
    for error in unreadable:
        yield Unusable(str(error.filename), error.strerror or str(error))
    if empty and not unreadable:
        yield Unusable(str(directory), "no audio file in this directory")


def _why_missing(path: Path) -> str:
    return f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else "no such file or directory"


def plan_jobs(sources: Sequence[Source], destination: Destination, records: Records) -> list[Job]:
    """Return what is left to do for each source; a source given twice, or done already, is left out.

    Raises:
        OptionsError: two sources would write one file, an output would replace an input, an output or a part of one
            exists and neither resuming nor overwriting was asked for, or an output cannot be written.
    """
    jobs: list[Job] = []
    in_the_way: list[Path] = []
    for source, paths in _outputs(sources, destination):
        journal = destination.journal(source)
        stale: list[Path] = []
        if destination.resume and not _is_open(journal, paths.values()):
            states = {name: _state(name, path, source, records) for name, path in paths.items()}
            stale = [paths[name] for name, state in states.items() if state == "stale"]
            paths = {name: path for name, path in paths.items() if states[name] != "done"}
        for path in paths.values():
            check_place(path)
        if not (destination.resume or destination.overwrite):
            in_the_way += [path for path in paths.values() if path.exists()]
            if holds_pieces(journal):
                in_the_way.append(journal)
        if paths:
            jobs.append(Job(source, paths, Journal(journal, anew=destination.overwrite), tuple(stale)))
    if in_the_way:
        exist = f"and {len(in_the_way) - 1} more outputs exist" if len(in_the_way) > 1 else "exists"
        raise OptionsError(
            f"{in_the_way[0]} {exist}; --resume keeps what is there and makes the rest, --overwrite makes all again"
        )
    return jobs


def remove_leftovers(sources: Sequence[Source], destination: Destination, records: Records) -> None:
    """Remove what runs that were killed left where results go: unfinished files, journals of what is finished.

    Nothing that a living run writes is touched, and no journal that is younger than the results.
    """
    outputs = _outputs(sources, destination)
    for folder in {path.parent for _, paths in outputs for path in paths.values()}:
        remove_abandoned(folder)
    for source, paths in outputs:
        journal = destination.journal(source)
        done = all(_state(name, path, source, records) == "done" for name, path in paths.items())
        if destination.resume and done and journal.is_file() and not _is_open(journal, paths.values()):
            Journal(journal).discard()


def _is_open(journal: Path, outputs: Iterable[Path]) -> bool:
    """Return whether a run that was to make these outputs ended before it had, and kept a part."""
    there = [path.stat().st_mtime_ns for path in outputs if path.is_file()]
    return holds_pieces(journal) and journal.stat().st_mtime_ns > max(there, default=-1)


def _state(format_name: str, path: Path, source: Source, records: Records) -> State:
    """Return what an output is: writes of this program are whole or not there, those of others may be anything."""
    if not path.is_file() or (path.stat().st_size == 0 and not FORMATS[format_name].may_be_empty):
        return "missing"
    if not isinstance(source.audio, Path):
        return "done" if path.stat().st_size else "missing"
    if records.is_of(path, source.audio):
        return "done"
    return "stale" if path.stat().st_size else "missing"


def _outputs(sources: Sequence[Source], destination: Destination) -> list[tuple[Source, dict[str, Path]]]:
    """Return every source once, with the files that are made from it by format.

    Raises:
        OptionsError: two sources would write one file, or an output would replace an input.
    """
    inputs = {place_of(source.audio) for source in sources if isinstance(source.audio, Path)}
    owners: dict[str, Source] = {}
    first_of: dict[str, tuple[Source, str]] = {}
    clashes: dict[tuple[str, str], Path] = {}
    found: list[tuple[Source, dict[str, Path]]] = []
    for source in sources:
        paths = {name: destination.path(source, name) for name in destination.formats}
        is_new = True
        for path in paths.values():
            place = place_of(path)
            if place in inputs:
                raise OptionsError(f"{path} is an input, and the result of {source.label} would replace it")
            owner = owners.setdefault(place, source)
            alike, its_place = first_of.setdefault(folded(place), (source, place))
            if its_place != place and not tells_case_apart(path):
                owner = alike
            if owner is not source:
                is_new = False
                if not _same_audio(owner, source):
                    clashes.setdefault((owner.label, source.label), path)
        if is_new:
            found.append((source, paths))
    if clashes:
        raise _clash(clashes, destination)
    return found


def _clash(clashes: Mapping[tuple[str, str], Path], destination: Destination) -> OptionsError:
    pairs = [f"{one} and {other} would both write {path}" for (one, other), path in clashes.items()]
    apart = any(Path(one).suffix != Path(other).suffix for one, other in clashes)
    template = "--name-template '{parent}-{stem}.{ext}'"
    if any(one == other for one, other in clashes):  # parts of one recording, of a manifest
        remedy = 'give each a "name"'
    elif destination.template is not None:
        remedy = "choose another template"
    else:
        remedy = "add --keep-extension" if apart and not destination.keep_extension else f"add {template}"
    return OptionsError("\n  ".join([f"{pairs[0]}; {remedy}, or transcribe them separately", *pairs[1:]]))


def _same_audio(one: Source, other: Source) -> bool:
    if one.options != other.options:
        return False
    if isinstance(one.audio, Path) and isinstance(other.audio, Path):
        return os.path.realpath(one.audio) == os.path.realpath(other.audio)
    return one.audio == other.audio


def _source_from_url(url: str) -> Source | Unusable:
    try:
        label = url_label(url)
        parts = urlsplit(url)
    except ValueError as error:
        return Unusable("URL", f"{error} in {url}")
    path = Path(unquote(parts.path))
    name = shortened(_UNSAFE_IN_NAMES.sub("_", path.stem or parts.hostname or "audio").lstrip("."), _URL_NAME_BYTES)
    if _RESERVED.fullmatch(name.partition(".")[0]):
        name = f"_{name}"
    return Source(label, url, Path(name or "audio"), _UNSAFE_IN_NAMES.sub("_", path.suffix[:_URL_NAME_BYTES]))
