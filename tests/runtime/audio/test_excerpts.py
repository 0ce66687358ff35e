"""Parts of recordings: from when to when, which channel and track, and mixes of which nothing is left."""

from __future__ import annotations

import io
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.programs import find

from qwen3_asr_onnx import AudioError, AudioLimits, CancelledMixWarning, LimitError, TruncatedAudioWarning
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.blocks import average
from qwen3_asr_onnx.audio.formats import open_stream
from qwen3_asr_onnx.audio.loading import Excerpt, hold_audio, open_audio

RATE = 24_000
SECONDS = 4


def sound(n_channels: int = 1) -> npt.NDArray[np.float32]:
    """Return (n, n_channels) noise that no part of is like another, each channel different."""
    return np.random.default_rng(5).uniform(-0.5, 0.5, (SECONDS * RATE, n_channels)).astype(np.float32)


def read(source: Any, **excerpt: Any) -> Waveform:
    with open_audio(source, excerpt=Excerpt(**excerpt)) as audio:
        return np.concatenate(list(audio.blocks))


def encoded(samples: npt.NDArray[np.float32], **arguments: Any) -> bytes:
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **arguments)
    return file.getvalue()


FORMATS: list[dict[str, Any]] = [
    {"format": "WAV", "subtype": "PCM_16"},
    {"format": "WAV", "subtype": "FLOAT"},
    {"format": "WAV", "subtype": "ULAW"},
    {"format": "FLAC", "subtype": "PCM_24"},
    {"format": "AIFF", "subtype": "PCM_16"},
    {"format": "OGG", "subtype": "VORBIS"},
    {"format": "OGG", "subtype": "OPUS"},
    {"format": "MP3"},
]


@pytest.mark.parametrize("arguments", FORMATS, ids=lambda arguments: "-".join(arguments.values()))
@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 1.5), (1.0, None), (1.2345, 3.21), (3.999, 100.0)])
def test_an_excerpt_is_to_the_sample_what_was_cut_from_the_whole(
    arguments: dict[str, Any], start_s: float, end_s: float | None
) -> None:
    data = encoded(sound(2), **arguments)
    with open_audio(data) as audio:
        assert audio.n_channels == 2
    with hold_audio(data) as held, held.read() as audio:
        assert audio.blocks
    whole = decoded(data)
    cut = whole[round(start_s * RATE) : None if end_s is None else round(end_s * RATE)]
    assert np.array_equal(read(data, start_s=start_s, end_s=end_s), read((cut, RATE)))


def decoded(data: bytes) -> npt.NDArray[np.float32]:
    """Return the mono samples of a file at its own rate."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        return np.concatenate(list(open_stream(io.BytesIO(data), "a", None, 60.0, stack).blocks))


@pytest.mark.parametrize("arguments", FORMATS[:5], ids=lambda arguments: "-".join(arguments.values()))
def test_what_lies_before_is_not_decoded_where_the_format_can_seek(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_asr_onnx.audio import blocks, excerpts

    n_mixed = 0
    to_float = blocks.to_float

    def counted(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        nonlocal n_mixed
        n_mixed += len(samples)
        return to_float(samples)

    monkeypatch.setattr(excerpts, "to_float", counted)
    assert read(encoded(sound(), **arguments), start_s=3.5).size == 8_000
    assert n_mixed == RATE // 2


def test_nothing_is_read_behind_the_end() -> None:
    """A file that is cut there is no reason for a warning, and neither is a sample that is no number."""
    samples = sound()[:, 0]
    samples[3 * RATE] = np.nan
    assert read((samples, RATE), end_s=2.0).size == 32_000
    with pytest.raises(AudioError, match=r"3\.000 s is not a finite number"):
        read((samples, RATE), start_s=2.5)
    data = encoded(sound(), format="WAV")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(data[: len(data) * 3 // 4], start_s=1.0, end_s=2.0).size == 16_000


@pytest.mark.parametrize("source", ["array", "wav", "flac", "mp3"])
def test_a_start_beyond_the_end_is_an_error(source: str) -> None:
    second = sound()[:RATE]
    audio = (second, RATE) if source == "array" else encoded(second, format=source)
    assert read(audio, start_s=0.99).size > 0
    for start_s in (1.2, 50.0):
        with pytest.raises(AudioError, match=rf"ends before {start_s:.2f} s"):
            read(audio, start_s=start_s)


def test_a_start_in_the_lost_part_of_a_cut_file_is_an_error() -> None:
    data = encoded(sound()[:RATE], format="WAV")
    with pytest.raises(AudioError, match=r"ends before 0\.80 s"):
        read(data[: len(data) // 2], start_s=0.8)


def test_the_longest_audio_is_that_of_the_excerpt() -> None:
    limits = AudioLimits(max_duration_s=1.0)
    data = encoded(sound(), format="WAV")
    with open_audio(data, limits, Excerpt(start_s=2.0, end_s=3.0)) as audio:
        assert audio.duration_s == 1.0
        assert sum(block.size for block in audio.blocks) == 16_000
    with pytest.raises(LimitError), open_audio(data, limits, Excerpt(start_s=2.0)) as audio:
        list(audio.blocks)


# --- channels ---


@pytest.mark.parametrize("arguments", FORMATS[:4], ids=lambda arguments: "-".join(arguments.values()))
def test_one_channel_is_what_it_would_be_alone(arguments: dict[str, Any]) -> None:
    samples = sound(3)
    data = encoded(samples, **arguments)
    for channel in (1, 2, 3):
        alone = encoded(samples[:, channel - 1], **arguments)
        assert np.array_equal(read(data, channel=channel), read(alone))
        assert np.array_equal(read((samples, RATE), channel=channel), read((samples[:, channel - 1], RATE)))
    assert np.array_equal(
        read(encoded(samples[:, 0], **arguments), channel=1), read(encoded(samples[:, 0], **arguments))
    )


@pytest.mark.parametrize(("n_channels", "has"), [(1, "1 channel,"), (2, "2 channels,")])
def test_a_channel_that_is_not_there_is_an_error_at_once(n_channels: int, has: str) -> None:
    for source in (encoded(sound(n_channels), format="WAV"), (sound(n_channels), RATE)):
        with (
            pytest.raises(AudioError, match=f"has {has} and channel 5"),
            open_audio(source, excerpt=Excerpt(channel=5)),
        ):
            pass


@pytest.mark.parametrize("gain", [1.0, 0.8])
@pytest.mark.parametrize("seconds", [SECONDS, 40])
def test_a_mix_that_cancels_itself_is_told_once(gain: float, seconds: int) -> None:
    left = np.resize(sound()[:, 0], seconds * RATE)
    with pytest.warns(CancelledMixWarning, match="channels cancel each other") as told:
        read((np.stack([left, -gain * left], axis=1), RATE))
    assert len(told) == 1


def test_other_mixes_are_not_spoken_of() -> None:
    left, right = sound(2).T
    silent = np.zeros_like(left)
    for channels in (
        (left, left),
        (left, right),
        (left, silent),
        (silent, silent),
        (left, silent, silent, -0.3 * left),
    ):
        read((np.stack(channels, axis=1), RATE))
    opposite = np.stack([left, -left], axis=1)
    assert np.abs(read((opposite, RATE), channel=2)).max() > 0.1


# --- tracks ---


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container of two audio tracks, of 1 and 2 channels."""
    folder = tmp_path_factory.mktemp("film")
    pytest.importorskip("soundfile", reason="needs the audio extra")
    for number in (1, 2):
        (folder / f"{number}.wav").write_bytes(encoded(number * 0.4 * sound(number), format="WAV", subtype="PCM_16"))
    program = find("ffmpeg")
    assert program is not None
    inputs = ["-i", str(folder / "1.wav"), "-i", str(folder / "2.wav"), "-map", "0:a", "-map", "1:a"]
    subprocess.run([program, "-v", "error", *inputs, "-c", "copy", str(folder / "film.mka")], check=True)
    return folder / "film.mka"


