"""The values of live transcription: how a stream is to be run, and what it reports each time it has listened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .errors import OptionsError
from .types import Segment, Timings

__all__ = ["PolicyName", "StreamOptions", "StreamUpdate"]

PolicyName: TypeAlias = Literal["incremental", "official"]
"""How the model is asked again as audio grows. "incremental": finished 8 s windows and the decoder's memory of them are
kept, the last hypothesis is checked in one pass, work per chunk is bounded. "official": the policy of the official
package (qwen-asr 0.0.6), which feeds everything again each time and slows down as the stream goes on."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to run a stream. The defaults suit live captions.

    Attributes:
        policy: see `PolicyName`.
        chunk_s: seconds of new audio between two hypotheses. Smaller shows words sooner and computes more.
        horizon_s: incremental only: longest stretch of audio the model attends to at once. A stretch ends at a pause
            long before; without any pause it is cut at its quietest moment.
        hold_back: incremental only: how many tokens at the end of a hypothesis are never committed while audio follows.
        skip_silence: incremental only: whether stretches without sound are kept from the model.
        unfixed_chunks: official only: how many first chunks start without the text so far.
        unfixed_tokens: official only: how many tokens of the text so far are written anew each time.

    Raises:
        OptionsError: a value is out of range.
    """

    policy: PolicyName = "incremental"
    chunk_s: float = 2.0
    horizon_s: float = 24.0
    hold_back: int = 5
    skip_silence: bool = True
    unfixed_chunks: int = 2
    unfixed_tokens: int = 5

    def __post_init__(self) -> None:
        if self.policy not in ("incremental", "official"):
            raise OptionsError(f"policy is {self.policy!r}; give 'incremental' or 'official'")
        if not 0.1 <= self.chunk_s <= 60.0:
            raise OptionsError(f"chunk_s is {self.chunk_s}; give 0.1 to 60 seconds")
        if not 16.0 <= self.horizon_s <= 120.0:
            raise OptionsError(f"horizon_s is {self.horizon_s}; give 16 to 120 seconds")
        for name in ("hold_back", "unfixed_chunks", "unfixed_tokens"):
            if getattr(self, name) < 0:
                raise OptionsError(f"{name} is {getattr(self, name)}; give 0 or more")


@dataclass(frozen=True, slots=True)
class StreamUpdate:
    """What a stream knows after it has listened to another chunk, or has finished a segment.

    The `committed` of all updates, joined without anything between, are the transcript of the stream.

    Attributes:
        committed: text that is final since this update; it begins with the space that parts it from what was committed
            before, if one belongs there.
        tentative: text heard after the committed text, which the next update replaces.
        language: language of the current segment; "" while none is known.
        heard_s: how far the stream was heard for this update, in seconds from its start.
        segment: the segment that this update ends; None while one goes on.
        timings: seconds spent computing this update.
    """

    committed: str
    tentative: str
    language: str
    heard_s: float
    segment: Segment | None = None
    timings: Timings = field(default_factory=Timings)
