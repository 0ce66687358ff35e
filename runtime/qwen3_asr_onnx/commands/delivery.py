"""What becomes of the results of `transcribe`: into files or to stdout, counted, and the failures told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from qwen3_asr_onnx.outputs.growing import GrowingText
from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.outputs.writers import FORMATS, Writer
from qwen3_asr_onnx.results import Segment, StopReason, Transcript

from .console import emit, say
from .state import Records
from .worklist import Job, Unusable

__all__ = ["Delivery", "Shown", "Tally", "about", "reason"]

PARTIAL: Mapping[StopReason, str] = {"time_limit": "the time limit was reached", "cancelled": "interrupted"}
"""Stop reasons of results that end before their audio does, in words."""

GO_ON = ", --resume goes on from there"


@dataclass(slots=True)
class Tally:
    """What became of the inputs so far."""

    n_inputs: int
    n_done: int = 0
    n_skipped: int = 0
    failed: list[str] = field(default_factory=list)

    def add_failure(self, label: str, reason: str) -> None:
        """Report a failed input at once and remember it."""
        self.failed.append(label)
        say(about(label, "error", reason))

    def add_unusable(self, items: Iterable[Unusable]) -> None:
        """Report the inputs that stand for no audio."""
        for item in items:
            self.add_failure(item.label, item.reason)

    def list_failures(self) -> None:
        """Name the failed inputs again: the first reports may have scrolled away."""
        if self.failed and self.n_inputs > 1:
            say("\n  ".join([f"{len(self.failed)} of {self.n_inputs} inputs failed:", *self.failed]))

    def summary(self) -> str:
        """Return one line of counts."""
        skipped = f", {self.n_skipped} skipped (done before)" if self.n_skipped else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.n_done} transcribed{skipped}{failed}"


class Shown:
    """What stdout shows of one input after the other; where the format can, each segment when it is finished."""

    def __init__(self, growing: Callable[[], GrowingText] | None, *, named: bool) -> None:
        """Begin with nothing.

        Args:
            growing: makes what writes an input segment by segment; None for formats that are written whole.
            named: mark each input with its name, as head and tail mark several files.
        """
        self.growing = growing
        self._named = named
        self._text: GrowingText | None = None
        self._shown = ""
        self._is_begun, self._is_first = False, True

    def add(self, label: str, segment: Segment) -> None:
        """Show what a segment adds to the text of an input.

        Raises:
            OSError: stdout cannot take it.
        """
        assert self.growing is not None
        self._text = self._text or self.growing()
        added = self._text.add(segment)
        if added:
            self._show(label, added)

    def finish(self, label: str, whole: str) -> None:
        """Show the rest of an input.

        Raises:
            OSError: stdout cannot take it.
        """
        self._show(label, whole[len(self._shown) :])
        self._reset()

    def abandon(self) -> None:
        """End the line of an input that failed behind what is shown of it."""
        if self._shown and not self._shown.endswith("\n"):
            emit("\n")
        self._reset()

    def _show(self, label: str, text: str) -> None:
        head = ""
        if self._named and not self._is_begun:
            head = f"==> {label} <==\n" if self._is_first else f"\n==> {label} <==\n"
        self._is_begun, self._is_first = True, False
        self._shown += text
        emit(head + text)

    def _reset(self) -> None:
        self._text, self._shown, self._is_begun = None, "", False


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hands results over: into the job's output files, or to stdout when it has none.

    Attributes:
        stdout_format: name of the format for stdout.
        tally: counts what becomes of the inputs.
        writers: name of each format -> what makes its text.
        shown: what stdout shows.
        records: which recording each output file is of.
    """

    stdout_format: str
    tally: Tally
    writers: Mapping[str, Writer]
    shown: Shown
    records: Records

    def deliver(self, job: Job, transcript: Transcript) -> None:
        """Write one result.

        Raises:
            OSError: an output file or stdout cannot take it.
        """
        is_whole = transcript.stop_reason not in PARTIAL
        if not job.outputs:
            self._show(job.source.label, transcript)
        if not is_whole:
            self._tell_partial(job, transcript)
            return
        for name, path in job.outputs.items():
            write_atomically(path, self._text(name, job, transcript))
            if job.journal.recording is not None:
                self.records.note(path, job.journal.recording)
        job.journal.remove()
        self.tally.n_done += 1

    def fail(self, job: Job, error: Exception) -> None:
        """Report an input that could not be transcribed to its end; what was finished of it stays in its journal."""
        if not job.outputs:
            self.shown.abandon()
        self.tally.add_failure(job.source.label, reason(error))

    def _tell_partial(self, job: Job, transcript: Transcript) -> None:
        """Say how much there is of an input; an end that was asked for is no failure of it."""
        told = _what_is_kept(job, transcript)
        if transcript.stop_reason == "cancelled":
            say(about(job.source.label, "interrupted", told))
        else:
            self.tally.add_failure(job.source.label, f"{PARTIAL[transcript.stop_reason]}; {told}")

    def rescue(self, job: Job, transcript: Transcript) -> None:
        """Show on stdout the text of a result that could not be saved: it may have taken hours."""
        if transcript.text.strip():
            say(f"the text of {job.source.label} goes to standard output instead")
            with contextlib.suppress(OSError):
                emit(f"==> {job.source.label} <==\n{FORMATS['txt'].write(transcript)}")

    def _text(self, name: str, job: Job, transcript: Transcript) -> str:
        named = [job.source.label] if FORMATS[name].names_input else []
        return self.writers[name](transcript, *named)

    def _show(self, label: str, transcript: Transcript) -> None:
        if self.stdout_format == "json":
            emit(json.dumps({"input": label, **transcript.to_dict()}, ensure_ascii=False, allow_nan=False) + "\n")
        else:
            self.shown.finish(label, self.writers[self.stdout_format](transcript))


def _what_is_kept(job: Job, transcript: Transcript) -> str:
    """Return how far an input got, and where that is: what was being written when the end came are fragments."""
    kept_s = job.journal.kept_s if job.journal.is_on_disk else 0.0
    if job.outputs:
        return (
            f"{kept_s:.1f} s of it are done and kept in {job.journal.path}{GO_ON}"
            if kept_s
            else "nothing of it is kept"
        )
    if not transcript.text.strip():
        return "nothing of it was finished"
    begun = [segment for segment in transcript.segments if segment.stop_reason in PARTIAL]
    end_s = transcript.segments[-1].end_s
    fragments = f" and fragments up to {end_s:.1f} s" if begun else ""
    told = f"the text up to {begun[0].start_s if begun else end_s:.1f} s{fragments} {'are' if begun else 'is'} shown"
    return f"{told}; {kept_s:.1f} s are done and kept{GO_ON}" if kept_s else told


def reason(error: Exception) -> str:
    """Return what an error says, without its class."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def about(label: str, kind: str, reason: str) -> str:
    """Return one line about an input; library errors often name it already."""
    line = " ".join(reason.split())
    return f"{kind}: {line}" if line.startswith(f"{label}:") else f"{kind}: {label}: {line}"
