"""One HTTP request to a transcription server, as its clients send it. Standard library alone.

asyncio streams and a connection per request: a hundred clients are then a hundred small coroutines in one thread, whose
own cost is far below what a server takes to answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["ROUTES", "Answer", "BadAnswer", "Request", "Server", "exchange", "hang_up", "make_request", "parse_server"]

BOUNDARY = "qwen3-asr-onnx-bench"
PATHS = {
    "transcriptions": "/v1/audio/transcriptions",
    "stream": "/v1/audio/transcriptions",
    "chat": "/v1/chat/completions",
}
ROUTES = tuple(PATHS)
"""`transcriptions`: a file, JSON back; `stream`: the same as server-sent events; `chat`: the audio in a data: URL."""


class BadAnswer(Exception):  # noqa: N818 - an answer that is not one
    """The server closed early or sent what is no HTTP, no JSON or no event of the protocol."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go: host, port, the path before `/v1`, whether by TLS, the key to send ("" for none)."""

    host: str
    port: int
    prefix: str
    tls: bool
    key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, ready as bytes, and which route's answer is expected."""

    route: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        text: the transcript, or the server's words of why there is none.
        first_text_s: seconds from sending to the first text of a stream, or None.
        retry_after_s: what the server asks to wait before trying again, or None.
    """

    status: int
    text: str
    first_text_s: float | None = None
    retry_after_s: float | None = None


def parse_server(url: str, key: str = "") -> Server:
    """Return the server of an address such as `http://127.0.0.1:8000` or one that ends in `/v1`.

    Raises:
        OptionsError: it is no http or https address.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise OptionsError(f"--serve {url}: {error}; give an address such as http://127.0.0.1:8000") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionsError(f"--serve {url}: give an address such as http://127.0.0.1:8000")
    return Server(parts.hostname, port, parts.path.rstrip("/").removesuffix("/v1"), parts.scheme == "https", key)


def make_request(server: Server, route: str, wav: bytes, model: str) -> Request:
    """Return the request for one clip.

    Args:
        server: where it will go; host and key are in its headers.
        route: one of `ROUTES`.
        wav: a WAV file's bytes.
        model: name to ask for.
    """
    if route == "chat":
        part = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{base64.b64encode(wav).decode()}"}}
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": [part]}]}).encode()
        kind = "application/json"
    else:
        fields = {"model": model, "response_format": "json", **({"stream": "true"} if route == "stream" else {})}
        part_head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
        lines = "".join(f'{part_head}"{key}"\r\n\r\n{value}\r\n' for key, value in fields.items())
        lines += f'{part_head}"file"; filename="clip.wav"\r\nContent-Type: audio/x-wav\r\n\r\n'
        body = lines.encode() + wav + f"\r\n--{BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
    headers = [
        f"POST {server.prefix}{PATHS[route]} HTTP/1.1",
        f"Host: {f'[{server.host}]' if ':' in server.host else server.host}:{server.port}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *([f"Authorization: Bearer {server.key}"] if server.key else []),
    ]
    return Request(route, "\r\n".join(headers).encode() + b"\r\n\r\n" + body)


async def exchange(server: Server, request: Request) -> Answer:
    """Send a request and return its answer.

    Raises:
        OSError: no connection, or it broke.
        BadAnswer: what came back is no answer of this protocol.
    """
    started = time.perf_counter()
    async with _connection(server) as (reader, writer):
        await _send(writer, request.data)
        status, headers = await _head(reader)
        body = _chunks(reader, headers)
        if status == 200 and request.route == "stream":
            return await _events(body, started)
        whole = b"".join([chunk async for chunk in body])
    retry = headers.get("retry-after", "")
    waits = float(retry) if retry.replace(".", "", 1).isdigit() else None
    return Answer(status, _text(status, request.route, whole), retry_after_s=waits)


async def hang_up(server: Server, request: Request, *, share: float, wait_s: float) -> None:
    """Send part of a request, or all of it, wait, and go away without reading.

    Args:
        server: where to.
        request: what is begun.
        share: of its bytes that are sent.
        wait_s: how long to stay afterwards.
    """
    with contextlib.suppress(OSError):
        async with _connection(server) as (_, writer):
            await _send(writer, request.data[: round(share * len(request.data))])
            await asyncio.sleep(wait_s)


@contextlib.asynccontextmanager
async def _connection(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    tls = ssl.create_default_context() if server.tls else None
    reader, writer = await asyncio.open_connection(server.host, server.port, ssl=tls)
    try:
        yield reader, writer
    finally:
        # Not awaited: the other side may hold it open, and a client that leaves does not stay to see.
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    # A server may refuse by the headers alone and close: its answer is then there to be read all the same.
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            if status >= 200:
                break
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise BadAnswer("no HTTP answer") from error
    pairs = (line.partition(":") for line in lines[1:] if line)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _chunks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield a body as it comes: chunked, of a known length, or up to the end of the connection."""
    try:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            while size := int((await reader.readline()).split(b";")[0], 16):
                yield (await reader.readexactly(size + 2))[:-2]
        elif "content-length" in headers:
            yield await reader.readexactly(int(headers["content-length"]))
        else:
            while data := await reader.read(65536):
                yield data
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise BadAnswer("the answer ends early") from error


async def _events(body: AsyncIterator[bytes], started: float) -> Answer:
    """Read server-sent events, OpenAI's (transcript.text.*) or vLLM's (choices with deltas)."""
    first: float | None = None
    pieces: list[str] = []
    final: str | None = None
    ended = False
    async for line in _lines(body):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            ended = True
            continue
        event = _object(data)
        if "error" in event:
            return Answer(500, _message(event))
        delta = _delta(event)
        if delta and first is None:
            first = time.perf_counter() - started
        pieces.append(delta)
        if event.get("type") == "transcript.text.done":
            final, ended = str(event.get("text", "")), True
    if not ended:
        raise BadAnswer("the stream ends without its last event")
    return Answer(200, "".join(pieces) if final is None else final, first)


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for data in body:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line
    yield rest


def _delta(event: dict[str, Any]) -> str:
    if "choices" in event:
        return "".join(choice.get("delta", {}).get("content") or "" for choice in event["choices"])
    return str(event.get("delta") or "") if event.get("type") == "transcript.text.delta" else ""


def _text(status: int, route: str, body: bytes) -> str:
    if status != 200:
        try:
            return _message(_object(body))
        except BadAnswer:
            return body[:200].decode("utf-8", "replace")
    found = _object(body)
    try:
        text = found["choices"][0]["message"]["content"] if route == "chat" else found["text"]
    except (KeyError, IndexError, TypeError) as error:
        raise BadAnswer("JSON without a text") from error
    # On the chat route the text comes raw, as vLLM gives it: "language English<asr_text>...".
    return str(text).rpartition("<asr_text>")[2] if route == "chat" else str(text)


def _message(body: dict[str, Any]) -> str:
    error = body.get("error", body)
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise BadAnswer("no JSON") from error
    if not isinstance(found, dict):
        raise BadAnswer("JSON that is no object")
    return found