@pytest.mark.program("ffmpeg")
def test_a_track_is_chosen_by_its_number(film: Path) -> None:
    for number in (1, 2):
        assert np.array_equal(read(film, track=number), read(film.with_name(f"{number}.wav")))
    second = film.with_name("2.wav")
    assert np.array_equal(read(film, track=2, channel=2, start_s=1.5), read(second, channel=2, start_s=1.5))
    assert np.array_equal(read(film.read_bytes(), track=2), read(second))
    with pytest.raises(AudioError, match="no audio track 3"):
        read(film, track=3)
    with pytest.raises(AudioError, match="no audio track 2"):
        read(second, track=2)


def test_a_track_needs_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImportError, match="install ffmpeg"):
        read(encoded(sound(), format="WAV"), track=1)
    with pytest.raises(AudioError, match="an array has no tracks"):
        read((sound(), RATE), track=1)


# --- more than one reading ---


def test_what_can_be_read_only_once_can_be_held(tmp_path: Path) -> None:
    samples = sound(2)
    data = encoded(samples, format="FLAC")

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.left = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, n_bytes: int = -1) -> bytes:
            return self.left.read(n_bytes)

    sources: list[Any] = [Pipe(), io.BytesIO(data), data, (samples, RATE)]
    for source in sources:
        with hold_audio(source) as held:
            for channel in (1, 2, 1):
                with held.read(Excerpt(channel=channel)) as audio:
                    found = np.concatenate(list(audio.blocks))
                assert np.array_equal(found, read(data if not isinstance(source, tuple) else source, channel=channel))


def test_the_mean_of_two_channels_is_that_of_numpy_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    frames = (rng.normal(0, 1, (5000, 2)) * 10 ** rng.uniform(-38, 38, (5000, 2))).astype(np.float32)
    frames[::7] = [np.inf, -np.inf]
    with np.errstate(all="ignore"):
        expected = frames.mean(axis=1, dtype=np.float32)
    assert np.array_equal(average(frames), expected, equal_nan=True)


def test_what_is_missing_of_a_recording_is_told_by_its_first_reading() -> None:
    data = encoded(sound(2), format="WAV")

    def read_both(half: bytes) -> None:
        with hold_audio(half) as held:
            for channel in (1, 2):
                with held.read(Excerpt(channel=channel)) as audio:
                    assert sum(block.size for block in audio.blocks) > 0

    with pytest.warns(TruncatedAudioWarning) as told:
        read_both(data[: len(data) // 2])
    assert len(told) == 1
