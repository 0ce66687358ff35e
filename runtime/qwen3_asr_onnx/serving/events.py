"""Events of the engine -> text that only grows -> server-sent events, to a client that reads."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwen3_asr_onnx.errors import Qwen3AsrError
from qwen3_asr_onnx.results import Partial, Segment
from qwen3_asr_onnx.text.answer import TextJoiner, named_language

from .errors import ApiError, as_api_error
from .state import state_of, while_connected

__all__ = ["EventStream", "Growing", "message"]


class Growing:
    """The text of a transcript as it grows: what was given out is never taken back."""

    def __init__(self) -> None:
        self._joiner = TextJoiner()
        self._settled = self._sent = ""

    def grown(self, event: Partial | Segment) -> str:
        """Return what the event adds; "" where it contradicts what was given out, which the end will put right."""
        text = self._settled
        if isinstance(event, Segment):
            text = self._settled = self._settled + self._joiner.add(event.text, event.language)
        else:
            # How pieces are joined depends on their languages; of this one it is what stands before its text, if so.
            text += copy.copy(self._joiner).add(event.text, named_language(event.raw))
        if not text.startswith(self._sent) or len(text) <= len(self._sent):
            return ""
        delta, self._sent = text[len(self._sent) :], text
        return delta


def message(data: dict[str, Any], event: str | None = None) -> bytes:
    """Return one server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class EventStream(Response):
    """A reply that is told as it goes. It ends what it tells of when the client goes away, or does not read."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, messages: AsyncGenerator[bytes], send_timeout_s: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request, self._messages, self._send_timeout_s = request, messages, send_timeout_s
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        try:
            await while_connected(self._request, self._tell(send))
        except asyncio.CancelledError:
            if not self._has_begun:
                raise
            try:
                state_of(self._request).raise_if_ended()
            except ApiError as error:
                await self._fail(send, error)
                return
            raise

    async def _tell(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await self._sent(send, start)
        self._has_begun = True
        try:
            async with aclosing(self._messages) as messages:  # what is told of ends with it, wherever it stands
                async for data in messages:
                    await self._sent(send, {"type": "http.response.body", "body": data, "more_body": True})
        except (ApiError, Qwen3AsrError, OSError) as error:
            await self._fail(send, as_api_error(error))
            return
        await self._sent(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _fail(self, send: Send, error: ApiError) -> None:
        data = message(error.body(), "error")
        await self._sent(send, {"type": "http.response.body", "body": data, "more_body": False})

    async def _sent(self, send: Send, part: dict[str, Any]) -> None:
        try:
            await asyncio.wait_for(send(part), self._send_timeout_s)
        except asyncio.TimeoutError:
            raise ClientDisconnect from None
