"""The verb `stream`: inputs of every kind, wrong input too, and what goes where."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import wave
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import MissingExtra, Segment, StreamUpdate
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio import microphone
from qwen3_asr_onnx.audio.microphone import list_microphones, open_microphone
from qwen3_asr_onnx.audio.raw_pcm import open_pcm
from qwen3_asr_onnx.commands import live_text, stream
from qwen3_asr_onnx.commands.cli import main

CLIP = synthetic_clip(2.5, seed=2)


def as_bytes(audio: Waveform) -> bytes:
    return bytes((audio * 32767).astype("<i2").tobytes())


def wav_file(path: Path, audio: Waveform = CLIP, rate: int = SAMPLE_RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(as_bytes(audio))
    return path


def pipe(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe(content)))

    return put


class Heard:
    """Stands for a transcriber: keeps what its stream is fed, and answers with updates prepared beforehand."""

    def __init__(self, updates: list[StreamUpdate] | None = None) -> None:
        self.blocks: list[tuple[Waveform, int]] = []
        self.finished = self.closed = False
        self.updates = updates or []
        self.fail_at = -1
        self.during_feed: Any = None

    def stream(self, options: Any, streaming: Any) -> Heard:
        self.options, self.streaming = options, streaming
        return self

    @property
    def fed_s(self) -> float:
        return sum(block.size / rate for block, rate in self.blocks)

    @property
    def audio(self) -> Waveform:
        return np.concatenate([block for block, _ in self.blocks])

    def feed(self, block: Waveform, rate: int, *, hurried: bool) -> list[StreamUpdate]:
        if self.during_feed is not None:
            self.during_feed()
        self.blocks.append((block, rate))
        return self.updates[:1] if len(self.blocks) == 1 else []

    def finish(self) -> list[StreamUpdate]:
        self.finished = True
        return self.updates[1:]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    stand_in = Heard([
        StreamUpdate("Hello", " wor", "English", 1.0),
        StreamUpdate(" world.", "", "English", 2.0, Segment(0, 2, "Hello world.", "English", (1, 2), "eos", -0.1)),
        StreamUpdate(" Again", "", "English", 3.0, Segment(2, 3, "Again", "English", (3,), "eos", -0.1)),
    ])  # fmt: skip
    monkeypatch.setattr(stream, "load_transcriber", lambda args: stand_in)
    return stand_in


def test_samples_from_a_pipe(heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(as_bytes(CLIP))
    assert main(["stream", "-m", "bundle", "-", "--language", "de", "--context", "Anna", "--policy", "official"]) == 0
    assert capsys.readouterr() == ("Hello world.\nAgain\n", "")
    np.testing.assert_allclose(heard.audio, (CLIP * 32767).astype("<i2") / 32768, atol=1e-7)
    assert {rate for _, rate in heard.blocks} == {SAMPLE_RATE}
    assert max(block.size for block, _ in heard.blocks) <= SAMPLE_RATE // 10
    assert (heard.options.language, heard.options.context, heard.streaming.policy) == ("de", "Anna", "official")
    assert heard.finished
    assert heard.closed


@pytest.mark.parametrize(
    ("sample_format", "dtype", "scale", "zero"),
    [("s16be", ">i2", 2**15, 0), ("s32le", "<i4", 2**31, 0), ("u8", "u1", 2**7, 128), ("s8", "i1", 2**7, 0)],
)
def test_sample_formats_and_channels(sample_format: str, dtype: str, scale: int, zero: int) -> None:
    mono = np.array([0.0, 0.25, -0.5, 0.125], np.float32)
    frames = np.stack([mono * scale + zero, mono * 0 + zero], axis=1).astype(dtype)
    source = open_pcm(pipe(frames.tobytes()), sample_format, 8_000, 2)
    assert np.concatenate(list(source.blocks)).tolist() == (mono / 2).tolist()
    assert source.sample_rate == 8_000


def test_a_pipe_that_is_closed_inside_a_sample(heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(as_bytes(CLIP)[:-1])
    assert main(["stream", "-m", "bundle", "-"]) == 1
    out, err = capsys.readouterr()
    assert out == "Hello world.\nAgain\n"
    assert "ended inside a frame; its last 1 of 2 bytes are left out" in err
    assert heard.audio.size == CLIP.size - 1


def test_a_pipe_of_crumbs_loses_nothing() -> None:
    class Crumbs(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._content = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            crumb, self._content = self._content[:3], self._content[3:]
            buffer[: len(crumb)] = crumb
            return len(crumb)

    source = open_pcm(io.BufferedReader(Crumbs(as_bytes(CLIP[:1000]))), "s16le", SAMPLE_RATE, 1)
    assert np.concatenate(list(source.blocks)).size == 1000
    assert source.faults == []


def test_a_wav_header_in_the_pipe_is_believed(heard: Heard, stdin: Any, tmp_path: Path) -> None:
    stdin(wav_file(tmp_path / "a.wav", rate=8_000).read_bytes())
    assert main(["stream", "-m", "bundle", "-", "--rate", "44100"]) == 0
    assert {rate for _, rate in heard.blocks} == {8_000}
    assert heard.audio.size == CLIP.size


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"fLaC\0\0\0\x22", "FLAC"),
        (b"OggS\0\2", "Ogg"),
        (b"\x1aE\xdf\xa3\x9f", "WebM or Matroska"),
        (b"\0\0\0\x20ftypM4A ", "MP4 or M4A"),
        (b"ID3\4\0\0", "MP3"),
        (b"".join(bytes.fromhex("fff348c4") + bytes(140) for _ in range(3)), "MP3"),
        (b"".join(bytes.fromhex("fff15080027ffc") + bytes(12) for _ in range(3)), "AAC"),
        (b"".join(b"\x47\x40\0\x10".ljust(188, b"\xff") for _ in range(9)), "MPEG-TS"),
        (b"FORM\0\0\1\0AIFF", "AIFF"),
        (b"RIFF\0\1\0\0AVI ", "RIFF"),
        (b"RIFX\0\1\0\0WAVE", "WAV in big-endian order"),
    ],
)
def test_a_file_in_the_pipe_is_not_taken_for_samples(
    heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str], head: bytes, name: str
) -> None:
    stdin(head + bytes(5_000))
    assert main(["stream", "-m", "bundle", "-"]) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"standard input: this is {name}, not samples" in err
    assert "ffmpeg -i -" in err


def test_samples_that_look_like_a_frame_are_samples() -> None:
    """One header of an MP3 frame is two samples of noise."""
    for content in (bytes.fromhex("fff348c4") + bytes(2000), bytes.fromhex("fff15080027ffc01") * 200, b"\x47" * 400):
        source = open_pcm(pipe(content), "s16le", SAMPLE_RATE, 1)
        assert np.concatenate(list(source.blocks)).size == len(content) // 2


def test_samples_are_handed_on_as_they_come() -> None:
    """What has been read to recognise a file is not waited for again."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb", buffering=0) as writer, os.fdopen(read_end, "rb") as reader:
        writer.write(bytes(4_000))
        blocks = iter(open_pcm(reader, "s16le", SAMPLE_RATE, 1).blocks)
        assert sum(next(blocks).size for _ in range(2)) == 2_000
        writer.write(bytes(100))
        assert next(blocks).size == 50


