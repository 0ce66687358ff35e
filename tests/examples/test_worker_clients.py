"""The clients in examples/worker: short, without packages, and they do what an app would."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.clips import wav_bytes
from tests.support.programs import find

from qwen3_asr_onnx.audio.loading import load_audio

FOLDER = Path(__file__).parents[2] / "examples" / "worker"
CLIPS = Path(__file__).parents[1] / "data" / "mini-clips"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["client.py", pytest.param("client.mjs", marks=pytest.mark.program("node"))])
def start(request: pytest.FixtureRequest, mini_bundle: Path) -> Start:
    """Starts one of the clients, with a worker that has the miniature."""
    worker = f"{sys.executable} -m qwen3_asr_onnx worker -m {mini_bundle}"
    program = [sys.executable, "-I"] if request.param == "client.py" else [str(find("node"))]

    def start(*arguments: str | Path, command: str = worker) -> subprocess.Popen[str]:
        line = [*program, str(FOLDER / request.param), "--worker", command, *map(str, arguments)]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")

    return start


@pytest.mark.parametrize("name", ["client.py", "client.mjs"])
def test_it_is_short_and_needs_nothing(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    if name.endswith(".py"):
        found = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
        assert found <= sys.stdlib_module_names
    else:
        assert all(one.startswith("node:") for one in re.findall(r"from '(.*)'", text))


def test_it_shows_the_segments_of_a_file(start: Start) -> None:
    out, errors = start("--language", "German", CLIPS / "de_1.flac").communicate(timeout=60)
    assert out == "[0.0 s] Stelle den Wecker auf zwölf Uhr.\n"
    assert errors == ""


def test_it_shows_what_is_said_live(start: Start, tmp_path: Path) -> None:
    (tmp_path / "en.wav").write_bytes(wav_bytes(load_audio(CLIPS / "en_1.flac")))
    began = time.monotonic()
    out, errors = start("--live", tmp_path / "en.wav").communicate(timeout=60)
    assert out == "How is the weather in Rome Friday?\n"
    assert errors == ""
    assert time.monotonic() - began > 1.8  # no faster than it would be spoken


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (None, "error: .*none.wav: no such file"),
        ("no-such-program", "error: .*no-such-program"),
        (f"{sys.executable} -c pass", "error: the worker .*ended"),
    ],
)
def test_it_says_what_is_wrong(command: str | None, words: str, start: Start, tmp_path: Path) -> None:
    more = {} if command is None else {"command": command}
    process = start(tmp_path / "none.wav", **more)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert not out
    assert re.search(words, errors)


def test_ctrl_c_cancels(start: Start) -> None:
    process = start(CLIPS / "en_story_70s.flac")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    with process:
        assert process.wait(10) == 1
        assert process.stderr.read() == "error: cancelled\n"
        assert "[60" not in process.stdout.read()
