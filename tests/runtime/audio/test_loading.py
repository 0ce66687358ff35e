"""Reading audio: every kind of source, every sample format, and what is said about bad ones."""

import base64
import contextlib
import errno
import io
import os
import signal
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qwen3_asr_onnx.audio import downloads, ffmpeg, formats, resampling
from qwen3_asr_onnx.audio.downloads import url_label
from qwen3_asr_onnx.audio.loading import AUDIO_SUFFIXES, AudioLimits, TruncatedAudioWarning, load_audio
from qwen3_asr_onnx.audio.resampling import SincResampler, make_resampler, n_resampled
from qwen3_asr_onnx.audio.waiting import is_waiting
from qwen3_asr_onnx.commands.signals import ending_signals_raise
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra

DATA = Path(__file__).parents[2] / "data" / "audio"
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE

FloatArray = npt.NDArray[np.float32]


def tone(n_samples: int, rate: int = 16_000, hz: float = 440.0, amplitude: float = 0.5) -> FloatArray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / rate)).astype(np.float32)


def wav(
    data: bytes, *, tag: int = PCM, channels: int = 1, rate: int = 16_000, width: int = 2, claims: int | None = None
) -> bytes:
    """Return a WAV file; `claims` is the data size its header states, if not the true one."""
    fmt = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if claims is None else claims) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pcm16(samples: FloatArray) -> bytes:
    return np.round(samples * 32_767).astype("<i2").tobytes()


def no_extra(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Behave as if the modules were not installed."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


# --- sample formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "width", "dtype", "tolerance"),
    [(PCM, 1, "u1", 1 / 127), (PCM, 2, "<i2", 4e-5), (PCM, 4, "<i4", 1e-6), (FLOAT, 4, "<f4", 0), (FLOAT, 8, "<f8", 0)],
)
def test_wav_of_every_plain_width_is_read(tag: int, width: int, dtype: str, tolerance: float) -> None:
    samples = tone(3_000)
    if tag == FLOAT:
        data = samples.astype(dtype)
    elif width == 1:
        data = np.round(samples * 127 + 128).astype(dtype)
    else:
        data = np.round(samples.astype(np.float64) * (2 ** (8 * width - 1) - 1)).astype(dtype)
    np.testing.assert_allclose(load_audio(wav(data.tobytes(), tag=tag, width=width)), samples, rtol=0, atol=tolerance)


def test_24_bit_wav_is_read() -> None:
    samples = tone(3_000)
    wide = np.round(samples.astype(np.float64) * (2**23 - 1)).astype("<i4")
    data = wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    np.testing.assert_allclose(load_audio(wav(data, width=3)), samples, rtol=0, atol=1e-6)


def test_extensible_wav_with_extra_chunks_is_read() -> None:
    samples = tone(1_001)
    fmt = struct.pack("<HHIIHH", EXTENSIBLE, 1, 16_000, 32_000, 2, 16) + struct.pack("<HHI", 22, 16, 4)
    fmt += struct.pack("<H", PCM) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVELIST" + struct.pack("<I", 3) + b"abc\0" + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", 2_002) + pcm16(samples) + b"LIST" + struct.pack("<I", 2) + b"zz"
    np.testing.assert_allclose(load_audio(b"RIFF" + struct.pack("<I", len(body)) + body), samples, rtol=0, atol=4e-5)


def test_rf64_takes_the_size_from_its_own_chunk() -> None:
    file = wav(pcm16(tone(500)), claims=0xFFFFFFFF)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, 1_000, 500, 0)
    rf64 = b"RF64" + file[4:12] + ds64 + file[12:]
    assert len(load_audio(rf64 + b"trailing bytes")) == 500


