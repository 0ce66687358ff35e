"""How moments and channels are written on the command line, and that they arrive."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes

from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands.excerpt_options import channels, moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90.5", 90.5),
        (".5", 0.5),
        ("1:30", 90.0),
        ("01:00:00.25", 3600.25),
        ("90:00", 5400.0),
        ("2:99:01", 13141.0),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1e3", "1:60", "1:2:3:4", "1:", ":5", "1.5:00", "nan", "inf", "1,5", "١"]
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no moment; give seconds"):
        moment(text)


def test_channels() -> None:
    assert [channels(text) for text in ("mix", "LEFT", "right", "split", "1", "12")] == [
        "mix",
        "left",
        "right",
        "split",
        1,
        12,
    ]
    for text in ("both", "0", "-1", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is no channel; give mix"):
            channels(text)


@pytest.fixture
def stereo(tmp_path: Path) -> str:
    path = tmp_path / "stereo.wav"
    both = np.stack([synthetic_clip(6.0, seed=1), synthetic_clip(6.0, seed=2)], axis=1)
    path.write_bytes(wav_bytes(both))
    return str(path)


def transcribe(tiny_bundle: Path, *arguments: str) -> int:
    given = ["transcribe", "-q", "-m", str(tiny_bundle), "-l", "en", "--max-new-tokens", "4"]
    return cli.main([*given, *arguments])


def test_they_arrive(tiny_bundle: Path, stereo: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["--start", "0:01", "--end", "5", "--channels", "split", "-f", "json"]
    assert transcribe(tiny_bundle, stereo, *chosen) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(segment["start_s"], segment["end_s"], segment["channel"]) for segment in found["segments"]] == [
        (1.0, 5.0, 1),
        (1.0, 5.0, 2),
    ]
    assert (found["start_s"], found["duration_s"]) == (1.0, 4.0)


def test_plain_text_of_channels_on_stdout_is_that_of_a_file(
    tiny_bundle: Path, stereo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(tiny_bundle, stereo, "--channels", "split") == 0
    shown = capsys.readouterr().out
    assert transcribe(tiny_bundle, stereo, "--channels", "split", "-o", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "stereo.txt").read_text(encoding="utf-8") == shown


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--channels", "5"], 1, "has 2 channels, and channel 5 was asked for"),
        (["--start", "1:00"], 1, "ends before 60.00 s"),
        (["--start", "3", "--end", "2"], 2, "end_s is 2.0; give more seconds than start_s, which is 3.0"),
    ],
)
def test_what_the_recording_has_not(
    tiny_bundle: Path,
    stereo: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    assert transcribe(tiny_bundle, stereo, *arguments) == status
    assert message in capsys.readouterr().err
