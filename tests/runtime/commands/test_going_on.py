"""Runs that are killed inside a file, with the checked-in bundle: the next one goes on there and gives the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands import transcribe as transcribe_command
from qwen3_asr_onnx.results import Segment
from qwen3_asr_onnx.transcription.interrupt import Interrupt
from qwen3_asr_onnx.transcription.journal import Journal, Place

SECONDS = 14.0
KILLED = """
import os, sys
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.transcription.journal import Journal

number, n_pieces = int(sys.argv[1]), int(sys.argv[2])
keep, kept = Journal.keep, []

def keep_and_die(self, place, segments):
    keep(self, place, segments)
    kept.append(place)
    if len(kept) == n_pieces:
        os.kill(os.getpid(), number)

Journal.keep = keep_and_die
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("going_on") / "a.wav"
    write(path, synthetic_clip(SECONDS))
    return path


def write(path: Path, samples: Any) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32_767).astype("<i2").tobytes())


@pytest.fixture
def arguments(tiny_bundle: Path, asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A command line that cuts the recording into many pieces, and whose model is loaded once in this process."""
    monkeypatch.setattr(transcribe_command, "load_transcriber", lambda _: asr)
    monkeypatch.setattr(asr, "close", lambda: None)

    def build(audio: Path, *more: str) -> list[str]:
        settings = ["-l", "en", "--max-segment-seconds", "3", "--max-new-tokens", "8", "--batch-size", "3"]
        return ["transcribe", "-m", str(tiny_bundle), str(audio), *settings, *more]

    return build


def killed(number: int, n_pieces: int, command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(number), str(n_pieces), *command],
        capture_output=True,
        check=False,
        cwd=folder,
        timeout=120,
    )


def results(folder: Path) -> dict[str, Any]:
    """The bytes of every format; of JSON what no clock and no rounding of a sum has a say in."""
    found: dict[str, Any] = {path.suffix: path.read_bytes() for path in folder.iterdir()}
    body = json.loads(found[".json"])
    for part in (body, *body["segments"]):
        for name in ("timings", "avg_logprob", "token_logprobs", "language_probability"):
            part.pop(name, None)
    found[".json"] = body
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize(
    ("name", "n_pieces", "status"), [("SIGKILL", 1, -9), ("SIGKILL", 3, -9), ("SIGTERM", 2, 143), ("SIGINT", 1, 130)]
)
def test_a_killed_run_is_gone_on_with_inside_the_file(
    audio: Path,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    n_pieces: int,
    status: int,
) -> None:
    assert cli.main(arguments(audio, "-o", str(tmp_path / "whole"), "-f", "all", "--times")) == 0
    command = arguments(audio, "-o", str(tmp_path / "out"), "-f", "all", "--times")
    done = killed(getattr(signal, name), n_pieces, command, tmp_path)
    assert done.returncode == status, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.partial.jsonl"]
    n_kept = (tmp_path / "out" / "a.partial.jsonl").read_bytes().count(b"\n") - 1
    assert n_kept >= n_pieces
    assert cli.main([*command, "--resume"]) == 0
    assert "s of it were done by an earlier run" in capsys.readouterr().err
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    assert cli.main([*command, "--resume"]) == 0
    assert "0 transcribed, 1 skipped (done before)" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
@pytest.mark.parametrize("form", ["txt", "srt"])
def test_so_is_one_whose_result_goes_to_stdout(
    audio: Path,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    command = arguments(audio, "-f", form)
    assert cli.main(command) == 0
    whole = capsys.readouterr().out
    assert list(store.parent.rglob("*")) == [], "nothing stays"
    done = killed(signal.SIGKILL, 3, command, tmp_path)
    assert done.returncode == -9
    shown = done.stdout.decode()
    assert whole.startswith(shown)
    assert bool(shown) == (form == "txt"), "only text is shown while it is made"
    (journal,) = (store.parent / "state" / "journals").iterdir()
    assert cli.main([*command, "--resume"]) == 0
    output = capsys.readouterr()
    assert output.out == whole
    assert "s of it were done by an earlier run" in output.err
    assert not journal.exists()
    done = killed(signal.SIGTERM, 2, command, tmp_path)
    assert done.returncode == 143
    assert b"inputs are done; what is finished is kept, --resume makes the rest\n" in done.stderr
    assert cli.main(command) == 0
    assert "earlier run" not in capsys.readouterr().err, "it was not asked for"


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be sent to one process there")
def test_a_replaced_recording_begins_anew_and_says_so(
    audio: Path, arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "a.wav"
    mine.write_bytes(audio.read_bytes())
    command = arguments(mine, "--save")
    assert killed(signal.SIGKILL, 2, command, tmp_path).returncode == -9
    write(mine, synthetic_clip(SECONDS, seed=1))
    assert cli.main([*command, "--resume"]) == 0
    assert (
        f"warning: {mine}: the recording has changed since an earlier run kept a part of it; begun anew\n"
    ) in capsys.readouterr().err
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert cli.main(arguments(mine)) == 0
    assert capsys.readouterr().out == text

    write(mine, synthetic_clip(SECONDS, seed=2))
    assert cli.main([*command, "--resume"]) == 0
    assert "a.txt is of what this recording was before; it is made again\n" in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") != text
    assert killed(signal.SIGKILL, 2, [*command, "--overwrite"], tmp_path).returncode == -9
    assert cli.main([*command[:6], "--max-segment-seconds", "4", "--save", "--resume"]) == 0
    assert "an option that decides on the text has changed" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a.wav"]


def test_a_time_limit_keeps_what_is_finished(
    audio: Path,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keep = Journal.keep
    kept: list[Place] = []

    def counted(self: Journal, place: Place, segments: Sequence[Segment]) -> None:
        keep(self, place, segments)
        kept.append(place)

    monkeypatch.setattr(Journal, "keep", counted)
    with monkeypatch.context() as patch:

        def up(self: Interrupt) -> bool:
            self.reason = "time_limit" if len(kept) >= 2 else None
            return self.reason is not None

        patch.setattr(Interrupt, "__call__", up)
        assert cli.main(arguments(audio, "-o", str(tmp_path), "--time-limit", "1000")) == 1
    kept_s = sum(place.n_samples for place in kept) / SAMPLE_RATE
    told = f"time limit was reached; {kept_s:.1f} s of it are done and kept in {tmp_path / 'a.partial.jsonl'}, --resume"
    assert told in capsys.readouterr().err
    n_before = len(kept)
    assert cli.main(arguments(audio, "-o", str(tmp_path), "--resume")) == 0
    text = (tmp_path / "a.txt").read_text(encoding="utf-8")
    n_all = len(kept)
    assert cli.main(arguments(audio, "-o", str(tmp_path), "--overwrite")) == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == text
    assert n_all == len(kept) - n_all, "no piece was made twice"
    assert n_before < n_all


def test_stdout_is_the_file_to_the_byte(
    audio: Path, arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--times"]):
        assert cli.main(arguments(audio, *more)) == 0
        shown = capsys.readouterr().out
        assert cli.main(arguments(audio, *more, "-o", str(tmp_path), "--overwrite")) == 0
        assert shown.encode() == (tmp_path / "a.txt").read_bytes()
        capsys.readouterr()
    assert shown.startswith("[00:00.0 --> 00:0")
