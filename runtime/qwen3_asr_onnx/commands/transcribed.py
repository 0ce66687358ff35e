"""Jobs through the transcriber: their results in order, what is finished shown and kept on the way."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.audio.loading import probe_duration
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Segment, Transcript

from .console import say
from .delivery import Shown, about
from .progress import AudioMeter
from .signals import Asked
from .worklist import Job

if TYPE_CHECKING:
    from qwen3_asr_onnx.audio.loading import AudioSource
    from qwen3_asr_onnx.transcriber import Transcriber

__all__ = ["durations", "transcribed"]


def transcribed(
    transcriber: Transcriber,
    jobs: Sequence[Job],
    options: TranscribeOptions,
    meter: AudioMeter,
    asked: Asked,
    shown: Shown,
) -> Iterator[tuple[Job, Transcript | Exception]]:
    """Yield each job's transcript, or the error that concerns this job alone, in order; fewer if the end came first.

    Where stdout shows segments as they are done, they are shown.
    """
    label = ""
    handed_out = 0

    def audios() -> Iterator[AudioSource]:
        nonlocal label
        for job in jobs:
            label = job.source.label
            yield job.source.audio

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        # Audio is read one input at a time, so a warning is about the input read last.
        say(about(label, "warning", str(message)))

    def show(segment: Segment) -> None:
        shown.add(jobs[handed_out].source.label, segment)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        results = transcriber.transcribe_many(
            audios(),
            [job.source.options or options for job in jobs],
            errors="return",
            progress=meter.add,
            on_segment=None if shown.growing is None else show,
            cancel=asked.event,
            journals=(job.journal for job in jobs),
        )
        for job, result in zip(jobs, results, strict=False):
            handed_out += 1
            yield job, result
            meter.input_done()


def durations(jobs: Sequence[Job], options: TranscribeOptions) -> Iterator[float | None]:
    """Yield how long each job's audio is that will be heard, as far as its file says; None where it does not."""
    for job in jobs:
        own = job.source.options or options
        whole_s = probe_duration(job.source.audio) if isinstance(job.source.audio, Path) else None
        if whole_s is not None:
            whole_s = max(0.0, min(whole_s, own.end_s or whole_s) - own.start_s)
        yield whole_s
