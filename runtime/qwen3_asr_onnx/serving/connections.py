"""What a connection may do: so many at once, a head in time, and whoever is refused gets to read why."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["protocol_of"]

_MOST_LINGERING = 128
"""Refused connections that are kept until their clients have read why."""

_FULL = ApiError(503, "too many connections; try again later", code="overloaded", retry_after_s=2)
_NO_HTTP = ApiError(400, "this is no HTTP request", code="invalid_http")


LINGER_S = 1.0
"""Silence after which a client is taken to have read why it was refused. TLS cannot be closed on one side, so somebody
who reads to the end waits for this."""


def protocol_of(settings: Settings) -> type[H11Protocol]:
    """Return the class of a server's connections."""
    return type("Connection", (_Connection,), {"settings": settings, "lingering": set()})


class _Connection(H11Protocol):
    """One of so many, closed if it owes the head of a request for too long.

    Attributes:
        settings: of the server.
        lingering: connections of the server that were refused, and wait for their clients to read why.
    """

    settings: Settings
    lingering: set[H11Protocol]
    _owing: asyncio.TimerHandle | None = None
    _silence: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Transport(transport, self)))
        # asyncio does so for listening sockets of its own: each reply, head and body, would wait 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) - len(self.lingering) > self.settings.max_connections:
            self._refuse(_FULL)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lingering.discard(self)
        for clock in filter(None, (self._owing, self._silence)):
            clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._wait_for_silence()
            return
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        del msg
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()  # in the middle of a reply nothing can be said
        else:
            self._refuse(_NO_HTTP)

    def lingers(self) -> bool:
        """Keep a connection whose request nobody reads on until its client has read the reply, if there is room.

        Closed with something unread it would be reset, and the reply be lost.
        """
        is_unread = self._is_refused or self.conn.their_state is h11.SEND_BODY
        if self in self.lingering or not is_unread or len(self.lingering) >= _MOST_LINGERING:
            return False
        self.lingering.add(self)
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self._wait_for_silence()
        self._watch()
        return True

    def _refuse(self, error: ApiError) -> None:
        self._is_refused = True
        self.transport.write(_reply(error))
        self.transport.close()

    def _wait_for_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(LINGER_S, self.transport.close)

    def _watch(self) -> None:
        # uvicorn's own clock runs between two requests alone, and only until the first byte of the next.
        if self.cycle is not None and not self.cycle.response_complete and not self._is_refused:
            if self._owing is not None:
                self._owing.cancel()
            self._owing = None
        elif self._owing is None:
            self._owing = self.loop.call_later(self.settings.headers_timeout_s, self.transport.abort)


class _Transport:
    """A transport that asks before it closes."""

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        self._transport, self._protocol = transport, protocol
        self._is_closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        is_first, self._is_closing = not self.is_closing(), True
        if not (is_first and self._protocol.lingers()):
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()


def _reply(error: ApiError) -> bytes:
    """Return a reply before HTTP is spoken, or to what is none."""
    body = json.dumps(error.body()).encode()
    head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: application/json\r\n"
    if error.retry_after_s:
        head += f"Retry-After: {math.ceil(error.retry_after_s)}\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
