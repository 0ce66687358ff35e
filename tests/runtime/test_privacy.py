"""What a run leaves behind and whom it calls: nothing, and nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip
from tests.support.programs import find

from qwen3_asr_onnx.model.session import disable_telemetry

ROOT = Path(__file__).parents[2]
KEPT = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LANG")

IN_PROCESS = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
import qwen3_asr_onnx.__main__
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(synthetic_clip(3.0) * 32_767).astype("<i2").tobytes())
    return path


def run(arguments: list[str], home: Path, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment.update({"HOME": str(home), **(more or {})})
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=home.parent)


def transcription(bundle: Path, clip: Path) -> list[str]:
    """Return the command; with the language forced, since random weights write no tag, and that would be told."""
    program = [sys.executable, "-W", "error", "-c", IN_PROCESS]
    return [*program, "transcribe", "-m", str(bundle), str(clip), "--format", "json", "--language", "English"]


def test_a_run_leaves_nothing_in_an_empty_home(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = sorted(tmp_path.iterdir())
    done = run(transcription(tiny_bundle, clip), home)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["token_ids"]
    assert list(home.rglob("*")) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["a file", "missing"])
def test_a_run_says_nothing_of_a_home_it_cannot_use(kind: str, tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if kind == "a file":
        home.write_text("", encoding="utf-8")
    done = run(transcription(tiny_bundle, clip), home)
    assert (done.returncode, done.stderr) == (0, "")
    assert home.exists() == (kind == "a file")


@pytest.mark.program("strace")
@pytest.mark.parametrize("verb", ["transcribe", "stream", "info"])
def test_no_socket_is_opened_below_python_either(verb: str, tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    strace = find("strace")
    assert strace is not None
    trace = tmp_path / "trace"
    command = [strace, "-f", "-e", "trace=network,openat,creat,mkdir", "-o", str(trace)]
    program = [sys.executable, "-W", "error", "-c", IN_PROCESS, verb]
    arguments = {
        "transcribe": ["-m", str(tiny_bundle), str(clip), "--format", "json"],
        "stream": ["-m", str(tiny_bundle), str(clip), "--fast"],
        "info": [str(tiny_bundle), "--verify"],
    }
    done = run([*command, *program, *arguments[verb]], tmp_path / "home", {"PYTHONDONTWRITEBYTECODE": "1"})
    if "ptrace" in done.stderr.lower():
        pytest.skip("this container does not let a process be traced")
    assert done.returncode == 0, done.stderr
    calls = trace.read_text(encoding="utf-8", errors="replace")
    assert "config.json" in calls  # strace saw the run
    assert re.findall(r"(?:socket|connect|sendto)\(.*", calls) == []
    created = re.findall(r'openat\([^"]*"([^"]+)"[^)]*O_CREAT', calls) + re.findall(r'mkdir\("([^"]+)"', calls)
    assert [path for path in created if not path.startswith("/dev/shm/sem.")] == []


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    disable_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    disable_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_onnxruntime_is_imported_in_one_place() -> None:
    """Who imports it elsewhere would start its telemetry."""
    if not (ROOT / "runtime").is_dir():
        pytest.skip("needs the source tree")
    sources = [path for folder in ("runtime", "export", "quantize", "eval") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in sources if re.search(r"(?m)^\s*(import|from) onnxruntime", path.read_text("utf-8"))]
    assert found == ["session.py"]


def test_systems_that_import_it_themselves_inherit_the_setting(tmp_path: Path) -> None:
    shown = "import json, os; print(json.dumps(os.environ.get('ORT_DISABLE_TELEMETRY')))"
    code = "import subprocess, sys; from qwen3_asr_onnx.model.session import import_onnxruntime as load; load(); "
    done = run([sys.executable, "-c", code + f"subprocess.run([sys.executable, '-c', {shown!r}])"], tmp_path)
    assert json.loads(done.stdout) == "1"
