"""The peer's server: one request at a time, the same answers as ours."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from tests.support.clips import wav_bytes

pytest.importorskip("starlette", reason="needs the serve extra")
pytest.importorskip("python_multipart", reason="needs the serve extra")

from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx_eval.bench.peer_server import peer_app

ROUTE = "/v1/audio/transcriptions"


def clip(n_samples: int) -> bytes:
    return wav_bytes(np.zeros(n_samples, dtype=np.int16))


def test_requests_wait_for_each_other() -> None:
    busy = threading.Lock()

    def transcribe(samples: Waveform) -> str:
        assert busy.acquire(blocking=False)
        time.sleep(0.02)
        busy.release()
        return str(samples.size)

    with TestClient(peer_app(transcribe)) as client, ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda n: client.post(ROUTE, files={"file": ("a.wav", clip(n))}).json(), (800, 1600, 2400))
        assert list(answers) == [{"text": "800"}, {"text": "1600"}, {"text": "2400"}]


@pytest.mark.parametrize("files", [{}, {"file": ("a.wav", b"no audio at all")}])
def test_what_is_no_audio_is_refused(files: dict[str, tuple[str, bytes]]) -> None:
    with TestClient(peer_app(lambda _: "")) as client:
        answer = client.post(ROUTE, files=files)
        assert (answer.status_code, client.get("/health").status_code) == (400, 200)
        assert answer.json()["error"]["message"]
