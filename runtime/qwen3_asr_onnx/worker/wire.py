"""Bytes of a pipe or socket <-> messages: one JSON object a line, and binary payloads that a line announces.

Reading never gives up before the end: whatever is wrong with a line is a `Fault` in its place, and the next line is
read as if nothing had happened.
"""

from __future__ import annotations

import json
import queue
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, TypeAlias

from qwen3_asr_onnx.bundle.json_text import measured_json

from .faults import INVALID_REQUEST, PARSE_ERROR, TOO_MUCH, Fault

__all__ = ["MAX_LINE_BYTES", "MAX_PAYLOAD_BYTES", "Message", "Writer", "read_messages"]

MAX_LINE_BYTES = 1 << 20
"""Longest line: a context is some kilobytes, and audio is not sent in lines."""

MAX_PAYLOAD_BYTES = 512 << 20
"""Largest payload: four hours of samples of 16 bits at 16 kHz. It is held in memory; longer recordings go by path."""

_DISCARDED_AT_A_TIME = 1 << 20

MessageId: TypeAlias = "str | int | None"


@dataclass(frozen=True, slots=True)
class Message:
    """One line that makes sense.

    Attributes:
        id: what the answer is to be named by; None where none is wanted.
        method: the verb.
        params: its parameters.
        payload: the bytes that came behind the line; None where none were announced.
    """

    id: MessageId
    method: str
    params: Mapping[str, Any]
    payload: bytes | None = None


def read_messages(stream: BinaryIO) -> Iterator[Message | tuple[MessageId, Fault]]:
    """Yield what comes, until the stream ends; for a line that makes no sense, the id it gave (or None) and its fault.

    Args:
        stream: blocks until there is something to read.
    """
    while True:
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(_DISCARDED_AT_A_TIME)
            yield None, Fault(PARSE_ERROR, f"a line has more than {MAX_LINE_BYTES} bytes; send audio as a payload")
            continue
        if line.strip():
            yield _message(line, stream)


def _message(line: bytes, stream: BinaryIO) -> Message | tuple[MessageId, Fault]:
    named: MessageId = None
    try:
        body = _parsed(line)
        named = body.get("id") if _is_id(body.get("id")) else None
        payload = _payload(body, stream)
        if not _is_id(body.get("id")):
            raise Fault(INVALID_REQUEST, "id must be a string or a whole number")
        method, params = body.get("method"), body.get("params", {})
        if not isinstance(method, str):
            raise Fault(INVALID_REQUEST, "method must be a string")
        if not isinstance(params, dict):
            raise Fault(INVALID_REQUEST, "params must be an object")
        return Message(named, method, params, payload)
    except Fault as fault:
        return named, fault


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        body = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Fault(PARSE_ERROR, f"the line is not UTF-8 (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise Fault(PARSE_ERROR, f"the line is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise Fault(INVALID_REQUEST, "a line must hold one object")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _is_id(value: object) -> bool:
    return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))


def _payload(body: Mapping[str, Any], stream: BinaryIO) -> bytes | None:
    """Return the payload that a line announces, all of it."""
    size = body.get("payload_length")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise Fault(INVALID_REQUEST, "payload_length must be a whole number of bytes, at least 0")
    if size > MAX_PAYLOAD_BYTES:
        _discard(stream, size)
        raise Fault(TOO_MUCH, f"payload_length is {size}; at most {MAX_PAYLOAD_BYTES}: give the path of a file instead")
    try:
        payload = stream.read(size)
    except MemoryError as error:  # before anything was read
        _discard(stream, size)
        raise Fault(TOO_MUCH, f"there is no memory for {size} bytes; give the path of a file instead") from error
    if len(payload) < size:
        raise Fault(INVALID_REQUEST, f"payload_length is {size}, and the input ended after {len(payload)} bytes")
    return payload


def _discard(stream: BinaryIO, size: int) -> None:
    while size and (part := stream.read(min(size, _DISCARDED_AT_A_TIME))):
        size -= len(part)


class Writer:
    """Lines out, from any thread and in order; nobody who writes waits for the one who reads."""

    def __init__(self, stream: BinaryIO, on_broken: Callable[[], object]) -> None:
        """Start the thread that writes.

        Args:
            stream: where to.
            on_broken: called once, from that thread, when nobody reads any more.
        """
        self._stream, self._on_broken = stream, on_broken
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="qwen3-asr worker writer", daemon=True)
        self._thread.start()

    def send(self, body: Mapping[str, Any]) -> None:
        """Write one object."""
        text = measured_json({"jsonrpc": "2.0", **body})
        self._lines.put(text.encode("utf-8", "replace") + b"\n")

    def is_unread(self) -> bool:
        """Return whether it is known that nobody reads any more; asking writes nothing."""
        if not hasattr(select, "poll"):
            return False  # Windows tells whoever writes
        asking = select.poll()
        try:
            asking.register(self._stream, 0)  # which is told of nothing but of what went wrong
            return bool(asking.poll(0))
        except (OSError, ValueError):
            return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left, and end; a reader that does not read is waited for so long."""
        self._lines.put(None)
        self._thread.join(timeout_s)

    def _write(self) -> None:
        broken = False
        while (line := self._lines.get()) is not None:
            if broken:
                continue
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                broken = True
                self._on_broken()
