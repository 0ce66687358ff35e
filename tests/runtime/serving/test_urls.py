from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests.support.local_server import served

pytest.importorskip("starlette", reason="needs the serve extra")

from qwen3_asr_onnx import LimitError
from qwen3_asr_onnx.serving.errors import ApiError
from qwen3_asr_onnx.serving.urls import Fetcher, is_public


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"sound" * 10)

    def log_message(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "240.0.0.1"),
    ],
)
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "ftp://ok.example/a",
            "//ok.example/a",
            "/etc/passwd",
            "a.wav",
            "",
            "http://",
            "http://[",
        ),
        *(
            "http://user:pw@ok.example/a",
            "http://ok.example/a b",
            "http://ok.example/a\r\nX: y",
            "gopher://ok.example/",
        ),
        *("http://other.example/a", "http://ok.example.evil.example/a", "http://ok.example@evil.example/"),
        *("http://ok.example:99999/", "http://ok.example:x/"),
    ],
)
def test_refused_before_anything_is_looked_up(url: str) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError((host, port))

    with pytest.raises(ApiError) as caught:
        Fetcher(("ok.example",), 100, resolve=resolve).fetch(url)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "url", ["http://2130706433/", "http://0x7f.1/", "http://localhost/", "http://[::ffff:127.0.0.1]/"]
)
def test_other_ways_to_write_this_machine(url: str) -> None:
    with pytest.raises(ApiError, match=r"public internet|no such host"):
        Fetcher(("*",), 100).fetch(url)


def test_off_unless_allowed() -> None:
    with pytest.raises(ApiError, match="--allow-url-host"):
        Fetcher((), 100).fetch("https://ok.example/a.wav")


def test_one_private_address_among_several_is_enough() -> None:
    with pytest.raises(ApiError, match="public internet"):
        Fetcher(("*",), 100, resolve=lambda *_: ["8.8.8.8", "127.0.0.1"]).fetch("http://ok.example/")


def test_what_is_connected_to_is_what_was_checked_and_redirects_are_refused() -> None:
    seen: list[tuple[str, str]] = []
    answers = iter([["127.0.0.1"]] * 3)  # a second look-up of one request would run out

    def fetcher(max_bytes: int) -> Fetcher:
        return Fetcher(("ok.example",), max_bytes, lambda *_: next(answers), lambda _: True)

    with served(Files, seen=seen) as place:
        port = place.rpartition(":")[2]
        with fetcher(100).fetch(f"http://OK.example:{port}/a?b=c#d") as file:
            assert file.read() == b"sound" * 10
        with pytest.raises(ApiError, match="redirects are not followed"):
            fetcher(100).fetch(f"http://ok.example:{port}/moved")
        with pytest.raises(LimitError):
            fetcher(20).fetch(f"http://ok.example:{port}/a")
    assert seen == [("/a?b=c", f"ok.example:{port}"), ("/moved", f"ok.example:{port}"), ("/a", f"ok.example:{port}")]
