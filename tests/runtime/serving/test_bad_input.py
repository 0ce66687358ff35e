"""What should not be sent, to the application with the real engine: the protocol's own errors, and others go on."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes

from qwen3_asr_onnx import AudioLimits, Transcriber
from qwen3_asr_onnx.async_transcriber import AsyncTranscriber
from qwen3_asr_onnx.serving.running import listening_socket

from . import conftest
from .conftest import running, until, wav
from .test_running import answered, connected, form, request

httpx2 = pytest.importorskip("httpx2")

TRANSCRIPTIONS, CHAT, ALIGNMENTS = "/v1/audio/transcriptions", "/v1/chat/completions", "/v1/audio/alignments"
LIMITS = AudioLimits(30.0, 1 << 20, allow_url=False, allow_path=False)
SHORT = {"max_new_tokens": "4", "max_segment_s": "3"}


@pytest.fixture(scope="module")
def address(asr: Transcriber) -> Iterator[str]:
    engine = AsyncTranscriber(asr, limits=LIMITS)
    with running(engine, max_upload_bytes=1 << 20, keys=("secret",), url_hosts=("*",)) as address:
        yield address


def ask(address: str, path: str = TRANSCRIPTIONS, key: str = "secret", **what: Any) -> Any:
    return httpx2.post(address + path, headers={"Authorization": f"Bearer {key}"}, timeout=60, **what)


def speech(seconds: float, rate: int = 16_000) -> bytes:
    return wav_bytes((synthetic_clip(seconds) * 2**14).astype(np.int16), rate)


def forged(rate: int, n_bytes: int | None = None) -> bytes:
    """A WAV of a second, with another sample rate, or another size, in its head."""
    content = bytearray(speech(1.0))
    content[24:28] = struct.pack("<I", rate)
    if n_bytes is not None:
        content[40:44] = struct.pack("<I", n_bytes)
    return bytes(content)


def upload(content: bytes, **fields: Any) -> dict[str, Any]:
    return {"files": {"file": ("a.wav", content)}, "data": {**SHORT, **fields}}


def audio_url(url: str) -> dict[str, Any]:
    return {"json": {"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}]}}


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no file": ({"files": {"other": b"x"}}, 400, "missing_file"),
    "no form": ({"data": {"model": "tiny"}}, 415, "unsupported_media_type"),
    "empty file": (upload(b""), 400, "empty_file"),
    "text file": (upload(b"These are words and no sound.\n" * 100), 400, "invalid_audio"),
    "another kind of file": (upload(b"\x89PNG\r\n\x1a\n" + bytes(5000)), 400, "invalid_audio"),
    "head of a WAV alone": (upload(speech(1.0)[:20]), 400, "invalid_audio"),
    "too many bytes": (upload(bytes(2 << 20)), 413, "body_too_large"),
    "too many seconds": (upload(forged(8000, 700_000)[:44] + bytes(700_000)), 413, "audio_too_long"),
    "a sample rate that makes hours of a second": (upload(forged(1)), 400, "invalid_audio"),
    "a sample rate of gigahertz": (upload(forged(4_000_000_000)), 400, "invalid_audio"),
    "wrong key": ({**upload(wav()), "key": "Secret"}, 401, "invalid_api_key"),
    "unknown model": (upload(wav(), model="gpt-9"), 404, "model_not_found"),
    "unknown format": (upload(wav(), response_format="docx"), 400, "invalid_value"),
    "language that does not exist": (upload(wav(), language="Klingon"), 400, "unsupported_language"),
    "words without an aligner": (
        upload(wav(), response_format="verbose_json", **{"timestamp_granularities[]": "word"}),
        400,
        "no_aligner",
    ),
    "alignment without an aligner": ({**upload(wav(), text="a"), "path": ALIGNMENTS}, 400, "no_aligner"),
    "translation": ({**upload(wav()), "path": "/v1/audio/translations"}, 400, "unsupported_task"),
    "a path of this machine": ({**audio_url("file:///etc/passwd"), "path": CHAT}, 400, "invalid_url"),
    "a path in a chat": ({**audio_url("/etc/passwd"), "path": CHAT}, 400, "invalid_url"),
    "this machine": ({**audio_url("http://127.0.0.1:1/a"), "path": CHAT}, 400, "invalid_url"),
    "this machine in decimal": ({**audio_url("https://2130706433/a"), "path": CHAT}, 400, "invalid_url"),
    "this machine mapped": ({**audio_url("http://[::ffff:127.0.0.1]/a"), "path": CHAT}, 400, "invalid_url"),
    "the metadata of a cloud": ({**audio_url("http://169.254.169.254/latest"), "path": CHAT}, 400, "invalid_url"),
    "text in a data URL": ({**audio_url("data:audio/wav;base64,dGV4dA=="), "path": CHAT}, 400, "invalid_audio"),
}


@pytest.mark.parametrize("what", BAD)
def test_is_refused_in_the_protocols_words(address: str, what: str) -> None:
    given, status, code = BAD[what]
    reply = ask(address, **given)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert "/tmp" not in reply.text
    assert "AudioLimits" not in reply.text


@pytest.mark.filterwarnings("ignore::qwen3_asr_onnx.TruncatedAudioWarning")  # an error in the tests
def test_half_a_wav_gives_what_can_be_read(address: str) -> None:
    content = speech(4.0)
    reply = ask(address, **upload(content[: len(content) // 2], response_format="verbose_json"))
    assert reply.json()["duration"] == pytest.approx(2.0, abs=0.01)


def test_a_wav_that_claims_gigabytes_gives_what_is_there(address: str) -> None:
    reply = ask(address, **upload(forged(16_000, 0xFFFFFFFF), response_format="verbose_json"))
    assert reply.json()["duration"] == pytest.approx(1.0, abs=0.01)


def test_a_body_without_a_length_is_counted(address: str) -> None:
    def unannounced() -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 16)

    headers = {"Content-Type": "multipart/form-data; boundary=B", "Authorization": "Bearer secret"}
    reply = httpx2.post(address + TRANSCRIPTIONS, content=unannounced(), headers=headers, timeout=60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


def test_an_upload_that_drips_is_ended_and_others_go_by(asr: Transcriber) -> None:
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.02):
                connection.sendall(b"x")

    with running(AsyncTranscriber(asr), read_timeout_s=0.5) as address, connected(address) as connection:
        connection.sendall(request(b"--B\r\n", length=100_000))
        thread = threading.Thread(target=drip, args=(connection,))
        thread.start()
        assert ask(address, **upload(wav())).status_code == 200
        status, reply = answered(connection)
        ended.set()
        thread.join()
    assert (status, reply["error"]["code"]) == (408, "upload_timeout")


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client does not read stays with the server."""

    def small(host: str, port: int, _: float) -> socket.socket:
        listening = listening_socket(host, port, 0.2)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listening

    monkeypatch.setattr(conftest, "listening_socket", small)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and elsewhere a socket has no such clock")
