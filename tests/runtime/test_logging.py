"""What the library logs, and that it stays silent until somebody asks."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber

ROOT = logging.getLogger("qwen3_asr_onnx")


def test_a_transcription_tells_what_a_maintainer_asks_for(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.round(synthetic_clip(0.5) * 32_767).astype("<i2").tobytes())
    with caplog.at_level(logging.DEBUG, "qwen3_asr_onnx"):
        asr = Transcriber(tiny_bundle, threads=1)
        asr.transcribe(tmp_path / "a.wav", TranscribeOptions(max_new_tokens=2, batch_size=3))
        asr.close()
    told = {(record.name, record.levelname): record.getMessage() for record in caplog.records}
    loaded = told["qwen3_asr_onnx.model.loading", "INFO"]
    assert loaded.startswith(f"{tiny_bundle}: variant {asr.variant} loaded on cpu, 1 threads, in ")
    assert told["qwen3_asr_onnx.audio.formats", "DEBUG"] == f"{tmp_path / 'a.wav'}: read as WAV, without a decoder"
    assert told["qwen3_asr_onnx.transcription.pieces", "DEBUG"] == "a batch of 3 rows at most, any positions"


def test_the_library_installs_no_handler_and_is_silent() -> None:
    assert [type(handler) for handler in ROOT.handlers] == [logging.NullHandler]
    assert ROOT.level == logging.NOTSET
    code = "import logging, qwen3_asr_onnx; logging.getLogger('qwen3_asr_onnx.model').warning('heard by nobody')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
