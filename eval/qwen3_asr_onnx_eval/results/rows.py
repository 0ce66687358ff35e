"""results.jsonl: a header that says what is evaluated, then one row per system and utterance, appended as they come.

A row is written and synced before the next utterance is begun. A line torn by a crash is cut off when the file is
opened again; a later row for the same system and utterance (a failure tried again) replaces the earlier one.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["FORMAT", "ErrorKind", "Header", "ResultRow", "Results", "ResultsWriter", "read_results"]

FORMAT = 1

ErrorKind: TypeAlias = Literal["", "audio", "system"]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file of results is about.

    Attributes:
        dataset: its name.
        digest: of its utterances, see `Dataset.digest`.
        n_utterances: how many are evaluated.
        problems: entries that cannot be used, each as "file:line: reason".
        forced_language: name that every system was given; "" when they detect it.
        command: as typed.
    """

    dataset: str
    digest: str
    n_utterances: int
    problems: tuple[str, ...] = ()
    forced_language: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What one system made of one utterance.

    Attributes:
        system: its name.
        id: of the utterance.
        where: file and line of the reference.
        subset: part of the dataset.
        speaker: who speaks, "" if unknown.
        language: of the reference, "" if unknown or nobody speaks.
        reference: as in the dataset.
        audio_s: seconds of audio; 0 when it could not be decoded.
        audio_sha256: of the samples given to every system.
        audio_path: the file, for listening, seen from the folder of the results; "" where there is none.
        start_s: where the utterance begins in it.
        end_s: where it ends; None for the end of the file.
        hypothesis: what the system wrote; None when it failed.
        hypothesis_language: its name for the language; None when it does not tell.
        stop_reason: why it stopped; None when it does not tell.
        error: what failed, "" if nothing.
        error_kind: "audio" when the audio cannot be decoded (no system was asked), "system" when the system failed.
        seconds: of computing, one value per repeat, measured in the system's own process.
        harness_s: seconds of the whole round trip minus those; what the harness adds.
        load_s: seconds the system took to load.
        peak_rss: highest resident bytes of its process so far.
        info: `System.info`: bytes on disk, versions, recipe.
        settings: kind, model, precision, threads, repeats, whether runs were interleaved.
        environment: machine, commit.
        at: when, UTC.
    """

    system: str
    id: str
    where: str
    subset: str
    speaker: str
    language: str
    reference: str
    audio_s: float
    audio_sha256: str
    audio_path: str
    start_s: float = 0.0
    end_s: float | None = None
    hypothesis: str | None = None
    hypothesis_language: str | None = None
    stop_reason: str | None = None
    error: str = ""
    error_kind: ErrorKind = ""
    seconds: tuple[float, ...] = ()
    harness_s: float = 0.0
    load_s: float = 0.0
    peak_rss: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    at: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """A file of results read back: the header, and the last row of every system and utterance, in order.

    Attributes:
        header: what was evaluated.
        rows: what was found.
        folder: of the file; audio paths are seen from here.
    """

    header: Header
    rows: tuple[ResultRow, ...]
    folder: Path = Path()

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems, in the order they first appear."""
        return tuple(dict.fromkeys(row.system for row in self.rows))


def read_results(path: Path) -> Results:
    """Return what a file (.jsonl or .jsonl.gz) holds; a torn last line is left out.

    Raises:
        OptionsError: it does not exist, or is not a file of results.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise OptionsError(f"{path}: cannot be read as results ({error})") from error
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
    try:
        head = json.loads(lines[0])
        if head.pop("format") != FORMAT:
            raise ValueError("another format")
        header = Header(**{**head, "problems": tuple(head["problems"])})
        rows = [_row(json.loads(line)) for line in lines[1:]]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise OptionsError(f"{path}: not a results.jsonl of this version ({error}); give another -o DIR") from error
    return Results(header, tuple({(row.system, row.id): row for row in rows}.values()), path.parent)


def _row(values: dict[str, Any]) -> ResultRow:
    return ResultRow(**{**values, "seconds": tuple(one for one in values["seconds"] if one is not None)})


class ResultsWriter:
    """Appends rows to a results file. Use as a context manager.

    Attributes:
        path: of the file.
        earlier: rows that are there already.
        done: system and id of those that need not be made again.
    """

    def __init__(self, path: Path, header: Header, *, retry_failed: bool = False) -> None:
        """Open a file, or go on with one that was begun.

        Args:
            path: the .jsonl file; its folder is made.
            header: what is to be evaluated.
            retry_failed: take rows of systems that failed as not done.

        Raises:
            OptionsError: the file is there and about something else.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.earlier: tuple[ResultRow, ...] = ()
        if path.exists() and path.stat().st_size:
            found = read_results(path)
            _require_same(path, found.header, header)
            self.earlier = found.rows
            _cut_torn_line(path)
        self.done = {(row.system, row.id) for row in self.earlier if not (retry_failed and row.error_kind == "system")}
        self._file = path.open("a", encoding="utf-8", newline="\n")
        if not self.earlier and path.stat().st_size == 0:
            self._write({"format": FORMAT, **asdict(header)})

    def append(self, row: ResultRow) -> None:
        """Write one row, safe on disk when this returns."""
        self._write({entry.name: getattr(row, entry.name) for entry in fields(row)})

    def _write(self, values: dict[str, Any]) -> None:
        self._file.write(measured_json(values) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> ResultsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _require_same(path: Path, found: Header, wanted: Header) -> None:
    for name, what in (("digest", "another dataset"), ("forced_language", "another --force-language")):
        if getattr(found, name) != getattr(wanted, name):
            raise OptionsError(
                f"{path}: holds results of {what} ({found.dataset}, {found.n_utterances} utterances); "
                "give another -o DIR"
            )


def _cut_torn_line(path: Path) -> None:
    """Cut off what a crash left of a line: appending to it would lose the next row as well."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
