"""Scripts written for the official package run here after changing the import and the paths, and nothing else."""

from __future__ import annotations

import re
import runpy
import wave
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip
from tests.support.recording_aligner import RecordingAligner

from qwen3_asr_onnx.compat import Qwen3ForcedAligner

SCRIPTS = Path(__file__).parents[2] / "data" / "official_style_scripts"

pytestmark = pytest.mark.filterwarnings("ignore::qwen3_asr_onnx.compat.CompatWarning")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.round(synthetic_clip(1.7) * 32767).astype("<i2").tobytes())
    return path


def run(script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], **names: Path) -> str:
    """Run a script with another import and other paths; return what it prints."""
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    assert text.count("from qwen_asr import") == 1
    text = text.replace("from qwen_asr import", "from qwen3_asr_onnx.compat import")
    for name, path in names.items():
        text = text.replace(f'"{name}"', repr(str(path))).replace(f'"{name}.wav"', repr(str(path)))
    copy = tmp_path / script
    copy.write_text(text, encoding="utf-8")
    runpy.run_path(str(copy), run_name="__main__")
    return capsys.readouterr().out


def test_transcribe(tiny_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("soundfile", reason="the script reads its clip with it")
    lines = run("transcribe.py", tmp_path, capsys, MODEL=tiny_bundle, CLIP=clip).splitlines()
    assert lines[-1].startswith("English: ")
    assert all(line.endswith(" None") for line in lines[-2:])


def test_streaming(tiny_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("soundfile", reason="the script reads its clip with it")
    printed = run("streaming.py", tmp_path, capsys, MODEL=tiny_bundle, CLIP=clip)
    assert re.findall(r"500 ms, chunk (\d)", printed) == ["1", "2", "3", "3"]
    assert "final: (" in printed


@pytest.fixture
def _aligner_for_any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(cls: type[Qwen3ForcedAligner], path: str, /, **_: object) -> Qwen3ForcedAligner:
        assert path == "ALIGNER"
        return cls(RecordingAligner(), None, None)

    monkeypatch.setattr(Qwen3ForcedAligner, "from_pretrained", classmethod(load))


@pytest.mark.usefixtures("_aligner_for_any_path")
def test_time_stamps(tiny_bundle: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("time_stamps.py", tmp_path, capsys, MODEL=tiny_bundle, CLIP=clip)
    assert printed.count("English ") == 2
    assert re.search(r"^\S+ 0\.0 0\.1$", printed, re.MULTILINE)


@pytest.mark.usefixtures("_aligner_for_any_path")
def test_align(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("align.py", tmp_path, capsys, CLIP=clip).splitlines() == [
        "['chinese', 'english', 'german']",
        "Good 0.0 0.1",
        "2 ['Good', 'morning']",
        "2 ['Guten', 'Morgen']",
    ]
