"""The finished pieces of one input on disk while the others are still made, so that another run can go on inside it.

A journal is a file of JSON lines. The first says of what it is: the input, the model, the options that
decide on the text. Each other line is one piece: where it lies, a digest of its samples, its segments. A run that goes
on reads and cuts the audio as the first one did, and takes from the journal what it has of the pieces it meets; so a
piece is taken only for the same samples, and the result is that of a run that nobody ended.

A piece is handed to the system when it is finished, which outlives the death of the process (kill -9). It is not
synced: a power cut may cost the pieces of the last half minute. A line that is torn ends the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.results import Phrase, Segment, Timings, Word
from qwen3_asr_onnx.speech.quiet import Clip

from .identity import Identity

try:
    import fcntl
except ImportError:  # Windows, which does not let anybody delete a file that is open
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Journal", "JournalWarning", "Place", "holds_pieces"]

KIND = "qwen3-asr-onnx journal"
VERSION = 1
MAGIC = f'{{"{KIND}":'.encode()
"""What every journal begins with."""

BUSY = "another run is at work on"

NAMES = {"input": "the recording", "model": "the model", "options": "an option that decides on the text"}


class JournalWarning(UserWarning):
    """What an earlier run kept of an input cannot be used, or what is finished cannot be kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """One piece of an input: where it lies, and what is there."""

    start_sample: int
    n_samples: int
    sha256: str
    channel: int | None = None

    @classmethod
    def of(cls, clip: Clip) -> Place:
        """Return the place of a clip."""
        return cls(clip.start_sample, clip.samples.size, hashlib.sha256(clip.samples.data).hexdigest(), clip.channel)


class Journal:
    """The journal of one input. Whatever ended the run that wrote it, the next run with it goes on from there.

    Keeping a journal never fails the transcription: what is wrong with it is a `JournalWarning`.

    Attributes:
        path: of the file, which is made when the first piece is finished and others are not.
        recalled_s: seconds of audio whose text was taken from an earlier run.
        kept_s: seconds of audio whose text is in the file.
        recording: fingerprint of the input when it was opened; None before, and where it is no file.
    """

    def __init__(self, path: str | os.PathLike[str], *, anew: bool = False, shared: bool = False) -> None:
        """Remember where the journal is; nothing is touched.

        Args:
            path: of the file; its folder need not exist.
            anew: forget what an earlier run kept there.
            shared: several runs may want it at once; all but the first do without, and nothing is said of it. Nor is it
                said that nothing can be kept there, unless it is to be taken up.
        """
        self.path = Path(path)
        self.recalled_s = 0.0
        self.kept_s = 0.0
        self._anew = anew
        self._shared = shared
        self._file: BinaryIO | None = None
        self._is_off = False
        self._is_begun = False
        self._header = b""
        self.recording: dict[str, Any] | None = None
        self._known: dict[tuple[int, int | None], tuple[Place, list[Segment]]] = {}
        self._differs = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_on_disk(self) -> bool:
        """Whether the file is there, and this journal's to write."""
        return self._file is not None

    def begin(self, identity: Identity) -> None:
        """Take up what an earlier run kept of the same input, model and options; begin anew where they differ.

        Warns:
            JournalWarning: what was kept cannot be used.
        """
        self.recording = identity.get("input")
        self._header = _line({KIND: VERSION, **identity})
        with self._best_effort("what an earlier run kept cannot be read"):
            try:
                file = self.path.open("r+b")
            except (FileNotFoundError, NotADirectoryError):
                return
            if self._claim(file):
                self._take_up(file)

    def recall(self, place: Place) -> list[Segment] | None:
        """Return the segments that an earlier run made of a piece; None where it did not."""
        known = self._known.get((place.start_sample, place.channel))
        if known is None:
            return None
        if known[0] != place:
            if not self._differs:
                self._differs = True
                self.kept_s = self.recalled_s
                self._warn(f"the audio at {place.start_sample / SAMPLE_RATE:.1f} s is not what an earlier run heard")
            return None
        self.recalled_s += place.n_samples / SAMPLE_RATE
        return known[1]

    def keep(self, place: Place, segments: Sequence[Segment]) -> None:
        """Write a finished piece.

        Warns:
            JournalWarning: it could not be written; later pieces will not be kept either.
        """
        if self._is_off:
            return
        line = _line({**asdict(place), "segments": [asdict(one) for one in segments]})
        with self._best_effort("what is finished cannot be kept for --resume"):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                if not self._claim(self.path.open("x+b")):
                    return
            if not self._is_begun:
                self._restart()
            self._write(line)
            self.kept_s += place.n_samples / SAMPLE_RATE

    def close(self) -> None:
        """Leave the file for a later run."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove the file: the result is where it belongs. One that another run writes stays."""
        if self._file is not None:
            if fcntl is None:
                self.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.close()

    def discard(self) -> None:
        """Remove a journal that nobody needs any more; one that a living run writes stays, and so do other files."""
        with contextlib.suppress(OSError), self.path.open("r+b") as file:
            if self._refusal(file):
                return
            self._file = file
            self.remove()

    def _claim(self, file: BinaryIO) -> bool:
        """Take a file for this run alone; give up keeping a journal where that cannot be."""
        why = self._refusal(file)
        if why:
            file.close()
            self._is_off = True
            if not (self._shared and why.startswith(BUSY)):
                self._warn(f"{why}; what is finished is not kept")
            return False
        self._file = file
        return True

    def _refusal(self, file: BinaryIO) -> str:
        """Return why a file cannot be had, in words; "" where it can."""
        if not MAGIC.startswith(file.read(len(MAGIC))):
            return f"{self.path} is no journal"
        if fcntl is not None and _is_locked(file):
            return f"{BUSY} {self.path}"
        return ""

    def _take_up(self, file: BinaryIO) -> None:
        """Read what is there, drop a torn end, and stand behind the last whole line."""
        file.seek(0)
        header = file.readline()
        why = "" if self._anew else _difference(header, self._header)
        if self._anew or why:
            if why and file.readline():
                self._warn(f"{why} since an earlier run kept a part of it; begun anew")
            return  # what is there goes when there is something new: nothing is lost to an option that was mistyped
        self._is_begun = True
        end = file.tell()
        for line in file:
            piece = _piece(line)
            if piece is None:
                break
            end += len(line)
            self._known[piece[0].start_sample, piece[0].channel] = piece
        self.kept_s = sum(place.n_samples for place, _ in self._known.values()) / SAMPLE_RATE
        file.truncate(end)
        file.seek(end)

    def _restart(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        self._write(self._header)
        self._is_begun = True

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)
        self._file.flush()

    @contextlib.contextmanager
    def _best_effort(self, what: str) -> Any:
        try:
            yield
        except OSError as error:
            self._is_off = True
            self.close()
            if not (self._shared and self._anew):
                self._warn(f"{what}: {self.path}: {error.strerror or error}")

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, JournalWarning, stacklevel=3)


