"""How far the subtitles of a transcription without an aligner are from when the words are spoken.

Flows in: a bundle of the miniature transcriber and clips with the true time of every word. Flows out: the error of the
cues' first and last moments, for phrases placed at the pauses and for text spread evenly over its segment.

The model's text is not always what was said. Its words (characters in Chinese; case and punctuation ignored) are
matched with the spoken ones by the longest common blocks of `difflib`; a cue's edge counts where its word has a match
whose true time the synthesizer gave exactly, and the others are told in number.
"""

import difflib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mini.measuring.align import describe_errors
from mini.measuring.score import units_of
from mini.speech.corpus import Clip, TimedWord, examples
from mini.speech.voices import Waveform
from qwen3_asr_onnx import Transcriber, Transcript
from qwen3_asr_onnx.outputs.cues import SubtitleStyle, cues


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of one clip's cues: errors in milliseconds where the true time is known, and how many it is not."""

    errors_ms: Sequence[float]
    n_unknown: int


def true_times(text: str, words: Sequence[TimedWord]) -> list[tuple[float | None, float | None]]:
    """Return when each unit of a text begins and ends in seconds, as far as it was said and its time is exact."""
    spoken: list[tuple[str, float | None, float | None]] = []
    for word in words:
        units = units_of(word.text)
        start_s, end_s = (word.start_s, word.end_s) if word.exact else (None, None)
        for number, unit in enumerate(units, start=1):
            spoken.append((unit, start_s if number == 1 else None, end_s if number == len(units) else None))
    written = units_of(text)
    times: list[tuple[float | None, float | None]] = [(None, None)] * len(written)
    matcher = difflib.SequenceMatcher(None, written, [unit for unit, _, _ in spoken], autojunk=False)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            times[block.a + offset] = spoken[block.b + offset][1:]
    return times


def cue_edges(transcript: Transcript, words: Sequence[TimedWord], style: SubtitleStyle) -> Edges:
    """Return how far first and last word of every cue are from where they are spoken.

    The last word's own end counts, not when the cue goes: it may stay to be read.
    """
    times = true_times(" ".join(segment.text for segment in transcript.segments), words)
    errors_ms: list[float] = []
    reached, n_edges = 0, 0
    for cue in cues(transcript, style):
        n_units = len(units_of("\n".join(cue.text_lines)))
        if not n_units:
            continue
        own = times[reached : reached + n_units]
        reached += n_units
        n_edges += 2
        for found_s, true_s in ((cue.start_ms / 1000, own[0][0]), (cue.lines[-1][-1].end_s, own[-1][1])):
            if true_s is not None:
                errors_ms.append(1000 * abs(found_s - true_s))
    assert reached == len(times), "a cue lost words"
    return Edges(errors_ms, n_edges - len(errors_ms))


def evaluate_cues(bundle: Path, count: int, seed: int) -> dict[str, str]:
    """Return the error of cue edges on `count` clips of 3 to 8 sentences, estimated from pauses and spread evenly."""
    clips: deque[Clip] = deque()

    def sounds() -> Iterator[Waveform]:
        for _, clip in examples("long", seed, count):
            clips.append(clip)
            yield clip.waveform

    found: dict[str, list[Edges]] = {}
    with Transcriber(bundle) as asr:
        for transcript in asr.transcribe_many(sounds()):
            words = clips.popleft().words
            bare = tuple(replace(segment, phrases=None) for segment in transcript.segments)
            for name, told in (("at the pauses", transcript), ("evenly", replace(transcript, segments=bare))):
                found.setdefault(name, []).append(cue_edges(told, words, SubtitleStyle()))
    return {name: _described(edges) for name, edges in found.items()}


def _described(edges: Sequence[Edges]) -> str:
    known = describe_errors([clip.errors_ms for clip in edges])
    return f"{known}; {sum(clip.n_unknown for clip in edges)} edges at words that were not said"
