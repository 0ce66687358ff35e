"""What a caller may call audio: names, pipes, links, and what a service refuses."""

from __future__ import annotations

import os
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import wav_bytes

from qwen3_asr_onnx import AudioError, AudioLimits, LimitError, load_audio
from qwen3_asr_onnx.audio import AudioFile
from qwen3_asr_onnx.audio.loading import probe_duration

CLIP = wav_bytes(np.linspace(-0.5, 0.5, 1600, dtype=np.float32))

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and, as working directory, a folder that is not it."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    return home


def feed(path: Path, data: bytes) -> threading.Thread:
    """Write into a named pipe from another thread: opening one waits for the other end."""
    thread = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    thread.start()
    return thread


# --- pipes and devices ---


@needs_fifo
@pytest.mark.parametrize("kind", [str, Path])
def test_a_named_pipe_is_read_as_standard_input_is(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, CLIP)
    assert load_audio(kind(pipe)).size == 1600
    writer.join()


@needs_fifo
def test_a_pipe_is_held_to_the_limit_of_bytes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, CLIP)
    with pytest.raises(LimitError, match=r"pipe: more than 100 bytes"):
        load_audio(pipe, AudioLimits(max_bytes=100))
    writer.join()


@needs_fifo
def test_a_pipe_is_not_probed_for_its_length(tmp_path: Path) -> None:
    """It would wait for a writer, and the bytes would be gone."""
    os.mkfifo(tmp_path / "pipe")
    assert probe_duration(tmp_path / "pipe") is None


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd on this system")
def test_a_file_descriptor_by_name() -> None:
    """What `<(command)` is in a shell."""
    read, write = os.pipe()
    os.write(write, CLIP)
    os.close(write)
    assert load_audio(f"/dev/fd/{read}").size == 1600
    os.close(read)


@pytest.mark.skipif(sys.platform == "win32", reason="no devices by name")
def test_a_device_is_no_file() -> None:
    with pytest.raises(AudioError, match="/dev/zero: this is a device, not a file"):
        load_audio("/dev/zero")


# --- names ---


def test_a_name_that_begins_with_a_tilde_means_the_home(home: Path) -> None:
    (home / "clip.wav").write_bytes(CLIP)
    assert load_audio("~/clip.wav").size == 1600
    assert load_audio(Path("~/clip.wav")).size == 1600


def test_a_file_of_that_very_name_comes_first(home: Path) -> None:
    (home / "clip.wav").write_bytes(b"not this one")
    Path("~").mkdir()
    Path("~", "clip.wav").write_bytes(CLIP)
    Path("~clip.wav").write_bytes(CLIP)
    for name in ("~/clip.wav", "./~/clip.wav", "~clip.wav"):
        assert load_audio(name).size == 1600


def test_a_path_below_the_working_folder_is_never_taken_for_the_home(home: Path) -> None:
    (home / "clip.wav").write_bytes(CLIP)
    with pytest.raises(AudioError, match=r"^\./~/clip\.wav: no such file"):
        load_audio("./~/clip.wav")


@pytest.mark.parametrize("name", ["~no-such-user-here/clip.wav", "~/missing.wav"])
def test_a_missing_file_is_named_as_it_was_given(home: Path, name: str) -> None:
    with pytest.raises(AudioError, match=f"^{name}: no such file"):
        load_audio(name)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_that_leads_nowhere_says_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"clip\.wav: a link to .*gone\.wav, which does not exist"):
        load_audio(tmp_path / "clip.wav")


# --- what a service refuses ---


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.wav", "HTTPS://127.0.0.1:9/x.wav"])
def test_urls_are_refused_without_a_look_at_them(url: str) -> None:
    with pytest.raises(AudioError, match="URLs are not accepted here"):
        load_audio(url, AudioLimits(allow_url=False))
    with pytest.raises(AudioError, match="URLs are not accepted here"):
        load_audio(url, allow_url=False)


@pytest.mark.parametrize("text", ["clip.wav", "-", "~/clip.wav", "/dev/fd/0", "file:///clip.wav", ""])
def test_names_are_refused_whatever_they_name(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    Path("clip.wav").write_bytes(CLIP)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(AudioError, match="names of files are not accepted here"):
        load_audio(text, AudioLimits(allow_path=False))


def test_what_the_caller_opened_or_sent_is_taken_all_the_same(home: Path) -> None:
    import base64

    Path("clip.wav").write_bytes(CLIP)
    closed = AudioLimits(allow_url=False, allow_path=False)
    with Path("clip.wav").open("rb") as file:
        sources: list[AudioFile] = [
            CLIP,
            file,
            Path("clip.wav"),
            f"data:audio/wav;base64,{base64.b64encode(CLIP).decode()}",
        ]
        assert [load_audio(source, closed).size for source in sources] == [1600] * 4


# --- channels ---


@pytest.mark.parametrize(("frames", "channels", "as_array"), [(200, 65_535, False), (4_000, 1_000, True)])
def test_many_channels_take_no_more_memory_than_a_few(frames: int, channels: int, as_array: bool) -> None:
    """65,535 is the most that a WAV header can claim; 8,192 frames of them are gigabytes."""
    samples = np.full((frames, channels), 4096, dtype=np.int16)
    source = (samples, 16_000) if as_array else wav_bytes(samples)
    tracemalloc.start()
    try:
        waveform = load_audio(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(waveform, np.full(frames, 0.125, dtype=np.float32))
    assert peak < samples.nbytes / 2