def test_a_file_as_fast_as_possible_and_as_it_is_spoken(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = wav_file(tmp_path / "a.wav")
    slept: list[float] = []
    monkeypatch.setattr(stream._paced, "__defaults__", (slept.append,))
    assert main(["stream", "-m", "bundle", str(path), "--fast"]) == 0
    assert not slept
    assert main(["stream", "-m", "bundle", str(path)]) == 0
    assert max(slept) == pytest.approx(CLIP.size / SAMPLE_RATE, abs=0.5)


def test_an_answer_that_is_no_transcript_is_told(heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    heard.updates = [StreamUpdate("", "", "", 3.0, Segment(1.0, 3.0, "", "", (5, 6), "no_tag", -0.1))]
    stdin(as_bytes(CLIP))
    assert main(["stream", "-m", "bundle", "-"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        "warning: 1.0 to 3.0 s: the model's answer is no transcript and was dropped; it begins with the token ids 5, 6"
        in err
    )


def test_json_lines(heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    stdin(as_bytes(CLIP))
    assert main(["stream", "-m", "bundle", "-", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["committed"] for row in rows] == ["Hello", " world.", " Again"]
    assert rows[0]["tentative"] == " wor"
    assert rows[1]["segment"]["text"] == "Hello world."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--channels", "0"], "--channels is 0"),
        (
            ["-", "--rate", "5"],
            "error: --rate: the sampling rate is 5 Hz; 1000 to 768000 Hz in whole Hz are read\n",
        ),
        (["-", "--chunk-seconds", "0"], "chunk_s is 0.0"),
        (["-", "--microphone", "1"], "give one of them"),
        (["nowhere.wav"], "no such file"),
    ],
)
def test_wrong_usage(
    heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    stdin(b"")
    assert main(["stream", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_a_file_with_a_hole_is_finished_up_to_it(
    heard: Heard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("soundfile")
    import soundfile

    broken = np.concatenate([CLIP, [np.nan], CLIP]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", broken, SAMPLE_RATE, subtype="FLOAT")
    assert main(["stream", "-m", "bundle", str(tmp_path / "a.wav"), "--fast"]) == 1
    out, err = capsys.readouterr()
    assert out == "Hello world.\nAgain\n"
    assert "not a finite number" in err
    assert "finishing what was heard" in err
    assert heard.finished


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_an_interrupt_waits_for_the_block_and_finishes(
    heard: Heard, stdin: Any, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    stdin(as_bytes(CLIP))
    heard.during_feed = lambda: signal.raise_signal(getattr(signal, name))
    before = signal.getsignal(signal.SIGINT)
    assert main(["stream", "-m", "bundle", "-"]) == status
    assert len(heard.blocks) == 1
    assert heard.finished
    assert capsys.readouterr().out == "Hello world.\nAgain\n"
    assert signal.getsignal(signal.SIGINT) is before


class FakeSoundDevice(ModuleType):
    """A sounddevice whose microphone delivers prepared blocks: (samples, clock, overflow)."""

    def __init__(self, blocks: list[tuple[Waveform, float, bool]], *, ends: bool = True) -> None:
        super().__init__("sounddevice")
        self.blocks, self.ends = blocks, ends
        self.default = SimpleNamespace(device=[1, 0])

    class PortAudioError(Exception):
        pass

    def query_devices(self, device: Any = None, kind: Any = None) -> Any:
        devices = [
            {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48_000.0},
            {"name": "Webcam", "max_input_channels": 2, "default_samplerate": 48_000.0},
        ]
        if kind is None:
            return devices
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return devices[1]

    def InputStream(self, *, callback: Any, finished_callback: Any, channels: int, **_: Any) -> Any:  # noqa: N802
        fake = self

        class Stream:
            def start(self) -> None:
                for samples, at_s, lost in fake.blocks:
                    time = SimpleNamespace(inputBufferAdcTime=at_s)
                    callback(samples[:, None], len(samples), time, SimpleNamespace(input_overflow=lost))
                if fake.ends:
                    finished_callback()

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None: ...

        return Stream()


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", module)


def test_a_microphone_that_is_unplugged(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeSoundDevice([(CLIP[:4800], 0.0, False), (CLIP[4800:9600], 0.1, False)]))
    assert main(["stream", "-m", "bundle"]) == 1
    out, err = capsys.readouterr()
    assert out == "Hello world.\nAgain\n"
    assert "may have been unplugged" in err
    assert heard.audio.tolist() == CLIP[:9600].tolist()
    assert {rate for _, rate in heard.blocks} == {48_000}


def test_a_driver_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSoundDevice([(CLIP[:4800], 0.0, False)], ends=False))
    monkeypatch.setattr(microphone, "_SILENT_DRIVER_S", 0.05)
    with open_microphone() as source:
        assert [block.size for block in source.blocks] == [4800]
        assert "unplugged" in source.faults[0]


def test_lost_sound_becomes_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [(CLIP[:4800], 10.0, False), (CLIP[:4800], 10.1, True), (CLIP[:4800], 10.7, True)]
    install(monkeypatch, FakeSoundDevice(blocks))
    with open_microphone() as source:
        sizes = [block.size for block in source.blocks]
    assert sizes == [4800, 4800, 24_000, 4800]
    assert source.faults[0] == "0.50 s of sound were lost because the computer was busy"


def test_ctrl_c_is_how_a_microphone_ends(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeSoundDevice([(CLIP[:4800], 0.0, False)] * 3))
    heard.during_feed = lambda: signal.raise_signal(signal.SIGINT)
    assert main(["stream", "-m", "bundle", "--quiet"]) == 0
    assert capsys.readouterr() == ("Hello world.\nAgain\n", "")
    heard.during_feed = lambda: signal.raise_signal(signal.SIGTERM)
    assert main(["stream", "-m", "bundle", "--quiet"]) == 143


def test_microphones_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch, FakeSoundDevice([]))
    assert main(["stream", "--list-microphones"]) == 0
    assert capsys.readouterr().out == "1: Webcam (default)\n"


def test_a_microphone_that_does_not_exist(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, FakeSoundDevice([]))
    assert main(["stream", "-m", "bundle", "--microphone", "none"]) == 2
    assert "--list-microphones" in capsys.readouterr().err


def test_without_sounddevice_or_portaudio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, None)
    with pytest.raises(MissingExtra, match=r"qwen3-asr-onnx\[mic\]"):
        list_microphones()
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra, match="libportaudio2"):
        list_microphones()


class Terminal(io.StringIO):
    """A screen of one line that understands what the display sends."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "20")
    return screen


def test_tentative_words_are_faint_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    lines = live_text.Lines()
    lines.show(StreamUpdate("Hello", " wor", "English", 1.0))
    lines.show(StreamUpdate(" world", "", "English", 2.0))
    lines.end()
    assert terminal.getvalue() == "Hello\x1b[2m wor\x1b[0m\x1b[4D\x1b[K world\n"


def test_tentative_words_never_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    lines = live_text.Lines()
    lines.show(StreamUpdate("0123456789", "你好你好你好", "Chinese", 1.0))
    assert terminal.getvalue() == "0123456789\x1b[2m你好你好\x1b[0m"


def test_tentative_words_stay_out_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    live_text.Lines().show(StreamUpdate("Hello", " wor", "English", 1.0))
    assert capsys.readouterr() == ("Hello", "")


def test_a_real_stream_of_a_real_bundle(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = wav_file(tmp_path / "a.wav")
    assert main(["stream", "-m", str(tiny_bundle), str(path), "--fast", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-1]["segment"]["end_s"] == 2.5
