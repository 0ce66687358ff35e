"""How the errors of subtitles are counted: on words whose times are known, and on a transcript that is right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the export extra")

from mini.measuring.cues import cue_edges, true_times
from mini.speech.corpus import TimedWord
from qwen3_asr_onnx import Transcriber, Transcript
from qwen3_asr_onnx.outputs.cues import SubtitleStyle
from qwen3_asr_onnx.results import Phrase, Segment

pytestmark = pytest.mark.torch

CLIPS = Path(__file__).resolve().parents[2] / "data" / "mini-clips"

SAID = [
    TimedWord("Call", "call", 1.0, 1.3, True),
    TimedWord("Anna.", "anna", 1.3, 1.8, True),
    TimedWord("Set", "set", 3.0, 3.3, True),
    TimedWord("twenty-five", "twenty five", 3.3, 4.0, True),
    TimedWord("minutes.", "minutes", 4.0, 4.5, False),
]
STYLE = SubtitleStyle(min_duration_s=0.1)


def told(text: str, *phrases: Phrase) -> Transcript:
    segment = Segment(0.0, 5.0, text, "English", (1,), "eos", -0.1, phrases=phrases)
    return Transcript(text, "English", 5.0, (segment,), None, (1,), "eos", -0.1)


def test_only_words_that_were_said_have_a_true_time() -> None:
    assert true_times("Call Hanna. Set twenty-five minutes.", SAID) == [
        (1.0, 1.3),
        (None, None),
        (3.0, 3.3),
        (3.3, None),
        (None, 4.0),
        (None, None),
    ]


def test_edges_are_those_of_the_words_not_of_what_is_shown_longer() -> None:
    phrases = (Phrase("Call Anna.", 1.1, 1.7), Phrase("Set twenty-five minutes.", 2.75, 4.5))
    edges = cue_edges(told("Call Anna. Set twenty-five minutes.", *phrases), SAID, STYLE)
    assert edges.errors_ms == pytest.approx([100, 100, 250])
    assert edges.n_unknown == 1  # the synthesizer did not say when "minutes" ends


def test_cues_of_a_real_transcript_begin_and_end_with_their_words(mini_bundle: Path) -> None:
    """Far from the bar of 0.35 s, which is that of 300 clips: one clip may be worse, chance would be."""
    pytest.importorskip("soundfile", reason="needs the audio extra")
    rows = map(json.loads, (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    row = next(row for row in rows if row["file"] == "en_story_70s.flac")
    with Transcriber(mini_bundle) as asr:
        transcript = asr.transcribe(CLIPS / row["file"], max_segment_s=8.0)
    words = [TimedWord(text, text, start_s, end_s, True) for text, start_s, end_s in row["words"]]
    bare = tuple(replace(segment, phrases=None) for segment in transcript.segments)
    found, evenly = (
        cue_edges(told, words, STYLE).errors_ms for told in (transcript, replace(transcript, segments=bare))
    )
    assert len(found) > 30
    assert sum(found) / len(found) < 100 < sum(evenly) / len(evenly)


def test_a_transcript_without_phrases_is_measured_too() -> None:
    transcript = told("Call Anna. Set twenty-five minutes.")
    bare = replace(transcript, segments=(replace(transcript.segments[0], phrases=None),))
    assert max(cue_edges(bare, SAID, STYLE).errors_ms) > 800