@pytest.mark.parametrize("claims", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_wav_written_to_a_pipe_is_read_to_its_end(claims: int) -> None:
    file = bytearray(wav(pcm16(tone(500)), claims=claims))
    file[4:8] = struct.pack("<I", 0 if claims == 0 else 0xFFFFFFFF)
    assert len(load_audio(bytes(file))) == 500


@pytest.mark.parametrize("channels", [2, 8])
def test_channels_are_averaged(channels: int) -> None:
    frames = np.arange(channels, dtype=np.float32)[None, :] / 10 + tone(400)[:, None] / 10
    audio = load_audio(wav(frames.astype("<f4").tobytes(), tag=FLOAT, channels=channels, width=4))
    np.testing.assert_allclose(audio, frames.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("name", "duration_s"), [("en_jfk_5s.flac", 5.0), ("en_jfk.mp3", 11.0), ("en_jfk.opus", 11.0)])
def test_compressed_formats_are_read(name: str, duration_s: float) -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    audio = load_audio(DATA / name)
    assert audio.dtype == np.float32
    assert len(audio) == duration_s * 16_000
    reference = load_audio(DATA / "en_jfk_5s.flac")
    similarity = np.corrcoef(audio[: len(reference)], reference)[0, 1]
    assert similarity > 0.98


@pytest.mark.parametrize(("name", "n_samples"), [("en_weather_mulaw.wav", 32_480), ("zh_short_48k.flac", 15_360)])
def test_other_codecs_and_rates_are_read(name: str, n_samples: int) -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    assert abs(len(load_audio(DATA / name)) - n_samples) <= 400


@pytest.mark.parametrize("name", ["sonnet1_9s.mp4", "sonnet1_9s.webm"])
@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.program("ffmpeg")
def test_ffmpeg_reads_the_rest(name: str, as_bytes: bool) -> None:
    audio = load_audio((DATA / name).read_bytes() if as_bytes else DATA / name)
    assert len(audio) / 16_000 == pytest.approx(9.0, abs=0.1)
    assert 0.3 < np.abs(audio).max() < 0.8


# --- sources --------------------------------------------------------------------------------------------------------


class Unseekable(io.RawIOBase):
    """A pipe: gives a few bytes at a time, and cannot go back."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self.content.read(min(len(buffer), 1_000))
        buffer[: len(piece)] = piece
        return len(piece)


def test_every_source_gives_the_same_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = wav(pcm16(tone(5_000)))
    path = tmp_path / "a clip, 100% ünï.wav"
    path.write_bytes(file)
    expected = load_audio(path)
    half_read = io.BytesIO(b"junk" + file)
    half_read.seek(4)
    encoded = base64.b64encode(file).decode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file)))
    with path.open("rb") as opened:
        sources: list[Any] = [str(path), file, bytearray(file), memoryview(file), io.BytesIO(file), opened, half_read]
        sources += [Unseekable(file), "-", f"data:audio/wav;base64,{encoded}", (expected, 16_000), expected]
        for source in sources:
            np.testing.assert_array_equal(load_audio(source), expected)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    np.testing.assert_array_equal(load_audio(f"~/{path.name}"), expected)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint8"])
def test_integer_arrays_are_divided_by_full_scale(dtype: str) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    middle = (low + high + 1) // 2
    samples = np.array([low, middle, middle + (high - middle) // 4], dtype=dtype)
    np.testing.assert_allclose(load_audio((samples, 16_000)), [-1.0, 0.0, 0.25], atol=0.01)


def test_quiet_integers_stay_quiet() -> None:
    assert load_audio((np.array([100, -100], dtype=np.int16), 16_000)).max() == pytest.approx(100 / 32_768)


def test_float_beyond_one_is_scaled_by_its_peak() -> None:
    samples = np.array([0.5, -2.0, 1.0])
    np.testing.assert_allclose(load_audio(samples), [0.25, -1.0, 0.5])
    np.testing.assert_array_equal(samples, [0.5, -2.0, 1.0])


@pytest.mark.parametrize(("shape", "n_frames"), [((1, 2), 1), ((2, 2), 2), ((4, 6), 4), ((100, 12), 100)])
def test_where_the_shape_does_not_tell_frames_come_first(shape: tuple[int, int], n_frames: int) -> None:
    assert load_audio(np.zeros(shape, np.float32)).shape == (n_frames,)


def test_many_channels_first_are_not_averaged_into_a_click() -> None:
    with pytest.raises(AudioError, match=r"shape \(12, 16000\); is that 12 channels or 16000"):
        load_audio(np.zeros((12, 16_000), np.float32))


@pytest.mark.parametrize("shape", [(1_000, 2), (2, 1_000), (1_000, 8), (8, 1_000), (1, 1_000), (1_000, 1)])
def test_either_order_of_axes_is_understood(shape: tuple[int, int]) -> None:
    mono = tone(1_000)
    samples = np.broadcast_to(mono[:, None] if shape[0] == 1_000 else mono[None, :], shape)
    np.testing.assert_allclose(load_audio((samples, 16_000)), mono, atol=1e-6)


# --- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("with_soxr", [True, False])
def test_a_tone_survives_any_rate(rate: int, with_soxr: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_soxr:
        pytest.importorskip("soxr", reason="needs the audio extra")
    else:
        no_extra(monkeypatch, "soxr")
    hz = 0.4 * min(rate, 16_000)
    audio = load_audio((tone(rate + 3, rate, hz), rate))
    assert len(audio) == n_resampled(rate + 3, rate)
    inside = slice(1_000, -1_000)
    np.testing.assert_allclose(audio[inside], tone(len(audio), 16_000, hz)[inside], rtol=0, atol=3e-4)


@pytest.mark.parametrize("with_soxr", [True, False])
def test_what_16_khz_cannot_hold_is_removed(with_soxr: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_soxr:
        pytest.importorskip("soxr", reason="needs the audio extra")
    else:
        no_extra(monkeypatch, "soxr")
    audio = load_audio((tone(48_000, 48_000, hz=9_000), 48_000))
    assert np.abs(audio[1_000:-1_000]).max() < 2e-5  # 88 dB below; linear interpolation leaves half of it


def test_the_numpy_resampler_agrees_with_soxr() -> None:
    soxr = pytest.importorskip("soxr", reason="needs the audio extra")
    rng = np.random.default_rng(3)
    speech_band = np.convolve(rng.standard_normal(44_100), np.hanning(24) / 12, "same").astype(np.float32) * 0.2
    resampler = SincResampler(44_100)
    ours = np.concatenate([resampler.push(speech_band), resampler.finish()])
    theirs = soxr.resample(speech_band, 44_100, 16_000, "HQ")
    np.testing.assert_allclose(ours[200:15_800], theirs[200:15_800], rtol=0, atol=1e-3)


@pytest.mark.parametrize("block", [1, 7, 1_000])
def test_resampling_does_not_depend_on_the_blocks(block: int) -> None:
    samples = tone(2_000, 44_100)
    whole, pieces = SincResampler(44_100), SincResampler(44_100)
    expected = np.concatenate([whole.push(samples), whole.finish()])
    parts = [pieces.push(samples[first : first + block]) for first in range(0, 2_000, block)]
    np.testing.assert_array_equal(np.concatenate([*parts, pieces.finish()]), expected)


def test_an_odd_rate_needs_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    no_extra(monkeypatch, "soxr")
    with pytest.raises(MissingExtra, match=r"44101 Hz needs soxr: pip install 'qwen3-asr-onnx\[audio\]'"):
        make_resampler(44_101)


@pytest.mark.parametrize(
    ("n_samples", "rate", "expected"), [(0, 44_100, 0), (1, 44_100, 1), (3, 48_000, 1), (4, 48_000, 2)]
)
def test_lengths_are_rounded_up(n_samples: int, rate: int, expected: int) -> None:
    assert n_resampled(n_samples, rate) == expected
    assert len(load_audio((np.zeros(n_samples, dtype=np.float32), rate))) == expected


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad_empty_file.wav", "empty"),
        ("bad_header_cut.wav", "ends inside its header"),
        ("bad_fmt_size.wav", "'fmt' chunk claims 1717986918 bytes"),
        ("bad_unknown_chunk.wav", "'HURF' chunk is longer than the file"),
        ("bad_rate.wav", "1092676 Hz"),
        ("README.md", "text, not audio"),
        ("", "folder"),
        ("no_sample.wav", "no such file; did you mean no_samples.wav"),
        ("nowhere/x.wav", "no such file; the folder .* cannot be read either"),
    ],
)
def test_bad_files_are_named_with_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(DATA / name)
    assert str(DATA / name) in str(caught.value)


def test_text_renamed_wav_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_text("Zwölf Boxkämpfer, 你好. " * 60, encoding="utf-8")
    with pytest.raises(AudioError, match="text, not audio"):
        load_audio(path)


def test_raw_samples_without_a_header_are_refused() -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    with pytest.raises(AudioError, match="neither WAV nor"):
        load_audio(DATA / "bad_no_header.wav")


def test_unreadable_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(wav(pcm16(tone(100))))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AudioError, match="no permission"):
        load_audio(path)


def test_refused_permission_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "secret.wav").touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"secret\.wav: no permission to read it"):
        load_audio(tmp_path / "secret.wav")


@pytest.mark.parametrize("source", ["no_samples.wav", "array"])
def test_no_samples_is_a_valid_empty_waveform(source: str) -> None:
    audio = load_audio(np.empty(0, dtype=np.float32) if source == "array" else DATA / source)
    assert audio.shape == (0,)
    assert audio.dtype == np.float32


def test_one_sample_is_read() -> None:
    assert load_audio(DATA / "tiny_1_sample.wav").shape == (1,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    samples = tone(16_000)
    samples[8_000] = value
    with pytest.raises(AudioError, match=r"sample at 0\.500 s is not a finite number"):
        load_audio(samples)
    with pytest.raises(AudioError, match="not a finite number"):
        load_audio(wav(samples.tobytes(), tag=FLOAT, width=4))


def test_doubles_beyond_float32_are_refused() -> None:
    with pytest.raises(AudioError, match="not a finite number"):
        load_audio(np.array([0.0, 1e300]))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros(10), 0), "sampling rate is 0 Hz"),
        ((np.zeros(10), 16_000.5), "sampling rate is 16000.5 Hz"),
        ((np.zeros(10), float("nan")), "sampling rate is nan Hz"),
        ((np.zeros(10), "16000"), "sampling rate is '16000'"),
        ((16_000, np.zeros(10)), r"\(samples, sample_rate\)"),
        ((np.zeros(10), 16_000, 1), r"\(samples, sample_rate\)"),
        (np.zeros(10, dtype=complex), "complex128"),
        (np.zeros(10, dtype=bool), "bool"),
        (np.zeros(10, dtype=np.int64), "int64"),
        (np.zeros((2, 3, 4)), "shape"),
        (np.array(1.0), "shape"),
        ([0.0, 0.1], "list is not audio"),
        (None, "NoneType is not audio"),
        (io.StringIO("text"), "binary mode"),
        ("data:audio/wav;base64", "no comma"),
        ("data:audio/wav;base64,?!", "not base64"),
        ("bad\0name.wav", "cannot be opened"),
    ],
)
def test_senseless_sources_are_refused(source: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load_audio(source)


@pytest.mark.parametrize(("channels", "width", "message"), [(0, 2, "no channels"), (3, 0, "frames of 0 bytes")])
def test_impossible_wav_shapes_are_refused(channels: int, width: int, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        load_audio(wav(b"\0" * 64, channels=channels, width=width))


def test_wav_without_format_is_refused() -> None:
    with pytest.raises(AudioError, match="samples come before their format"):
        load_audio(b"RIFF\x0c\0\0\0WAVEdata\0\0\0\0")


def test_every_cut_of_a_wav_header_is_an_audio_error() -> None:
    file = wav(pcm16(tone(100)))
    for length in range(1, 44):
        with pytest.raises((AudioError, MissingExtra)):
            load_audio(file[:length])


# --- truncation is never silent ---------------------------------------------------------------------------------------


def test_a_cut_wav_gives_what_is_there_with_a_warning() -> None:
    with pytest.warns(TruncatedAudioWarning, match=r"0\.50 s of 2\.00 s could be read"):
        audio = load_audio(wav(pcm16(tone(8_000)), claims=64_000))
    assert len(audio) == 8_000


def test_a_wav_of_promises_only_is_an_error() -> None:
    with pytest.raises(AudioError, match="no audio could be read"):
        load_audio(wav(b"", claims=64_000))


def test_a_gigantic_claim_takes_no_memory() -> None:
    with pytest.raises(LimitError, match="over the limit"):
        load_audio(wav(pcm16(tone(100)), rate=1_000, claims=0x7FFF0000))
    with pytest.warns(TruncatedAudioWarning):
        assert len(load_audio(wav(pcm16(tone(100)), rate=48_000, claims=0x7FFF0000))) == 34


@pytest.mark.parametrize("name", ["en_jfk.mp3", "en_jfk.opus", "en_jfk_5s.flac"])
def test_a_cut_compressed_file_gives_what_is_there_with_a_warning(name: str) -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    content = (DATA / name).read_bytes()
    with pytest.warns(TruncatedAudioWarning, match="could be read"):
        audio = load_audio(content[: len(content) // 2])
    assert 0.2 < len(audio) / len(load_audio(content)) < 0.8


@pytest.mark.program("ffmpeg")
def test_a_cut_ffmpeg_file_is_reported() -> None:
    content = (DATA / "sonnet1_9s.webm").read_bytes()
    with pytest.warns(TruncatedAudioWarning, match="ffmpeg says"):
        audio = load_audio(content[: len(content) // 2])
    assert 3.0 < len(audio) / 16_000 < 6.0


# --- limits and missing programs --------------------------------------------------------------------------------------


def test_too_long_audio_is_refused_and_never_cut() -> None:
    limits = AudioLimits(max_duration_s=1.0)
    assert len(load_audio(tone(16_000), limits)) == 16_000
    for source in (tone(16_001), wav(pcm16(tone(16_001))), wav(pcm16(tone(40_000)), claims=0xFFFFFFFF)):
        with pytest.raises(LimitError, match=r"over the limit of 1 s.*max_duration_s"):
            load_audio(source, limits)


def test_too_many_bytes_are_refused() -> None:
    file = wav(pcm16(tone(5_000)))
    limits = AudioLimits(max_bytes=5_000)
    sources: list[Any] = [Unseekable(file), "data:audio/wav;base64," + base64.b64encode(file).decode()]
    for source in sources:
        with pytest.raises(LimitError, match="more than 5000 bytes"):
            load_audio(source, limits)


def test_without_soundfile_and_ffmpeg_the_pip_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    no_extra(monkeypatch, "soundfile")
    monkeypatch.setattr(formats, "find_ffmpeg", lambda: None)
    with pytest.raises(MissingExtra, match=r"en_jfk_5s\.flac.*pip install 'qwen3-asr-onnx\[audio\]'"):
        load_audio(DATA / "en_jfk_5s.flac")


def test_without_ffmpeg_video_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    monkeypatch.setattr(formats, "find_ffmpeg", lambda: None)
    with pytest.raises(AudioError, match="install ffmpeg"):
        load_audio(DATA / "sonnet1_9s.webm")


@pytest.mark.program("ffmpeg")
def test_without_soundfile_ffmpeg_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    no_extra(monkeypatch, "soundfile")
    assert len(load_audio(DATA / "en_jfk_5s.flac")) == 80_000


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for ffmpeg is a shell script")
def test_a_stuck_ffmpeg_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_extra(monkeypatch, "soundfile")
    stuck = tmp_path / "ffmpeg"
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(formats, "find_ffmpeg", lambda: str(stuck))
    monkeypatch.setattr(ffmpeg, "_ANSWER_TIMEOUT_S", 0.1)
    with pytest.raises(LimitError, match=r"did not finish in 0\.2 s"):
        load_audio(DATA / "sonnet1_9s.webm", AudioLimits(decode_timeout_s=0.2))


# --- nothing but the file that was named ------------------------------------------------------------------------------


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n".encode()


def dash(target: str) -> bytes:
    return f"""<?xml version="1.0"?>
        <MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT3S"
             profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
        <Period><AdaptationSet mimeType="audio/mp4" contentType="audio"><Representation id="1" bandwidth="64000">
        <BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>""".encode()


def concat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def concat_protocol(target: str) -> bytes:
    return hls(f"concat:{target}")


def subfile(target: str) -> bytes:
    return hls(f"subfile,,start,0,end,0,,:{target}")


def inline(target: str) -> bytes:
    return hls("data:audio/wav;base64," + base64.b64encode(wav(pcm16(tone(48_000)))).decode())


def sdp(target: str) -> bytes:
    return b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 50999 RTP/AVP 0\n"


PLAYLISTS = {"hls": hls, "dash": dash, "concat": concat, "concat_protocol": concat_protocol, "subfile": subfile,
             "inline": inline, "sdp": sdp}  # fmt: skip


FORMS = ("path", "as_wav", "bytes", "file", "data_url")
TARGETS = {"absolute": "{folder}/inner/secret.mp3", "relative": "secret.mp3", "upwards": "../secret.mp3"}


def no_longer_text(content: bytes) -> bytes:
    """Return the playlist with a byte that is no text in it, where its reader does not mind."""
    first, newline, rest = content.partition(b"\n")
    return first + newline + b"#\x01\n" + rest if content.startswith((b"#", b"ff")) else content + b"\x01"


@pytest.mark.program("ffmpeg")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", TARGETS)
@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_no_playlist_makes_ffmpeg_read_another_file(
    kind: str, place: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_playlist(kind, place, form, tmp_path, monkeypatch)


@pytest.mark.program("ffmpeg")
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_no_description_of_other_sources_is_followed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_playlist(kind, "absolute", "as_wav", tmp_path, monkeypatch)


def refuse_playlist(kind: str, place: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for secret in (folder / "secret.mp3", tmp_path / "secret.mp3"):
        secret.write_bytes((DATA / "en_jfk.mp3").read_bytes())
    content = no_longer_text(PLAYLISTS[kind](TARGETS[place].format(folder=tmp_path)))
    (folder / "list.m3u8").write_bytes(content)
    (folder / "list.wav").write_bytes(content)
    sources: dict[str, Any] = {
        "path": folder / "list.m3u8", "as_wav": str(folder / "list.wav"), "bytes": content, "file": io.BytesIO(content),
        "data_url": "data:audio/wav;base64," + base64.b64encode(content).decode(),
    }  # fmt: skip
    with pytest.raises(AudioError, match=r"no recording; ffmpeg takes it for|ffmpeg can decode"):
        load_audio(sources[form])


@pytest.mark.program("ffmpeg")
def test_a_playlist_that_is_no_text_is_refused_by_its_name() -> None:
    with pytest.raises(AudioError, match=r"no recording; ffmpeg takes it for 'concat'"):
        load_audio(no_longer_text(concat("x.wav")))


def test_a_playlist_reaches_no_decoder_where_it_is_text(tmp_path: Path) -> None:
    path = tmp_path / "list.mp3"
    path.write_bytes(hls("file:///etc/hostname"))
    with pytest.raises(AudioError, match="text, not audio"):
        load_audio(path)


# --- URLs -------------------------------------------------------------------------------------------------------------


class Pages(BaseHTTPRequestHandler):
    """A small site: one good clip, and several ways to misbehave."""

    clip = wav(pcm16(tone(5_000)))

    def do_GET(self) -> None:
        page = self.path.partition("?")[0]
        if page == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/clip.wav")
            self.end_headers()
        elif page == "/to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif page in ("/clip.wav", "/endless", "/broken"):
            self.send_response(200)
            if page == "/clip.wav":
                self.send_header("Content-Length", str(len(self.clip)))
            elif page == "/broken":
                self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(self.clip)
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.block_on_close = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("page", ["/clip.wav?token=secret", "/redirect"])
def test_urls_are_fetched(site: str, page: str) -> None:
    np.testing.assert_array_equal(load_audio(site + page), load_audio(Pages.clip))


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("/missing.wav?token=secret", "cannot be fetched: HTTP Error 404"),
        ("/to-file", "cannot be fetched"),
        ("/broken", r"the connection broke after \d+ of 1000000 bytes"),
    ],
)
def test_failed_fetches_say_why_and_keep_secrets(site: str, page: str, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(site + page)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("page", ["/clip.wav", "/endless"])
def test_fetches_stop_at_the_byte_limit(site: str, page: str) -> None:
    with pytest.raises(LimitError, match="max_bytes"):
        load_audio(site + page, AudioLimits(max_bytes=1_000))


def test_fetches_stop_at_the_time_limit(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(downloads, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(LimitError, match="fetch_timeout_s"):
        load_audio(f"{site}/clip.wav", AudioLimits(fetch_timeout_s=5.0))


def test_urls_can_be_forbidden() -> None:
    with pytest.raises(AudioError, match="URLs are not accepted"):
        load_audio("https://example.org/x.wav", allow_url=False)


def test_an_unreachable_host_is_an_audio_error(site: str) -> None:
    with pytest.raises(AudioError, match="cannot be fetched"):
        load_audio("http://127.0.0.1:1/x.wav")


def test_labels_hold_no_secrets() -> None:
    assert url_label("https://me:word@host.org:8443/a/b.wav?key=1#f") == "https://host.org:8443/a/b.wav"


# --- odds and ends ----------------------------------------------------------------------------------------------------


def test_suffixes_are_lower_case_with_a_dot() -> None:
    assert {".wav", ".flac", ".mp3", ".opus", ".m4a", ".webm"} <= AUDIO_SUFFIXES
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in AUDIO_SUFFIXES)


def test_the_filter_covers_the_rates_in_use() -> None:
    for rate in (8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000):
        assert 16_000 // np.gcd(rate, 16_000) <= resampling._MAX_PHASES


@pytest.mark.parametrize("values", [[3e38, 3e38], [np.inf, -np.inf]])
def test_numbers_that_are_none_are_told_once(values: list[float]) -> None:
    """Their mean overflows, or is infinity less infinity: numpy would warn of it before the error."""
    samples = np.zeros((1600, 2), np.float32)
    samples[100] = values
    with pytest.raises(AudioError, match="not a finite number"):
        load_audio((samples, 16_000))


def test_who_waits_for_a_pipe_can_be_called_out_of_it() -> None:
    seen: list[bool] = []

    class Pipe(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            seen.append(is_waiting())
            return super().read1(size)

        def seekable(self) -> bool:
            return False

    load_audio(Pipe(wav(tone(1600).tobytes(), tag=FLOAT, width=4)))
    assert seen
    assert all(seen)
    assert not is_waiting()


def test_a_full_disk_of_temporary_files_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda max_size: Full())
    with pytest.raises(LimitError, match=r"is kept while it is read, is full after .* MB; .* TMPDIR"):
        load_audio(Pipe(wav(tone(1600).tobytes(), tag=FLOAT, width=4)))


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
@pytest.mark.parametrize("at", [1, 5, 20])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_while_libsndfile_reads_ends_the_reading_and_not_the_file(name: str, at: int) -> None:
    """It calls us back to read: an exception there would be printed, and the file would seem to end."""
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")
    content = io.BytesIO()
    soundfile.write(content, np.random.default_rng(0).normal(size=200_000) * 0.1, 16_000, format="FLAC")
    calls = 0

    class Signalled(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal calls
            calls += size != 0
            if calls == at:
                signal.raise_signal(getattr(signal, name))
            return super().read(size)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL), signal.signal(signal.SIGINT, signal.default_int_handler)
    # SIGINT with Python's own handler: what a program meets that uses the library.
    handled = ending_signals_raise() if name == "SIGTERM" else contextlib.nullcontext()
    try:
        with pytest.raises(KeyboardInterrupt), handled:
            load_audio(Signalled(content.getvalue()))
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
