"""What becomes of the results of `transcribe`: into files or to stdout, counted, and the failures told."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.outputs.writers import FORMATS, Writer
from qwen3_asr_onnx.results import Segment, StopReason, Transcript

from .console import emit, say
from .worklist import Job

__all__ = ["Delivery", "Tally", "about", "about_untagged", "reason"]

PARTIAL: Mapping[StopReason, str] = {"time_limit": "the time limit was reached", "cancelled": "interrupted"}
"""Stop reasons of results that end before their audio does, in words."""


_SHOWN_IDS = 8


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

    def list_failures(self) -> None:
        """Name the failed inputs again: the first reports may have scrolled away."""
        if self.failed and self.n_inputs > 1:
            say("\n  ".join([f"{len(self.failed)} of {self.n_inputs} inputs failed:", *self.failed]))

    def summary(self) -> str:
        """Return one line of counts."""
        skipped = f", {self.n_skipped} skipped (done before)" if self.n_skipped else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.n_done} transcribed{skipped}{failed}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hands results over: into the job's output files, or to stdout when it has none.

    Attributes:
        stdout_format: name of the format for stdout.
        tally: counts what becomes of the inputs.
        writers: name of each format -> what makes its text.
        overwrite: replace what an earlier run kept of an input even by less.
    """

    stdout_format: str
    tally: Tally
    writers: Mapping[str, Writer]
    overwrite: bool = False

    def deliver(self, job: Job, transcript: Transcript) -> None:
        """Write one result.

        Raises:
            OSError: an output file or stdout cannot take it.
        """
        if transcript.stop_reason in PARTIAL:
            self._deliver_partial(job, transcript)
            return
        for name, path in job.outputs.items():
            write_atomically(path, self._text(name, job, transcript))
        for path in job.partials.values():
            path.unlink(missing_ok=True)  # of an earlier run
        if not job.outputs:
            emit(self._stdout_text(job.source.label, transcript))
        self.tally.n_done += 1

    def _deliver_partial(self, job: Job, transcript: Transcript) -> None:
        """Keep what there is of an input, and say how much that is; an end that was asked for is no failure of it."""
        kept: list[str] = []
        earlier: list[str] = []
        if not job.outputs:
            emit(self._stdout_text(job.source.label, transcript))
        elif _holds_anything(transcript):
            for name, path in job.partials.items():
                text = self._text(name, job, transcript)
                if not self.overwrite and _is_longer(path, text):
                    earlier.append(str(path))
                else:
                    write_atomically(path, text)
                    kept.append(str(path))
        told = _what_is_kept(transcript, kept, earlier)
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

    def _stdout_text(self, label: str, transcript: Transcript) -> str:
        if self.stdout_format == "json":
            return json.dumps({"input": label, **transcript.to_dict()}, ensure_ascii=False, allow_nan=False) + "\n"
        text = self.writers[self.stdout_format](transcript)
        if self.tally.n_inputs == 1:
            return text
        separator = "\n" if self.tally.n_done else ""
        return f"{separator}==> {label} <==\n{text}"  # as head and tail mark several files


def _holds_anything(transcript: Transcript) -> bool:
    return any(segment.text or segment.stop_reason not in PARTIAL for segment in transcript.segments)


def _is_longer(path: Path, text: str) -> bool:
    """Return whether the partial result of an earlier run holds more: of one audio, the longer file goes further."""
    return path.is_file() and path.stat().st_size > len(text.encode("utf-8", "backslashreplace"))


def _what_is_kept(transcript: Transcript, kept: Sequence[str], earlier: Sequence[str]) -> str:
    """Return how far the text goes: pieces that were being written when the end came are fragments."""
    if not _holds_anything(transcript):
        return "nothing of it was finished"
    begun = [segment for segment in transcript.segments if segment.stop_reason in PARTIAL]
    done_s = begun[0].start_s if begun else transcript.segments[-1].end_s
    extent = f"the text up to {done_s:.1f} s"
    if begun:
        extent += f" and fragments up to {transcript.segments[-1].end_s:.1f} s"
    if earlier:
        extent = f"{extent}; what an earlier run kept in {', '.join(earlier)} is longer and stays"
        return f"{extent}, this is in {', '.join(kept)}" if kept else extent
    return f"{extent} {'are' if begun else 'is'} kept" + (f" in {', '.join(kept)}" if kept else "")


def about_untagged(segments: Sequence[Segment]) -> str | None:
    """Return a line about the answers that were no transcripts, with what the first began with; None without any."""
    found = [segment for segment in segments if segment.stop_reason == "no_tag"]
    if not found:
        return None
    first = found[0]
    ids = [*map(str, first.token_ids[:_SHOWN_IDS]), *(["..."] if len(first.token_ids) > _SHOWN_IDS else [])]
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return (
        f"{first.start_s:.1f} to {first.end_s:.1f} s{others}: the model's answer is no transcript and was dropped; "
        f"it begins with the token ids {', '.join(ids)}. Is the bundle whole? `info --verify` tells"
    )


def reason(error: Exception) -> str:
    """Return what an error says, without its class."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def about(label: str, kind: str, reason: str) -> str:
    """Return one line about an input; library errors often name it already."""
    line = " ".join(reason.split())
    return f"{kind}: {line}" if line.startswith(f"{label}:") else f"{kind}: {label}: {line}"
