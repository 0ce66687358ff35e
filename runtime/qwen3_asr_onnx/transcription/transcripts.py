"""Segments as the pipeline finishes them -> those of one input, transcripts of many, and how much is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from qwen3_asr_onnx.results import Segment, StopReason, Timings, Transcript
from qwen3_asr_onnx.text.answer import join_texts, merge_languages

from .recording import Input, InputError
from .scheduler import Pipeline

__all__ = ["Meter", "OnSegment", "Progress", "iter_segments", "iter_transcripts", "join_segments"]

Progress: TypeAlias = Callable[[float], object]
"""Called with the seconds of audio just finished."""

OnSegment: TypeAlias = Callable[[Segment], object]
"""Called with a segment that was just finished."""

GRAVITY: tuple[StopReason, ...] = (
    "cancelled",
    "time_limit",
    "length",
    "repetition",
    "context_leak",
    "no_tag",
    "eos",
    "no_speech",
)
"""Stop reasons of segments from gravest to mildest: a transcript reports its gravest."""


class Meter:
    """Reports the seconds of one input that are finished: to the end of the last segment, then to the end."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done_s = 0.0

    def advance_to(self, done_s: float) -> None:
        """Report what was done since the last report, of `done_s` seconds in all."""
        if self._progress is not None and done_s > self._done_s:
            self._progress(done_s - self._done_s)
        self._done_s = max(self._done_s, done_s)

    def finish(self, source: Input) -> None:
        """Report the rest of an input that was read to its end."""
        if source.error is None and source.ended_by is None:
            self.advance_to(source.duration_s)


def iter_segments(pipeline: Pipeline, source: Input, progress: Progress | None) -> Iterator[Segment]:
    """Yield the segments of one input; raise what is wrong with it behind them."""
    meter = Meter(progress)
    for _, segment in pipeline.run(iter([source])):
        if segment is not None:
            meter.advance_to(source.done_s(segment))
            yield segment
    meter.finish(source)
    if source.error is not None:
        raise source.error


def iter_transcripts(
    pipeline: Pipeline,
    sources: Iterator[Input],
    load_s: float,
    errors: Literal["raise", "return"],
    progress: Progress | None,
    on_segment: OnSegment | None,
) -> Iterator[Transcript | InputError]:
    """Yield the transcript of each input, in order; see `Transcriber.transcribe_many`."""
    segments: list[Segment] = []
    meter = Meter(progress)
    for source, segment in pipeline.run(sources):
        if segment is not None:
            if on_segment is not None:
                on_segment(segment)
            meter.advance_to(source.done_s(segment))
            segments.append(segment)
            continue
        meter.finish(source)
        if source.error is None:
            yield join_segments(source, segments, load_s)
        elif errors == "raise":
            raise source.error
        else:
            yield source.error
        segments = []
        meter = Meter(progress)


def join_segments(source: Input, segments: Sequence[Segment], load_s: float) -> Transcript:
    """Return the transcript that the segments of one input make."""
    segments = sorted(segments, key=lambda segment: segment.start_s)  # several channels came one after the other
    n_logprobs = sum(segment.n_logprobs for segment in segments)
    logprob = sum(segment.avg_logprob * segment.n_logprobs for segment in segments)
    reasons = {segment.stop_reason for segment in segments} | {source.ended_by or "no_speech"}
    return Transcript(
        text=join_texts([(segment.text, segment.language) for segment in segments]),
        language=merge_languages(segment.language for segment in segments),
        duration_s=source.duration_s,
        segments=tuple(segments),
        words=tuple(word for segment in segments for word in segment.words or ()) if source.timed else None,
        token_ids=tuple(token for segment in segments for token in segment.token_ids),
        stop_reason=next(reason for reason in GRAVITY if reason in reasons),
        avg_logprob=logprob / n_logprobs if n_logprobs else 0.0,
        timings=sum((segment.timings for segment in segments), Timings(load_s=load_s, audio_s=source.read_s)),
        start_s=source.start_s,
    )
