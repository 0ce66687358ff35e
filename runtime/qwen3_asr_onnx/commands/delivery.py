"""What becomes of the results of `transcribe`: into files or to stdout, counted, and the failures told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_asr_onnx.outputs.saving import write_atomically
from qwen3_asr_onnx.outputs.writers import Writer
from qwen3_asr_onnx.results import Segment, StopReason, Transcript

from .console import emit, say
from .worklist import Job

__all__ = ["Delivery", "Tally", "about", "about_untagged", "reason"]

PARTIAL: frozenset[StopReason] = frozenset({"time_limit", "cancelled"})
"""Stop reasons of results that end before their audio does."""


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
    """Hands results over: into the job's output files, or to stdout when it has none."""

    stdout_format: str
    tally: Tally
    writers: Mapping[str, Writer]

    def deliver(self, job: Job, transcript: Transcript) -> None:
        """Write one result.

        Raises:
            OSError: an output file or stdout cannot take it.
        """
        if job.outputs:
            for name, path in job.outputs.items():
                write_atomically(_marked(path, transcript), self.writers[name](transcript))
        else:
            emit(self._stdout_text(job.source.label, transcript))
        if transcript.stop_reason in PARTIAL:
            self.tally.add_failure(job.source.label, _how_partial(job, transcript))
        else:
            self.tally.n_done += 1

    def _stdout_text(self, label: str, transcript: Transcript) -> str:
        if self.stdout_format == "json":
            return json.dumps({"input": label, **transcript.to_dict()}, ensure_ascii=False) + "\n"
        text = self.writers[self.stdout_format](transcript)
        if self.tally.n_inputs == 1:
            return text
        separator = "\n" if self.tally.n_done else ""
        return f"{separator}==> {label} <==\n{text}"  # as head and tail mark several files


def _marked(path: Path, transcript: Transcript) -> Path:
    """Return where to write: a partial result has a name of its own, so that --resume makes the whole one."""
    return path.with_name(f"{path.stem}.partial{path.suffix}") if transcript.stop_reason in PARTIAL else path


def _how_partial(job: Job, transcript: Transcript) -> str:
    done_s = max((segment.end_s for segment in transcript.segments), default=0.0)
    where = ", ".join(str(_marked(path, transcript)) for path in job.outputs.values())
    return f"the time limit was reached; the text up to {done_s:.1f} s is kept" + (f" in {where}" if where else "")


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
