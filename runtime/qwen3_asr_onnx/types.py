"""The values that flow through the pipeline: arrays with their shapes and units, options in, transcripts out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import OptionsError

__all__ = [
    "SAMPLE_RATE",
    "AudioFeatures",
    "Mel",
    "Segment",
    "StopReason",
    "Timings",
    "TranscribeOptions",
    "Transcript",
    "Waveform",
    "Word",
]

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the pipeline."""

Waveform: TypeAlias = npt.NDArray[np.float32]
"""(n_samples,) float32, mono, 16 kHz, in [-1, 1]."""

Mel: TypeAlias = npt.NDArray[np.float32]
"""(n_mels, n_frames) float32 log-mel features, 100 frames per second."""

AudioFeatures: TypeAlias = npt.NDArray[np.float32]
"""(n_audio_tokens, hidden_size) float32 encoder output, 13 tokens per second."""

StopReason: TypeAlias = Literal["eos", "length", "repetition", "no_speech"]
"""Why decoding ended: the model stopped; the token limit was reached; the model looped and the loop was collapsed; the
model stopped without writing a word."""


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """How to transcribe. Every field has a default that suits a file of unknown content.

    Attributes:
        language: name ("English") or code ("en") to force; None lets the model detect it.
        context: background text for the system turn, for example names. Special tokens in it are plain text.
        timestamps: word times through the forced aligner (needs an aligner bundle).
        max_new_tokens: limit of generated tokens per segment; None allows 64 + 32 per second of audio, more than
            any speech needs.
        max_segment_s: longest piece given to the model at once, in seconds; longer audio is cut at quiet points.
        batch_size: how many segments or files are decoded together by `transcribe_many`.

    Raises:
        OptionsError: a number is out of range.
    """

    language: str | None = None
    context: str = ""
    timestamps: bool = False
    max_new_tokens: int | None = None
    max_segment_s: float = 1200.0
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise OptionsError(f"max_new_tokens is {self.max_new_tokens}; give at least 1, or None for no fixed limit")
        if not 1.0 <= self.max_segment_s <= 1200.0:
            raise OptionsError(f"max_segment_s is {self.max_segment_s}; the model takes pieces of 1 to 1200 seconds")
        if self.batch_size < 1:
            raise OptionsError(f"batch_size is {self.batch_size}; give at least 1")


@dataclass(frozen=True, slots=True)
class Word:
    """One aligned word. Times are seconds from the start of the input audio."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds spent per stage.

    Attributes:
        audio_s: reading, resampling.
        mel_s: log-mel features.
        encoder_s: audio encoder.
        prefill_s: decoder over the prompt.
        decode_s: decoder over the generated tokens.
    """

    audio_s: float = 0.0
    mel_s: float = 0.0
    encoder_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        return Timings(
            self.audio_s + other.audio_s,
            self.mel_s + other.mel_s,
            self.encoder_s + other.encoder_s,
            self.prefill_s + other.prefill_s,
            self.decode_s + other.decode_s,
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of audio as the model saw it. Times are seconds from the start of the input audio.

    Attributes:
        start_s: where the piece begins.
        end_s: where the piece ends.
        text: parsed, cleaned transcript of the piece.
        language: the forced or detected language name; "" when there was no speech.
        token_ids: every id the model generated, stop token excluded.
        stop_reason: why decoding ended.
        avg_logprob: mean natural-log probability of the generated ids, stop token included; 0.0 when none.
        timings: seconds spent on this piece.
    """

    start_s: float
    end_s: float
    text: str
    language: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    avg_logprob: float
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of transcribing one input.

    Attributes:
        text: the whole transcript.
        language: language name, or several joined with "," in order of appearance; "" when there was no speech.
        duration_s: length of the input audio in seconds.
        segments: the pieces, in order.
        words: aligned words; None unless word times were asked for.
        token_ids: generated ids of all segments, in order.
        stop_reason: the gravest of the segments' reasons (length, then repetition, then eos, then no_speech).
        avg_logprob: mean log probability over all generated ids.
        timings: seconds spent in total.
    """

    text: str
    language: str
    duration_s: float
    segments: tuple[Segment, ...]
    words: tuple[Word, ...] | None
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    avg_logprob: float
    timings: Timings = field(default_factory=Timings)

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as plain dicts, lists, strings and numbers, ready for `json.dumps`."""
        return asdict(self)
