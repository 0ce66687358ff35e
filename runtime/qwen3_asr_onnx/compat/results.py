"""The result types of the official package, with its field names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwen3_asr_onnx.results import Word

__all__ = ["ASRTranscription", "ForcedAlignItem", "ForcedAlignResult", "align_result"]


@dataclass(frozen=True)
class ForcedAlignItem:
    """One aligned unit: a word without punctuation, or a single Chinese character. Times are in seconds."""

    text: str
    start_time: float
    end_time: float


@dataclass(frozen=True)
class ForcedAlignResult:
    """The aligned units of one input, in order."""

    items: list[ForcedAlignItem]

    def __iter__(self) -> Iterator[ForcedAlignItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, idx: int) -> ForcedAlignItem:
        return self.items[idx]


@dataclass
class ASRTranscription:
    """What was said in one input.

    Attributes:
        language: language name; several joined with "," if pieces differ; "" when no speech was heard.
        text: the transcript.
        time_stamps: the aligned units if they were asked for and there are any.
    """

    language: str
    text: str
    time_stamps: ForcedAlignResult | None = None


def align_result(words: Sequence[Word]) -> ForcedAlignResult:
    """Return aligned words as the official package does: units without punctuation, times to the millisecond."""
    return ForcedAlignResult(
        [ForcedAlignItem(word.unit or word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in words]
    )
