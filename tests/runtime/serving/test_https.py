"""HTTPS both ways: audio_url from a server whose certificate is looked at, and this server behind one of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from tests.support.local_server import AUTHORITY, CERTIFICATE, EXPIRED, KEY, served

from qwen3_asr_onnx.commands import serve
from qwen3_asr_onnx.commands.cli import parse_args
from qwen3_asr_onnx.serving.errors import ApiError
from qwen3_asr_onnx.serving.urls import Fetcher

from .conftest import FakeEngine, running, wav
from .processes import Served

PAGE = Path(__file__).parents[3] / "docs" / "server.md"
PUBLIC = "93.184.215.14"


class Sounds(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        vars(self.server)["seen"].append((self.path, self.headers["Host"]))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "https://localhost/secret")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(wav())

    def log_message(self, *_: Any) -> None: ...


class Place:
    """An HTTPS server at the address `PUBLIC`, for connections of this process to any port there."""

    def __init__(self, port: int, seen: list[tuple[str, str]], names: list[str]) -> None:
        self.port, self.seen, self.names = port, seen, names
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []

    def fetcher(self, *hosts: str, **changes: Any) -> Fetcher:
        return Fetcher(hosts or ("*",), 1 << 20, **changes)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's authority, trusted as a user would."""
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))


def at_public(monkeypatch: pytest.MonkeyPatch, certificate: Path = CERTIFICATE) -> Iterator[Place]:
    names: list[str] = []
    seen: list[tuple[str, str]] = []
    connect, look_up = socket.create_connection, socket.getaddrinfo
    with served(Sounds, certificate=certificate, names=names, seen=seen) as address:
        place = Place(int(address.rpartition(":")[2]), seen, names)

        def create_connection(to: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
            if to[0] == PUBLIC:
                place.connected.append(to)
                to = "127.0.0.1", place.port
            return connect(to, *rest, **more)

        def getaddrinfo(host: Any, port: Any, *rest: Any, **more: Any) -> Sequence[Any]:
            if isinstance(host, str) and host.endswith((".example", ".com")):
                place.looked_up.append(host)
                # The second answer is another: what was checked is what must be connected to.
                found = PUBLIC if place.looked_up.count(host) == 1 else "127.0.0.1"
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]
            return look_up(host, port, *rest, **more)

        monkeypatch.setattr(socket, "create_connection", create_connection)
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield place


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, trusted: None) -> Iterator[Place]:
    del trusted
    yield from at_public(monkeypatch)


def test_the_name_is_asked_for_and_checked_and_the_address_is_the_one_that_was_looked_up(place: Place) -> None:
    with place.fetcher("ok.example").fetch("https://OK.example./a?b=c#d") as file:
        assert file.read() == wav()
    assert place.names == ["ok.example"]
    assert place.seen == [("/a?b=c", "ok.example")]
    assert place.looked_up == ["ok.example"]
    assert place.connected == [(PUBLIC, 443)]


def test_a_name_that_answers_otherwise_the_second_time_gets_nothing(place: Place) -> None:
    place.looked_up.append("ok.example")
    with pytest.raises(ApiError, match="public internet"):
        place.fetcher().fetch("https://ok.example/a")
    assert not place.connected


def test_redirects_are_refused(place: Place) -> None:
    with pytest.raises(ApiError, match="302; redirects are not followed"):
        place.fetcher().fetch("https://ok.example/moved")
    assert [path for path, _ in place.seen] == ["/moved"]


def test_a_certificate_of_another_name(place: Place) -> None:
    with pytest.raises(ApiError, match=r"certificate is not accepted: .*not valid for 'other\.example'"):
        place.fetcher().fetch("https://other.example/a")
    assert not place.seen


def test_a_certificate_that_has_expired(monkeypatch: pytest.MonkeyPatch, trusted: None) -> None:
    del trusted
    for place in at_public(monkeypatch, EXPIRED):
        with pytest.raises(ApiError, match="certificate is not accepted: certificate has expired"):
            place.fetcher().fetch("https://ok.example/a")
        assert not place.seen


def test_a_certificate_of_an_authority_that_nobody_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in at_public(monkeypatch):
        with pytest.raises(ApiError, match="certificate is not accepted: unable to get local issuer"):
            place.fetcher().fetch("https://ok.example/a")
        assert not place.seen


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.1", "localhost", "[::1]", "[::]"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0.0.0.0"),
    ],
)
def test_other_ways_to_write_this_machine(host: str, trusted: None) -> None:
    del trusted
    seen: list[tuple[str, str]] = []
    # The certificate is one of 127.0.0.1: it is the address that is refused.
    with served(Sounds, certificate=CERTIFICATE, seen=seen) as address:
        port = address.rpartition(":")[2]
        with pytest.raises(ApiError, match=r"public internet|no such host"):
            Fetcher(("*",), 100).fetch(f"https://{host}:{port}/a")
    assert not seen


