"""The adapters, each around the real thing: our runtime, transformers, the official package, other recognisers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

pytest.importorskip("psutil", reason="needs the eval extra")

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx_eval.systems.process import SystemFailedError, SystemProcess, SystemSpec, parse_system

DATA = Path(__file__).resolve().parents[2] / "data"
TINY = DATA / "tiny_bundle"
MINI = DATA / "mini-asr"
SPOKEN = "How is the weather in Rome Friday?"
OFFICIAL = "QWEN_ASR_PYTHON"


def spec(text: str, python: str | None = None) -> SystemSpec:
    return parse_system(text, threads=1, official_python=python)


def spoken(tmp_path: Path) -> Path:
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")
    samples, _ = soundfile.read(DATA / "mini-clips" / "en_1.flac", dtype="float32")
    return saved(samples, tmp_path)


def saved(samples: Any, tmp_path: Path) -> Path:
    path = tmp_path / "audio.npy"
    np.save(path, np.asarray(samples, np.float32))
    return path


def ask(system: SystemSpec, audio: Path, language: str | None = None) -> dict[str, Any]:
    with SystemProcess(system) as process:
        answer = process.transcribe(audio, language, 2, 120)
        assert process.loaded["info"]["size_bytes"] > 0
        assert process.loaded["info"]["versions"]
        assert "error" in answer or len(answer["seconds"]) == 2
        assert answer["peak_rss"] > 10_000_000
        return answer


def test_our_runtime(tmp_path: Path) -> None:
    clip = synthetic_clip(1.0)
    with Transcriber(TINY) as asr:
        expected = asr.transcribe(clip)
    answer = ask(spec(f"ours:{TINY}"), saved(clip, tmp_path))
    assert (answer["text"], answer["language"], answer["stop_reason"]) == (
        expected.text, expected.language, expected.stop_reason
    )  # fmt: skip


def test_a_variant_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SystemFailedError, match="no variant 'int3'"):
        ask(spec(f"ours:{TINY}@int3"), saved(synthetic_clip(1.0), tmp_path))


@pytest.mark.torch
@pytest.mark.parametrize(("layout", "dtype", "forced"), [("original", "bfloat16", None), ("native", "", "English")])
def test_transformers(tmp_path: Path, layout: str, dtype: str, forced: str | None) -> None:
    """In this process: another import of torch would cost more than all other tests here."""
    pytest.importorskip("torch", reason="needs the export extra")
    from tests.support.checkpoints import native_from_original

    from qwen3_asr_onnx_eval.systems.adapters.transformers_native import load

    checkpoint = MINI if layout == "original" else native_from_original(MINI, tmp_path / "native")
    system = load({"model": str(checkpoint), "precision": dtype, "threads": 1})
    answer = system.transcribe(np.load(spoken(tmp_path)), forced)
    assert answer == {"text": SPOKEN, "language": "English", "stop_reason": "eos"}
    assert system.info["size_bytes"] > 5_000_000
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        load({"model": str(checkpoint), "precision": "int4", "threads": 1})


def test_the_official_package(tmp_path: Path) -> None:
    python = os.environ.get(OFFICIAL)
    if not python:
        pytest.skip(f"needs an environment with qwen-asr: set {OFFICIAL} to its interpreter")
    answer = ask(spec(f"official:{MINI}", python), spoken(tmp_path))
    assert (answer["text"], answer["language"]) == (SPOKEN, "English")


@pytest.mark.conformance
def test_faster_whisper(tmp_path: Path) -> None:
    """Random weights: what is heard means nothing, that it is heard the same through the adapter does."""
    faster_whisper = pytest.importorskip("faster_whisper", reason="needs the peers extra")
    pytest.importorskip("torch", reason="needs the export extra")
    from tests.support.tiny_whisper import make_tiny_whisper

    model = make_tiny_whisper(tmp_path / "whisper")
    clip = synthetic_clip(2.0)
    segments, info = faster_whisper.WhisperModel(
        str(model), device="cpu", compute_type="float32", cpu_threads=1
    ).transcribe(clip, beam_size=1, condition_on_previous_text=False)
    answer = ask(spec(f"faster-whisper:{model}@float32"), saved(clip, tmp_path))
    assert "error" not in answer, answer["error"]
    assert answer["text"] == "".join(one.text for one in segments).strip()
    assert answer["language"] == (info.language if answer["text"] else "")
    forced = ask(spec(f"faster-whisper:{model}@float32"), saved(clip, tmp_path), "Macedonian")
    assert "error" not in forced


@pytest.mark.conformance
def test_sherpa_onnx(tmp_path: Path) -> None:
    """A random CTC model, through the adapter and by hand."""
    sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="needs the peers extra")
    pytest.importorskip("onnx", reason="needs the export extra")
    from tests.support.tiny_ctc import make_tiny_ctc

    model, tokens = make_tiny_ctc(tmp_path)
    description = tmp_path / "ctc.json"
    description.write_text(
        json.dumps({"type": "nemo_ctc", "model": model.name, "tokens": tokens.name}), encoding="utf-8"
    )
    clip = synthetic_clip(2.0)
    recognizer = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(model=str(model), tokens=str(tokens), num_threads=1)
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, clip)
    recognizer.decode_stream(stream)
    answer = ask(spec(f"sherpa-onnx:{description}"), saved(clip, tmp_path))
    assert answer["text"] == stream.result.text.strip()
    assert answer["text"]
    assert answer["language"] is None
    forced = ask(spec(f"sherpa-onnx:{description}"), saved(clip, tmp_path), "English")
    assert "do not force" in forced["error"]
