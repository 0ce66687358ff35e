"""Segments of one input -> its transcript, and how much of the input is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from qwen3_asr_onnx.results import Segment, StopReason, Timings, Transcript
from qwen3_asr_onnx.text.answer import join_texts, merge_languages

from .recording import Input

__all__ = ["Meter", "Progress", "join_segments"]

Progress: TypeAlias = Callable[[float], object]
"""Called with the seconds of audio just finished."""

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

    def advance_to(self, end_s: float) -> None:
        """Report what lies between the last report and `end_s`."""
        if self._progress is not None and end_s > self._done_s:
            self._progress(end_s - self._done_s)
        self._done_s = max(self._done_s, end_s)

    def finish(self, source: Input) -> None:
        """Report the rest of an input that was read to its end."""
        if source.error is None and source.ended_by is None:
            self.advance_to(source.duration_s)


def join_segments(source: Input, segments: Sequence[Segment], load_s: float, *, timed: bool) -> Transcript:
    """Return the transcript that the segments of one input make; `timed` says whether its words have times."""
    n_logprobs = sum(segment.n_logprobs for segment in segments)
    logprob = sum(segment.avg_logprob * segment.n_logprobs for segment in segments)
    reasons = {segment.stop_reason for segment in segments} | {source.ended_by or "no_speech"}
    return Transcript(
        text=join_texts([(segment.text, segment.language) for segment in segments]),
        language=merge_languages(segment.language for segment in segments),
        duration_s=source.duration_s,
        segments=tuple(segments),
        words=tuple(word for segment in segments for word in segment.words or ()) if timed else None,
        token_ids=tuple(token for segment in segments for token in segment.token_ids),
        stop_reason=next(reason for reason in GRAVITY if reason in reasons),
        avg_logprob=logprob / n_logprobs if n_logprobs else 0.0,
        timings=sum((segment.timings for segment in segments), Timings(load_s=load_s, audio_s=source.read_s)),
    )
