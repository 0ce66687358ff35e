"""A part of a recording transcribed: the text of that part, at the times of the whole; channels each by itself."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip, wav_bytes

from qwen3_asr_onnx import AudioError, OptionsError, TranscribeOptions, Transcriber
from qwen3_asr_onnx.results import Segment
from qwen3_asr_onnx.speech.quiet import Clip, halve_at_quiet
from qwen3_asr_onnx.transcription.journal import Journal

OPTIONS = TranscribeOptions(language="English", max_new_tokens=6, max_segment_s=3.0)
LEFT, RIGHT = synthetic_clip(9.0, seed=1), synthetic_clip(9.0, seed=2)
STEREO = np.stack([LEFT, RIGHT], axis=1)


def told(segment: Segment, offset_s: float = 0.0) -> tuple[Any, ...]:
    phrases = [(phrase.text, round(phrase.start_s + offset_s, 4)) for phrase in segment.phrases or ()]
    return round(segment.start_s + offset_s, 4), round(segment.end_s + offset_s, 4), segment.token_ids, phrases


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 4.0), (2.5, None), (2.5, 7.25)])
def test_an_excerpt_has_the_text_of_that_part_and_the_times_of_the_whole(
    asr: Transcriber, start_s: float, end_s: float | None
) -> None:
    cut = LEFT[int(start_s * SAMPLE_RATE) : None if end_s is None else int(end_s * SAMPLE_RATE)]
    alone = asr.transcribe(cut, OPTIONS)
    found = asr.transcribe(LEFT, OPTIONS, start_s=start_s, end_s=end_s)
    assert [told(segment) for segment in found.segments] == [told(segment, start_s) for segment in alone.segments]
    assert (found.text, found.start_s, found.duration_s) == (alone.text, start_s, cut.size / SAMPLE_RATE)
    reported: list[float] = []
    asr.transcribe(LEFT, OPTIONS, start_s=start_s, end_s=end_s, progress=reported.append)
    assert sum(reported) == pytest.approx(found.duration_s)


def test_channels_are_mixed_taken_or_split(asr: Transcriber) -> None:
    mixed = asr.transcribe(STEREO.mean(axis=1, dtype=np.float32), OPTIONS)
    assert asr.transcribe((STEREO, SAMPLE_RATE), OPTIONS).token_ids == mixed.token_ids
    left, right = (asr.transcribe(samples, OPTIONS) for samples in (LEFT, RIGHT))
    for channels, expected in (("left", left), ("right", right), (1, left), (2, right)):
        found = asr.transcribe((STEREO, SAMPLE_RATE), OPTIONS, channels=channels)
        assert found.token_ids == expected.token_ids
        assert {segment.channel for segment in found.segments} == {None}
    split = asr.transcribe((STEREO, SAMPLE_RATE), OPTIONS, channels="split")
    for channel, expected in ((1, left), (2, right)):
        own = [told(segment) for segment in split.segments if segment.channel == channel]
        assert own == [told(segment) for segment in expected.segments]
    starts = [segment.start_s for segment in split.segments]
    assert starts == sorted(starts)
    assert split.duration_s == 9.0
    assert {segment["channel"] for segment in split.to_dict()["segments"]} == {1, 2}


def test_channels_are_split_of_what_can_be_read_once_and_progress_is_that_of_the_whole(
    asr: Transcriber, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(STEREO))
    expected = asr.transcribe(path, OPTIONS, channels="split", start_s=1.0)
    reported: list[float] = []
    with path.open("rb") as file:
        found = asr.transcribe(file, OPTIONS, channels="split", start_s=1.0, progress=reported.append)
    edges = [(segment.start_s, segment.end_s, segment.channel) for segment in found.segments]
    assert edges == [(segment.start_s, segment.end_s, segment.channel) for segment in expected.segments]
    assert sum(reported) == pytest.approx(8.0)
    assert max(reported) < 4.0


def test_halves_of_a_piece_that_is_heard_again_stay_in_its_channel() -> None:
    assert [half.channel for half in halve_at_quiet(Clip(0, LEFT, 2))] == [2, 2]


def test_a_journal_tells_the_channels_apart(asr: Transcriber, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(STEREO))
    options = replace(OPTIONS, channels="split", batch_size=1)
    whole = asr.transcribe(path, options)
    for n_segments in (1, len(whole.segments) // 2 + 1):
        with Journal(tmp_path / "journal") as journal:
            cancel = threading.Event()
            segments = asr.iter_segments(path, options, cancel=cancel, journal=journal)
            for _ in range(n_segments):
                next(segments)
            cancel.set()
            list(segments)
    with Journal(tmp_path / "journal") as journal:
        found = asr.transcribe(path, options, journal=journal)
        assert journal.recalled_s > 9.0
    assert found.text == whole.text
    assert [told(segment) for segment in found.segments] == [told(segment) for segment in whole.segments]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_s": -1.0}, "start_s is -1.0"),
        ({"start_s": float("nan")}, "start_s is nan"),
        ({"end_s": 0.0}, "end_s is 0.0; give more"),
        ({"start_s": 5.0, "end_s": 5.0}, "more seconds than start_s, which is 5.0"),
        ({"track": 0}, "tracks are counted from 1"),
        ({"channels": "both"}, "channels is 'both'; give mix"),
        ({"channels": 0}, "channels is 0; give mix"),
        ({"channels": True}, "channels is True; give mix"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        TranscribeOptions(**options)


def test_what_the_recording_has_not_is_told_before_the_model_runs(asr: Transcriber) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"channels": 5}, "has 2 channels, and channel 5"),
        ({"start_s": 9.0}, "ends before 9.00 s"),
        ({"track": 2}, "has no tracks"),
    ]
    for options, message in cases:
        with pytest.raises(AudioError, match=message):
            asr.iter_segments((STEREO, SAMPLE_RATE), OPTIONS, **options)
    with pytest.raises(AudioError, match="17 channels, and at most 16 are split"):
        asr.iter_segments((np.zeros((100, 17), np.float32), SAMPLE_RATE), OPTIONS, channels="split")
    parts: list[dict[str, Any]] = [{"start_s": 1.0}, {"end_s": 1.0}, {"track": 1}, {"channels": "left"}]
    for options in parts:
        with pytest.raises(OptionsError, match="a stream is fed what to hear"):
            asr.stream(OPTIONS, **options)
