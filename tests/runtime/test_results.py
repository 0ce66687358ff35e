"""Results as plain values: one way for every output, and what is doubtful about them in words."""

from __future__ import annotations

import json

from qwen3_asr_onnx.results import Phrase, Segment, Timings, Transcript, Word, doubts
from qwen3_asr_onnx.stream.updates import StreamUpdate

WORD = Word("Hi", 0.0, 0.5, start_char=3)
SEGMENT = Segment(0.0, 1.0, "Hi", "English", (1,), "eos", -0.1, words=(WORD,), phrases=(Phrase("Hi", 0.0, 0.5),))
ESTIMATED = {"text": "Hi", "start_s": 0.0, "end_s": 0.5, "estimated": True}


def test_a_segment_says_what_is_estimated_and_where_its_words_stand_in_it() -> None:
    plain = SEGMENT.to_dict()
    assert list(plain["phrases"]) == [ESTIMATED]
    assert plain["words"][0]["start_char"] == 3
    assert json.loads(json.dumps(plain))["text"] == "Hi"


def test_a_transcript_has_the_words_at_the_top_alone() -> None:
    plain = Transcript("Hi", "English", 1.0, (SEGMENT,), (WORD,), (1,), "eos", -0.1, Timings(decode_s=2.0, n_tokens=4))
    found = json.loads(json.dumps(plain.to_dict()))
    assert list(found) == [
        "text", "language", "duration_s", "segments", "words", "token_ids", "stop_reason", "avg_logprob", "timings",
        "start_s",
    ]  # fmt: skip
    assert found["segments"][0]["phrases"] == [ESTIMATED]
    assert "words" not in found["segments"][0]
    assert "start_char" not in found["words"][0]
    assert found["timings"]["tokens_per_s"] == 2.0


def test_an_update_has_its_segment_as_a_transcript_has() -> None:
    assert StreamUpdate("Hi", "", "English", 1.0, SEGMENT).to_dict()["segment"] == SEGMENT.to_dict()
    assert StreamUpdate("Hi", "", "English", 1.0).to_dict()["segment"] is None


def test_what_is_doubtful_is_told_by_number() -> None:
    cut = Segment(1.0, 2.0, "", "", (), "length", 0.0)
    assert doubts([SEGMENT, cut]) == ["segment 1: the text may not be complete: length"]
    assert doubts([cut], 7) == ["segment 7: the text may not be complete: length"]