def silent(accepted: socket.socket, ended: threading.Event) -> None:
    del accepted
    ended.wait()


def not_tls(accepted: socket.socket, _: threading.Event) -> None:
    accepted.recv(1 << 16)
    accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\nsound")


def drops(accepted: socket.socket, ended: threading.Event) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    with context.wrap_socket(accepted, server_side=True) as spoken:
        spoken.sendall(b"HTTP/1.1 200 OK\r\n")
        while not ended.wait(0.05):
            spoken.sendall(b"X: y\r\n")


@pytest.mark.parametrize("answer", [silent, not_tls, drops])
def test_who_does_not_speak_tls_or_slowly_is_given_up(
    answer: Callable[[socket.socket, threading.Event], None], trusted: None
) -> None:
    del trusted
    ended = threading.Event()

    def serve_one(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        with accepted, contextlib.suppress(OSError):  # the other end closes it
            answer(accepted, ended)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve_one, args=(listening,))
        thread.start()
        fetcher = Fetcher(("*",), 100, lambda *_: ["127.0.0.1"], lambda _: True, timeout_s=0.3)
        try:
            with pytest.raises(ApiError, match="cannot be fetched"):
                fetcher.fetch(f"https://ok.example:{listening.getsockname()[1]}/")
        finally:
            ended.set()
            thread.join(20)


def example() -> tuple[dict[str, Any], str]:
    """Return the settings that the line of docs/server.md gives, and the Python that follows it."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(
        r"```sh\n(qwen3-asr-onnx serve [^\n]*--allow-url-host[^\n]*)\n```\n\n```python\n(.*?)```", page, re.DOTALL
    )
    assert found is not None
    settings = serve._settings(parse_args(shlex.split(found[1])[1:]))
    return {"url_hosts": settings.url_hosts, "aliases": settings.aliases}, found[2]


class Poster:
    """As much of OpenAI's client as the example needs."""

    def __init__(self, address: str) -> None:
        self.chat = self.completions = self
        self._address = address
        self.reply: Any = None

    def create(self, **body: Any) -> None:
        import httpx2

        self.reply = httpx2.post(f"{self._address}/v1/chat/completions", json=body).json()


def test_the_official_example_runs_through_the_one_switch(place: Place, engine: FakeEngine) -> None:
    settings, code = example()
    with running(engine, **settings) as address:
        exec(code, {"client": (client := Poster(address))})
    assert client.reply["choices"][0]["message"]["content"] == "language English<asr_text>Hello there. Bye."
    assert place.seen == [("/Qwen3-ASR-Repo/asr_en.wav", "qianwen-res.oss-cn-beijing.aliyuncs.com")]
    assert engine.sizes == [len(wav())]
    with running(engine, aliases=settings["aliases"]) as address:
        exec(code, {"client": (client := Poster(address))})
    assert "--allow-url-host" in client.reply["error"]["message"]
    assert len(place.seen) == 1


@pytest.mark.conformance
def test_the_official_example_with_its_own_client(place: Place, engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    settings, code = example()
    replies = []
    with running(engine, **settings) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="EMPTY") as client:
        create = client.chat.completions.create
        client.chat.completions.create = lambda **given: replies.append(create(**given))
        exec(code, {"client": client})
    assert replies[0].choices[0].message.content == "language English<asr_text>Hello there. Bye."
    assert len(place.seen) == 1


def test_the_verb_speaks_https(tiny_bundle: Path) -> None:
    with Served(tiny_bundle, "--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(KEY)) as server:
        assert server.address.startswith("https://127.0.0.1:")
        server.wait_until_ready()
        context = ssl.create_default_context(cafile=AUTHORITY)
        connection = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
        body = (
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + wav() + b"\r\n--B--\r\n"
        )
        for stream in (b"", b'--B\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n'):
            headers = {"Content-Type": "multipart/form-data; boundary=B"}
            connection.request("POST", "/v1/audio/transcriptions", stream + body, headers)
            reply = connection.getresponse()
            told = reply.read()
            assert reply.status == 200
            assert (b"transcript.text.done" in told) if stream else ("text" in json.loads(told))
        connection.close()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.recv(1 << 16)
        assert server.end() == 0
        assert "Traceback" not in server.told
