"""Systems under evaluation that need no model, and audio to give them."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import SAMPLE_RATE, synthetic_clip

FAKE_ADAPTER = Path(__file__).parents[1] / "support" / "fake_system.py"
MakeAudio = Callable[..., Path]


def write_wav(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (synthetic_clip(seconds, seed) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def fake_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind "fake" of system: `model` is a JSON file that maps milliseconds of audio to what is answered."""
    monkeypatch.setattr("qwen3_asr_onnx_eval.systems.process.KINDS", {"fake": str(FAKE_ADAPTER)})


@pytest.fixture
def make_answers(tmp_path: Path) -> Callable[..., Path]:
    """Write the JSON file of a fake system: audio seconds -> answer."""

    def make(name: str, answers: dict[float, Any]) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({str(round(1000 * s)): answer for s, answer in answers.items()}), encoding="utf-8")
        return path

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write WAV files and their manifest: each row is (seconds, text, language)."""

    def make(rows: list[tuple[float, str, str]], **more: Any) -> Path:
        lines = []
        for index, (seconds, text, language) in enumerate(rows):
            write_wav(tmp_path / f"clip{index}.wav", seconds)
            row = {"path": f"clip{index}.wav", "id": f"u{index}", "text": text, "language": language, **more}
            lines.append(json.dumps(row, ensure_ascii=False))
        path = tmp_path / "manifest.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


def waveform(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return synthetic_clip(seconds)