def holds_pieces(path: Path) -> bool:
    """Return whether an earlier run kept a finished piece in the journal at `path`."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC and bool(file.readline()) and _piece(file.readline()) is not None
    except OSError:
        return False


def _difference(header: bytes, wanted: bytes) -> str:
    """Return what is not as it was, in words; "" where all is."""
    if header == wanted:
        return ""
    before, now = _json(header), _json(wanted)
    if before is None or before.get(KIND) != VERSION:
        return "the program has changed"
    changed = [name for key, name in NAMES.items() if before.get(key) != now.get(key)]
    return f"{' and '.join(changed) or 'something'} has changed"


def _piece(line: bytes) -> tuple[Place, list[Segment]] | None:
    """Return what a line says; None if it is torn."""
    if not line.endswith(b"\n"):
        return None
    body = _json(line)
    try:
        place = Place(body["start_sample"], body["n_samples"], body["sha256"], body["channel"])
        return place, [_segment(fields) for fields in body["segments"]]
    except (KeyError, TypeError):
        return None


def _segment(fields: dict[str, Any]) -> Segment:
    words = fields["words"]
    if words is not None:
        words = tuple(Word(**{**word, "flags": tuple(word["flags"])}) for word in words)
    phrases = fields["phrases"]
    if phrases is not None:
        phrases = tuple(Phrase(**phrase) for phrase in phrases)
    ids, logprobs = tuple(fields["token_ids"]), tuple(fields["token_logprobs"])
    timings = Timings(**fields["timings"])
    built = {"token_ids": ids, "token_logprobs": logprobs, "timings": timings, "words": words, "phrases": phrases}
    return Segment(**{**fields, **built})


def _line(body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_locked(file: BinaryIO) -> bool:
    """Take the lock of a living process; return whether another one has it. Some network disks know no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