@pytest.mark.parametrize("kind", ["stream", "verbose_json"])
def test_who_does_not_read_holds_no_row_and_no_place(
    asr: Transcriber, small_buffers: None, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    del small_buffers
    engine = AsyncTranscriber(asr)
    fields = [("max_new_tokens", "24"), ("max_segment_s", "1"), ("response_format", "verbose_json")]
    if kind == "stream":
        fields[2] = ("stream", "true")
    with (
        caplog.at_level(logging.INFO, logger="qwen3_asr_onnx.serving"),
        running(engine, max_requests=2, send_timeout_s=0.5) as address,
        socket.socket() as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(30)
        host, _, port = address.removeprefix("http://").rpartition(":")
        deaf.connect((host, int(port)))
        deaf.sendall(request(form(*fields, file=speech(90.0))))
        until(lambda: engine.n_active == 1)
        assert ask(address, **upload(wav())).status_code == 200  # in the same batch
        until(lambda: engine.n_active == engine.n_waiting == 0)
        if kind == "stream":
            until(lambda: "the client went away" in caplog.text)
        for _ in range(3):
            assert ask(address, **upload(wav())).status_code == 200
        until(lambda: not is_open(int(port), deaf.getsockname()[1]))
        content = b""
        with contextlib.suppress(ConnectionResetError):
            while data := deaf.recv(1 << 16):
                content += data
    if kind == "stream":
        assert b"transcript.text.done" not in content
    else:
        head, _, body = content.partition(b"\r\n\r\n")
        assert len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0])


def is_open(port: int, peer: int) -> bool:
    """Whether the kernel has the end of a connection at this port."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    ends = [[int(place.rpartition(":")[2], 16) for place in line.split()[1:3]] for line in lines]
    return [port, peer] in ends
