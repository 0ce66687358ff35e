"""The values that flow through the pipeline: arrays with their shapes and units, options in, transcripts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

__all__ = ["End", "Partial", "Phrase", "Segment", "StopReason", "Timings", "Transcript", "Word", "WordFlag", "doubts"]

StopReason: TypeAlias = Literal[
    "eos", "length", "repetition", "context_leak", "no_tag", "no_speech", "time_limit", "cancelled"
]
"""Why decoding ended.

- eos: the model stopped.
- length: the token limit was reached; text may be missing.
- repetition: the model looped, again after a second attempt; one copy of what it repeated is kept.
- context_leak: near-silent audio gave words of the context only; the text was dropped.
- no_tag: on audio that is not near-silent the model wrote something without the tag that a transcript stands behind; it
  is not taken for one.
- no_speech: the model stopped without writing a word.
- time_limit, cancelled: the call was ended from outside; the text is what was there by then.
"""

End: TypeAlias = Literal["stop_token", "limit", "watch", "interrupt"]
"""Why the writing of an answer ended: the model wrote a stop token; the token limit was reached; who watched the ids
asked for it; the whole batch was told to stop."""

WordFlag: TypeAlias = Literal[
    "out_of_order", "beyond_end", "plateau", "zero_length", "improbable", "unsupported_language", "text_mismatch"
]
"""What makes the times of a word less certain than usual: the model's times did not follow each other and were
repaired; they lie after the end of the audio; neighbours share one time; the word has no length; the model itself gave
the times a low probability; the aligner was not trained on the language; the whole text does not seem to be what is
said."""


@dataclass(frozen=True, slots=True)
class Word:
    """One aligned word. Times are seconds from the start of the input audio.

    Attributes:
        text: the word as the transcript writes it, punctuation included, without surrounding spaces.
        start_s: where it begins.
        end_s: where it ends, never before it begins; words follow each other in order.
        probability: the model's own, the geometric mean over both boundaries; None when unknown.
        flags: what makes the times less certain than usual, in the order of `WordFlag`; usually nothing.
        unit: what was aligned: the letters, digits and apostrophes of `text`; "" when unknown.
        space_after: whether the transcript has white space between this word and the next.
        start_char: where `text` begins in the text that was aligned, which for a transcript is that of the segment;
            None when unknown.
    """

    text: str
    start_s: float
    end_s: float
    probability: float | None = None
    flags: tuple[WordFlag, ...] = ()
    unit: str = ""
    space_after: bool = True
    start_char: int | None = None


@dataclass(frozen=True, slots=True)
class Phrase:
    """A sentence, a clause, or what is said between two silences, and about when.

    Times are seconds from the start of the input audio, estimated from the silences and the length of the text.

    Attributes:
        text: as the transcript writes it, punctuation included, without surrounding spaces.
        start_s: where it begins.
        end_s: where it ends, never before it begins; phrases follow each other in order.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds spent per stage, and the tokens they gave.

    Attributes:
        load_s: loading the model, once for all that it transcribes; 0 in the timings of a segment.
        audio_s: reading, resampling, cutting.
        mel_s: log-mel features.
        encoder_s: audio encoder.
        prefill_s: decoder over the prompt.
        decode_s: decoder over the generated tokens; rows that decode together share the time.
        n_tokens: generated ids.
        align_s: forced aligner over audio and text.
    """

    load_s: float = 0.0
    audio_s: float = 0.0
    mel_s: float = 0.0
    encoder_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    n_tokens: int = 0
    align_s: float = 0.0

    @property
    def tokens_per_s(self) -> float:
        """Generated ids per second of decoding; 0.0 when nothing was decoded."""
        return self.n_tokens / self.decode_s if self.decode_s else 0.0

    def __add__(self, other: Timings) -> Timings:
        """Return the sums; the model was loaded once, so the larger `load_s` stands."""
        return Timings(
            max(self.load_s, other.load_s),
            self.audio_s + other.audio_s,
            self.mel_s + other.mel_s,
            self.encoder_s + other.encoder_s,
            self.prefill_s + other.prefill_s,
            self.decode_s + other.decode_s,
            self.n_tokens + other.n_tokens,
            self.align_s + other.align_s,
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
        token_logprobs: natural-log probability of each of `token_ids`, from the logits that chose it.
        language_probability: probability of the language the model named; None when it was forced or none was named.
        retried: the model looped on a longer piece, which was cut in two; this is one half.
        timings: seconds spent on this piece.
        words: aligned words; None unless word times were asked for.
        n_logprobs: how many probabilities `avg_logprob` is the mean of: the stop token has one, where one was written.
        phrases: the text in parts with estimated times; None where words were asked for, whose times are measured.
        channel: of the recording, counted from 1, where each was transcribed by itself; None otherwise.
    """

    start_s: float
    end_s: float
    text: str
    language: str
    token_ids: tuple[int, ...]
    stop_reason: StopReason
    avg_logprob: float
    token_logprobs: tuple[float, ...] = ()
    language_probability: float | None = None
    retried: bool = False
    timings: Timings = field(default_factory=Timings)
    words: tuple[Word, ...] | None = None
    n_logprobs: int = 0
    phrases: tuple[Phrase, ...] | None = None
    channel: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the segment as plain dicts, tuples, strings and numbers, ready for `json.dumps`."""
        plain = asdict(self)
        for phrase in plain["phrases"] or ():
            phrase["estimated"] = True  # whoever reads it has not read these classes
        return plain


@dataclass(frozen=True, slots=True)
class Partial:
    """What the first unfinished piece of an input says so far; its `Segment` comes when it is finished.

    Attributes:
        start_s: where the piece begins, in seconds from the start of the input audio.
        text: what the text of the segment will begin with, unless the model turns out to loop or to repeat the context.
        raw: what the model wrote so far, as it wrote it: `language English<asr_text>` stands before the text, unless
            the language is forced.
    """

    start_s: float
    text: str
    raw: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of transcribing one input.

    Attributes:
        text: the whole transcript.
        language: language name, or several joined with "," in order of appearance; "" when there was no speech.
        duration_s: length of the input audio in seconds; of the part that was read when only a part was asked for, or
            when the call was ended early.
        segments: the pieces, in order; those of several channels by the time they begin at. Audio that holds no speech
            has none with split="vad".
        words: aligned words; None unless word times were asked for.
        token_ids: generated ids of all segments, in order.
        stop_reason: the gravest of the segments' reasons (time_limit and cancelled, then length, repetition,
            context_leak, no_tag, eos, no_speech).
        avg_logprob: mean log probability over all generated ids and stop tokens.
        timings: seconds spent in total.
        start_s: where in the recording that part begins.
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
    start_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as plain dicts, lists, strings and numbers, ready for `json.dumps`."""
        plain = asdict(replace(self, segments=()))
        plain["timings"]["tokens_per_s"] = self.timings.tokens_per_s
        plain["segments"] = [segment.to_dict() for segment in self.segments]
        for segment in plain["segments"]:
            del segment["words"]  # they stand at the top, all together
        for word in plain["words"] or ():
            del word["start_char"]  # it counts in the segment, and at the top nothing says in which
        return plain


_INCOMPLETE: tuple[StopReason, ...] = ("length", "time_limit", "cancelled", "repetition", "no_tag")


def doubts(segments: Sequence[Segment], first: int = 0) -> list[str]:
    """Return a line about each segment whose text may not be complete.

    Args:
        segments: in order.
        first: number of the first of them.
    """
    return [
        f"segment {number}: the text may not be complete: {segment.stop_reason}"
        for number, segment in enumerate(segments, first)
        if segment.stop_reason in _INCOMPLETE
    ]
