"""The real engine under many connections, and its end while requests are being decoded."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

from .conftest import running, until, wav
from .processes import Served
from .test_running import answered, connected, form, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts the files of a process in /proc")


def n_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def many_files() -> None:
    """Both ends of a thousand connections are files of this process."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this user may not open 4096 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))


def test_a_thousand_connections(asr: Transcriber, many_files: None) -> None:
    del many_files
    patient: dict[str, Any] = {"headers_timeout_s": 300.0, "read_timeout_s": 300.0, "send_timeout_s": 300.0}
    short = request(form(("max_new_tokens", "3"), file=wav()))
    with running(AsyncTranscriber(asr), max_connections=1000, max_requests=100, **patient) as address:
        before = n_files()
        idle = [connected(address) for _ in range(700)]
        heads = [connected(address) for _ in range(100)]
        bodies = [connected(address) for _ in range(100)]
        for connection in heads:
            connection.sendall(short[:60])
        for connection in bodies:
            connection.sendall(short[:-50])

        def ask() -> tuple[int, Any]:
            with connected(address) as connection:
                connection.sendall(short)
                return answered(connection)

        until(lambda: ask()[0] == 429)  # the places are taken by those whose bodies are coming
        idle += [connected(address) for _ in range(100)]
        until(lambda: ask()[0] == 503)
        for _ in range(150):
            status, reply = ask()
            assert (status, reply["error"]["code"]) == (503, "overloaded")
        ends = 2 * len([*idle, *heads, *bodies])
        assert n_files() <= before + ends + 130  # those that were refused and have not closed yet
        for connection in bodies[:50]:
            connection.sendall(short[-50:])
        assert [answered(connection)[0] for connection in bodies[:50]] == [200] * 50
        for connection in [*idle, *heads, *bodies]:
            connection.close()
        until(lambda: n_files() <= before)
        assert ask()[0] == 200


def events_of(content: bytes) -> list[tuple[str, Any]]:
    """The named events of a reply in chunks."""
    lines = [line for line in content.decode().splitlines() if line.startswith(("event: ", "data: "))]
    return [(name[7:], json.loads(data[6:])) for name, data in zip(lines[::2], lines[1::2], strict=True)]


def rest_of(connection: socket.socket) -> bytes:
    content = b""
    while data := connection.recv(1 << 16):
        content += data
    return content


@pytest.mark.parametrize("finishes", [True, False])
def test_the_end_while_eight_requests_are_decoded(tiny_bundle: Path, tmp_path: Path, finishes: bool) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    fields = (("max_new_tokens", "8"), ("max_segment_s", "10" if finishes else "2"))
    sound = wav(34.0 if finishes else 600.0)  # over 1 MiB: kept on disk
    grace = "60" if finishes else "1"
    with Served(tiny_bundle, "--timeout-graceful-shutdown", grace, env=environment) as server:
        server.wait_until_ready()
        told = [connected(server.address) for _ in range(4)]
        whole = [connected(server.address) for _ in range(4)]
        for connection in told:
            connection.sendall(request(form(*fields, ("stream", "true"), file=sound)))
        for connection in whole:
            connection.sendall(request(form(*fields, file=sound)))
        begun = [connection.recv(1 << 16) for connection in told]  # the head: they are being decoded
        assert server.end() == 0
        for connection, first in zip(told, begun, strict=True):
            content = first + rest_of(connection)
            name, data = events_of(content)[-1]
            if finishes:
                assert name == "transcript.text.done"
            else:
                assert (name, data["error"]["code"]) == ("error", "shutting_down")
            assert content.endswith(b"0\r\n\r\n")
        for connection in whole:
            status, reply = answered(connection)
            if finishes:
                assert (status, "text" in reply) == (200, True)
            else:
                assert (status, reply["error"]["code"]) == (503, "shutting_down")
        for connection in [*told, *whole]:
            connection.close()
        assert "Traceback" not in server.told
    assert not list(tmp_path.iterdir())
