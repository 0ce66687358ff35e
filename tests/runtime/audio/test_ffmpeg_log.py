"""Times of what ffmpeg decodes are those of the file's own clock."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip
from tests.support.programs import find

from qwen3_asr_onnx import AudioError, load_audio
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio import ffmpeg
from qwen3_asr_onnx.audio.ffmpeg_log import FfmpegLog

FAULTS = Path(__file__).parents[2] / "data" / "faults"
RATE = 16_000


def log_of(*pieces: tuple[str, int]) -> FfmpegLog:
    """Return the log of pieces that play at a time and have so many samples."""
    lines = [
        f"[Parsed_ashowinfo_0 @ 0x1] [info] n:{i} pts:0 pts_time:{at} fmt:fltp rate:16000 nb_samples:{n} checksum:0"
        for i, (at, n) in enumerate(pieces)
    ]
    return FfmpegLog(io.BytesIO("\n".join(["[info] Input #0", *lines, "[error] last words"]).encode()))


def placed(log: FfmpegLog, n_samples: int, block: int = 700) -> Waveform:
    samples = np.arange(1, n_samples + 1, dtype=np.float32)
    return np.concatenate(list(log.in_time(samples[i : i + block] for i in range(0, n_samples, block))))


def test_a_late_start_and_a_gap_are_filled_where_they_are() -> None:
    audio = placed(log_of(("0.5", 1600), ("0.6", 1600), ("1.2", 800)), 4000)
    expected = np.arange(1, 4001, dtype=np.float32)
    np.testing.assert_array_equal(audio[:8000], 0)
    np.testing.assert_array_equal(audio[8000:11200], expected[:3200])
    np.testing.assert_array_equal(audio[11200:19200], 0)
    np.testing.assert_array_equal(audio[19200:], expected[3200:])


@pytest.mark.parametrize(
    "pieces",
    [
        [("0.007", 1600), ("0.107", 1600), ("0.199", 800)],  # encoder delay, rounded time stamps
        [("NOPTS", 1600), ("nan", 1600), ("N/A", 800)],
        [("0", 1600), ("0.1", 1600), ("0.05", 800)],  # a clock that goes backwards loses nothing
    ],
)
def test_what_is_no_gap_changes_no_sample(pieces: list[tuple[str, int]]) -> None:
    np.testing.assert_array_equal(placed(log_of(*pieces), 4000), np.arange(1, 4001, dtype=np.float32))


def test_a_clock_that_jumps_by_days_is_not_followed_and_said() -> None:
    log = log_of(("0", 1600), ("90000", 1600))
    assert len(placed(log, 3200)) == 3200
    log.close()
    assert log.faults == ["its clock jumps by 90000 s at 0.10 s; that is not followed"]
    assert list(log.complaints) == ["last words"]


@pytest.mark.program("ffmpeg")
def test_a_track_with_a_hole_keeps_its_times() -> None:
    audio = load_audio(FAULTS / "gap.mkv")
    assert len(audio) / RATE == pytest.approx(9.0, abs=0.05)
    silent = np.abs(audio[: len(audio) // 1600 * 1600]).reshape(-1, 1600).max(axis=1) < 1e-4
    middle = silent[len(silent) // 3 : -len(silent) // 3]
    assert middle.mean() > 0.9


@pytest.mark.program("ffmpeg")
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_audio_that_starts_late_in_a_video_keeps_its_times(container: str, tmp_path: Path) -> None:
    ffmpeg = find("ffmpeg")
    assert ffmpeg is not None
    sound = tmp_path / "sound.f32"
    sound.write_bytes(synthetic_clip(2.0).tobytes())
    picture = ["-f", "lavfi", "-i", "color=black:size=32x32:rate=5:duration=6"]
    late = ["-itsoffset", "3", "-f", "f32le", "-ar", "16000", "-ac", "1", "-i", str(sound)]
    made = tmp_path / "video"
    made_by = [ffmpeg, "-v", "error", *picture, *late, "-c:v", "mpeg4", "-c:a", "aac", "-f", container, str(made)]
    subprocess.run(made_by, check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio = load_audio(made)
    assert np.abs(audio[: int(2.9 * RATE)]).max() < 1e-3
    assert len(audio) / RATE == pytest.approx(5.0, abs=0.15)


@pytest.mark.program("ffmpeg")
def test_a_video_without_sound_is_called_that() -> None:
    with pytest.raises(AudioError, match=r"no_audio_track\.mp4: the file has no audio track$"):
        load_audio(FAULTS / "no_audio_track.mp4")


@pytest.mark.program("ffmpeg")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")
def test_ctrl_c_in_a_terminal_does_not_reach_ffmpeg() -> None:
    """If it did, the file would seem to end where ffmpeg was when the user gave up."""
    program = find("ffmpeg")
    assert program is not None
    process = ffmpeg._start(program, FAULTS / "gap.mkv")
    try:
        assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.program("ffmpeg")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a system that opens files without a name")
def test_what_comes_through_a_pipe_lies_on_disk_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed leaves nothing of it."""
    expected = load_audio(FAULTS / "gap.mkv")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **_: pytest.fail("a named copy"))
    assert np.array_equal(load_audio((FAULTS / "gap.mkv").read_bytes()), expected)
