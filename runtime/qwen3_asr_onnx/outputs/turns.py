"""What was said on several channels, as people take turns: segments that overlap in, lines of one speaker each out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qwen3_asr_onnx.results import Transcript
from qwen3_asr_onnx.text.answer import TextJoiner

from .cues import SubtitleStyle, channel_labels, cues

__all__ = ["Turn", "has_turns", "turns"]

_PHRASES = SubtitleStyle(max_line_width=100_000, max_lines=1)
"""Cues of one line: sentences and clauses with their times."""


@dataclass(slots=True)
class Turn:
    """What one channel says before another does. Times are seconds from the start of the recording."""

    label: str
    start_s: float
    end_s: float
    text: str = ""
    _joiner: TextJoiner = field(default_factory=TextJoiner)

    def add(self, text: str, language: str, end_s: float) -> None:
        """Go on with what follows."""
        self.text += self._joiner.add(text, language)
        self.end_s = end_s


def has_turns(transcript: Transcript) -> bool:
    """Return whether channels were transcribed each by itself."""
    return any(segment.channel is not None for segment in transcript.segments)


def turns(transcript: Transcript) -> Iterator[Turn]:
    """Yield who says what when, in order, by the measured or estimated times inside segments."""
    labels = channel_labels(transcript)
    languages = {labels[segment.channel]: segment.language for segment in transcript.segments if segment.language}
    turn: Turn | None = None
    for cue in cues(transcript, _PHRASES):
        if turn is None or turn.label != cue.label:
            if turn is not None:
                yield turn
            turn = Turn(cue.label, cue.start_ms / 1000, cue.end_ms / 1000)
        turn.add(" ".join(cue.text_lines), languages.get(cue.label, ""), cue.end_ms / 1000)
    if turn is not None:
        yield turn
