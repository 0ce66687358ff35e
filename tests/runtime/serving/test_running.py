from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_server import AUTHORITY, CERTIFICATE, KEY

from qwen3_asr_onnx.async_transcriber import AsyncTranscriber
from qwen3_asr_onnx.serving import connections

from .conftest import FakeEngine, running, until, wav
from .processes import Served

PATH = "/v1/audio/transcriptions"


def connected(address: str) -> socket.socket:
    host, _, port = address.partition("://")[2].rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def form(*fields: tuple[str, str], file: bytes | None = None, typed: bool = True) -> bytes:
    """The body of a form as clients write it, its file last; bare parts without a type, as Open WebUI sends them."""
    parts = [f'--B\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields]
    if file is not None:
        kind = "Content-Type: audio/x-wav\r\n" if typed else ""
        head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n{kind}\r\n'
        parts.append(head.encode() + file + b"\r\n")
    return b"".join(parts) + b"--B--\r\n"


def request(body: bytes, length: int | None = None) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def answered(connection: socket.socket) -> tuple[int, Any]:
    content = b""
    while data := connection.recv(1 << 16):
        content += data
    head, _, body = content.partition(b"\r\n\r\n")
    return int(head.split()[1]), body if b"application/json" not in head else json.loads(body)


def test_the_requests_of_clients_as_they_are_sent(engine: FakeEngine) -> None:
    subtitle_edit = form(
        ("model", "whisper-1"),
        ("language", "en"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "segment"),
        ("timestamp_granularities[]", "word"),
        ("temperature", "0.20"),
        ("prompt", "names"),
        file=wav(),
    )
    open_webui = form(("model", "whisper-1"), file=wav(), typed=False)
    n8n = form(("model", "whisper-1"), ("language", "en"), ("temperature", "0"), file=wav())
    with running(engine) as address:
        for body in (subtitle_edit, open_webui, n8n):
            with connected(address) as connection:
                connection.sendall(request(body))
                status, reply = answered(connection)
            assert (status, reply["text"]) == (200, "Hello there. Bye.")
    assert engine.sizes == [len(wav())] * 3


def test_a_client_that_goes_away_ends_its_request(engine: FakeEngine) -> None:
    engine.hangs = True
    with running(engine) as address:
        for fields in ((), (("stream", "true"),)):
            engine.cancelled.clear()
            n_before = len(engine.sizes)
            with connected(address) as connection:
                connection.sendall(request(form(*fields, file=wav())))
                until(lambda n=n_before: len(engine.sizes) > n)  # type: ignore[misc]
            assert engine.cancelled.wait(20)


def test_a_slow_upload_is_refused_and_a_large_one_before_it_is_sent(engine: FakeEngine) -> None:
    with running(engine, read_timeout_s=0.2, max_upload_bytes=1 << 20) as address:
        with connected(address) as connection:
            connection.sendall(request(b"--B\r\n", length=1000))
            status, reply = answered(connection)
        assert (status, reply["error"]["code"]) == (408, "upload_timeout")
        with connected(address) as connection:
            connection.sendall(request(b"", length=3 << 30))
            status, reply = answered(connection)
        assert (status, reply["error"]["code"]) == (413, "body_too_large")


def test_connections_over_the_limit_are_told_so(engine: FakeEngine) -> None:
    with running(engine, max_connections=3) as address:
        held = [connected(address) for _ in range(3)]
        until(lambda: True)
        with connected(address) as connection:
            status, reply = answered(connection)
        assert (status, reply["error"]["code"]) == (503, "overloaded")
        for each in held:
            each.close()


@pytest.mark.parametrize("certificate", [None, CERTIFICATE])
@pytest.mark.parametrize("size", [100, 2 << 20])
def test_who_is_refused_while_sending_reads_why(
    engine: FakeEngine, size: int, certificate: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a connection with something unread resets it, and takes the reply away with it."""
    monkeypatch.setattr(connections, "LINGER_S", 0.2)

    def ask() -> tuple[int, Any]:
        with connected(address) as plain, wrapped(plain) as connection:
            with contextlib.suppress(OSError):  # it need not take it all
                connection.sendall(request(b"x" * size))
            return answered(connection)

    def wrapped(connection: socket.socket) -> Any:
        if certificate is None:
            return contextlib.nullcontext(connection)
        context = ssl.create_default_context(cafile=AUTHORITY)
        return context.wrap_socket(connection, server_hostname="localhost")

    tls = {} if certificate is None else {"tls": {"ssl_certfile": certificate, "ssl_keyfile": KEY}}
    with running(engine, max_upload_bytes=50, **tls) as address:
        assert [ask()[0] for _ in range(3)] == [413] * 3
    with running(engine, keys=("k",), **tls) as address:
        assert [ask()[0] for _ in range(3)] == [401] * 3
    with running(engine, max_connections=1, **tls) as address, connected(address) as plain, wrapped(plain):
        assert [ask()[0] for _ in range(3)] == [503] * 3


def test_what_is_no_http_is_told_so(engine: FakeEngine) -> None:
    with running(engine) as address:
        for sent in (b"hello\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"x" * 100 + b"\r\n" * 2):
            with connected(address) as connection:
                connection.sendall(sent)
                status, reply = answered(connection)
            assert (status, reply["error"]["code"]) == (400, "invalid_http")
        with connected(address) as connection:
            chunked = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            connection.sendall(chunked + b"no number\r\n")
            assert answered(connection)[1]["error"]["code"] == "invalid_http"


def test_the_end_lets_requests_finish_for_a_while_and_hands_back_the_rest(engine: FakeEngine) -> None:
    engine.hangs = True
    found: list[tuple[int, Any]] = []

    def wait(connection: socket.socket) -> None:
        found.append(answered(connection))

    with running(engine, grace_s=0.2) as address:
        connection = connected(address)
        connection.sendall(request(form(file=wav())))
        until(lambda: bool(engine.sizes))
        thread = threading.Thread(target=wait, args=(connection,))
        thread.start()
    thread.join(20)
    connection.close()
    (status, reply) = found[0]
    assert (status, reply["error"]["code"]) == (503, "shutting_down")


def test_a_client_that_does_not_read_ends_its_request(engine: FakeEngine) -> None:
    ended = threading.Event()

    async def endless(audio: Any, options: Any) -> Any:
        from qwen3_asr_onnx.results import Partial

        text = ""
        try:
            while True:
                text += "word " * 20000
                yield Partial(0.0, text, text)
        finally:
            ended.set()

    engine.events = endless  # type: ignore[method-assign]
    with running(engine, send_timeout_s=0.2) as address, connected(address) as connection:
        connection.sendall(request(form(("stream", "true"), file=wav())))
        assert ended.wait(20)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process")
def test_the_verb_serves_and_ends_with_status_0(tiny_bundle: Path) -> None:
    with Served(tiny_bundle) as server:
        server.wait_until_ready()
        with connected(server.address) as connection:
            connection.sendall(request(form(("max_new_tokens", "4"), file=wav())))
            status, reply = answered(connection)
        assert (status, reply["usage"]["output_tokens"] <= 4) == (200, True)
        assert server.end() == 0
        assert "Traceback" not in server.told


def test_the_engine_itself_behind_it(tiny_bundle: Path) -> None:
    with running(AsyncTranscriber(tiny_bundle)) as address:
        bodies = [form(("max_new_tokens", "5"), file=wav(1 + n)) for n in range(3)]
        connections = [connected(address) for _ in bodies]
        for connection, body in zip(connections, bodies, strict=True):
            connection.sendall(request(body))
        assert [answered(connection)[0] for connection in connections] == [200] * 3
        for connection in connections:
            connection.close()


def test_a_reply_does_not_wait_for_the_network_to_fill_a_packet(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    found: list[int] = []
    lost = H11Protocol.connection_lost

    def looked(protocol: H11Protocol, error: Exception | None) -> None:
        sent_by = protocol.transport.get_extra_info("socket")
        found.append(sent_by.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        lost(protocol, error)

    monkeypatch.setattr(H11Protocol, "connection_lost", looked)
    with running(engine) as address, connected(address) as connection:
        connection.sendall(request(form(file=wav())))
        assert answered(connection)[0] == 200
    assert found
    assert all(found)
