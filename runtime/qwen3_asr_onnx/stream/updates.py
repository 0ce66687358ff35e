"""The values of live transcription: how a stream is to be run, and what it reports each time it has listened."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from qwen3_asr_onnx.results import Segment, Timings

__all__ = ["StreamUpdate"]


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

    def to_dict(self) -> dict[str, Any]:
        """Return the update as plain dicts, tuples, strings and numbers, ready for `json.dumps`."""
        plain = asdict(replace(self, segment=None))
        return {**plain, "segment": None if self.segment is None else self.segment.to_dict()}
