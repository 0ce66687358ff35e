"""What is evaluated: utterances with their references, and everything that is wrong with the list they came from.

A reader never skips anything in silence: what it cannot use becomes a `Problem` that names the file and the line.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.errors import AudioError, OptionsError, Qwen3AsrError
from qwen3_asr_onnx.text.languages import resolve_language

__all__ = ["Dataset", "DatasetBuilder", "DatasetError", "Problem", "StoredAudio", "Utterance", "read_waveform"]


class StoredAudio(Protocol):
    """Audio that is not a file of its own, such as a cell of a table."""

    def read(self) -> bytes | Path:
        """Return the content of an audio file, or the path of one."""


AudioReference: TypeAlias = Path | StoredAudio


class DatasetError(Qwen3AsrError, ValueError):
    """A dataset cannot be evaluated as it is; the message lists every problem with its line."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry of a dataset that cannot be used.

    Attributes:
        where: file and line, or file.
        reason: what is wrong and what to do.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One piece of audio and what is said in it.

    Attributes:
        id: unique in its dataset.
        audio: file, or cell of a table.
        text: reference as written in the dataset; "" where nobody speaks.
        language: English name, "" if unknown or where nobody speaks.
        where: file and line the entry came from.
        subset: part of the dataset, for tables by subset.
        speaker: who speaks; speakers are resampled together in intervals. "" if unknown.
        start_s: where it begins in the file.
        end_s: where it ends; None for the end of the file.
    """

    id: str
    audio: AudioReference
    text: str
    language: str
    where: str
    subset: str = ""
    speaker: str = ""
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named list of utterances, in order.

    Attributes:
        name: for tables.
        utterances: what can be evaluated.
        problems: what cannot, in the order found.
    """

    name: str
    utterances: tuple[Utterance, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        """Sha256 over ids, references, languages and cuts: two runs with one digest were asked the same."""
        rows = [[u.id, u.text, u.language, u.start_s, u.end_s] for u in self.utterances]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    def limited(self, count: int | None) -> Dataset:
        """Return the dataset with its first `count` utterances."""
        return self if count is None else Dataset(self.name, self.utterances[:count], self.problems)

    def require_usable(self, *, keep_going: bool) -> None:
        """Refuse a dataset with problems, unless the rest is to be evaluated; refuse an empty one always.

        Raises:
            DatasetError: with one line for each problem.
        """
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        if self.problems and not keep_going:
            raise DatasetError(
                f"{self.name}: {len(self.problems)} of {len(self.problems) + len(self.utterances)} entries cannot be "
                f"used; repair them, or evaluate the others with --keep-going:{lines}"
            )
        if not self.utterances:
            raise DatasetError(f"{self.name}: no utterance to evaluate{':' if lines else ''}{lines}")


@dataclass(slots=True)
class DatasetBuilder:
    """Collects entries, checking each: file there, hash right, language known, id new.

    Attributes:
        name: of the dataset.
        default_language: for entries that name none.
    """

    name: str
    default_language: str = ""
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _first_use: dict[str, str] = field(default_factory=dict)
    _hashes: dict[Path, str] = field(default_factory=dict)

    def problem(self, where: str, reason: str) -> None:
        """Note an entry that cannot be used."""
        self.problems.append(Problem(where, reason))

    def add(self, utterance: Utterance, sha256: str = "") -> None:
        """Add one entry, or note why it cannot be used. Its language may be a name or a code."""
        reason = self._fault(utterance, sha256)
        if reason:
            self.problem(utterance.where, reason)
            return
        self._first_use[utterance.id] = utterance.where
        named = utterance.language.strip() or (self.default_language if utterance.text.strip() else "")
        language = resolve_language(named) if named else ""
        values = {name: getattr(utterance, name) for name in Utterance.__slots__}
        self.utterances.append(Utterance(**{**values, "language": language}))

    def build(self) -> Dataset:
        """Return what was collected."""
        return Dataset(self.name, tuple(self.utterances), tuple(self.problems))

    def _fault(self, utterance: Utterance, sha256: str) -> str:
        if not utterance.id:
            return "the id is empty"
        if utterance.id in self._first_use:
            return f"the id {utterance.id!r} was used before, at {self._first_use[utterance.id]}"
        if utterance.end_s is not None and not 0 <= utterance.start_s < utterance.end_s:
            return f"it runs from {utterance.start_s} to {utterance.end_s} s; an end must come after its start"
        if utterance.language.strip():
            try:
                resolve_language(utterance.language)
            except OptionsError as error:
                return str(error)
        if isinstance(utterance.audio, Path):
            return self._file_fault(utterance.audio, sha256)
        return ""

    def _file_fault(self, path: Path, sha256: str) -> str:
        if not path.is_file():
            return f"{path}: no such audio file"
        if sha256:
            if path not in self._hashes:
                self._hashes[path] = _sha256_of(path)
            if self._hashes[path] != sha256.lower():
                return f"{path}: sha256 is {self._hashes[path]}, the list says {sha256}; get the right copy"
        return ""


def read_waveform(utterance: Utterance) -> Waveform:
    """Return the utterance as (n_samples,) float32 at 16 kHz.

    Raises:
        AudioError: it cannot be decoded, holds no sample, or ends before the utterance does.
        LimitError, MissingExtra: as `load_audio`.
    """
    source = utterance.audio if isinstance(utterance.audio, Path) else utterance.audio.read()
    whole = load_audio(source, allow_url=False)
    first = round(utterance.start_s * SAMPLE_RATE)
    last = len(whole) if utterance.end_s is None else round(utterance.end_s * SAMPLE_RATE)
    # A hundredth of a second: ends of segments are often rounded.
    if last > len(whole) + SAMPLE_RATE // 100:
        raise AudioError(f"the audio is {len(whole) / SAMPLE_RATE:.3f} s, but the segment ends at {utterance.end_s} s")
    piece = whole[first:last]
    if not piece.size:
        raise AudioError("the audio holds no samples")
    return piece


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
