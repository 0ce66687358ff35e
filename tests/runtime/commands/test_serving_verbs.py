"""`serve` and `worker` in this process, from the command line to a polite end."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands.cli import main, parse_args


def test_serve_answers_until_it_is_asked_to_end(tiny_bundle: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the serve extra")
    pytest.importorskip("python_multipart", reason="needs the serve extra")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found: list[str] = []

    def ask() -> None:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as reply:
                    found.append(json.load(reply)["status"])
                    break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    assert main(["serve", "-m", str(tiny_bundle), "--port", str(port), "--threads", "1"]) == 0
    thread.join()
    assert found == ["ready"]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_worker_on_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(tmp_path / "s")
    assert main(["worker", "--no-model", "--socket", address]) == 2
    assert "QWEN3_ASR_WORKER_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("QWEN3_ASR_WORKER_TOKEN", "word")
    answers: list[dict[str, object]] = []

    def ask() -> None:
        while not Path(address).exists():
            time.sleep(0.02)
        time.sleep(0.1)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            with connection.makefile("rwb") as lines:
                lines.write(b'{"id": 1, "method": "hello", "params": {"token": "word"}}\n')
                lines.flush()
                answers.append(json.loads(lines.readline()))
                lines.write(b'{"id": 2, "method": "shutdown"}\n')
                lines.flush()
                answers.append(json.loads(lines.readline()))

    thread = threading.Thread(target=ask)
    thread.start()
    assert main(["worker", "--no-model", "--socket", address]) == 0
    thread.join()
    assert [one["id"] for one in answers] == [1, 2]


@pytest.mark.parametrize("verb", ["serve", "worker"])
@pytest.mark.parametrize(
    ("given", "expected"), [([], False), (["--aligner"], True), (["--aligner", "mini", "--threads", "1"], "mini")]
)
def test_an_aligner_is_named_in_the_same_way(verb: str, given: list[str], expected: bool | str) -> None:
    args = parse_args([verb, *given, "--aligner-variant", "int8"])
    assert args.aligner == expected
    assert args.aligner_variant == "int8"
