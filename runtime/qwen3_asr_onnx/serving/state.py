"""What all requests to one server share: the engine, once it is loaded, and who is being served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from .errors import ApiError
from .settings import Settings
from .uploads import Budget

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

    from .metrics import Metrics

__all__ = ["State", "state_of", "while_connected"]

T = TypeVar("T")


class State:
    """The server.

    Attributes:
        settings: what it accepts.
        metrics: what it counts.
        engine: None while the model loads.
        names: of the model that is served, the first one shown.
        is_stopping: whether it takes nothing more.
        fetchers: threads that wait for URLs.
        memory: for bodies that are not kept on disk.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.engine: AsyncTranscriber | None = None
        self.names: tuple[str, ...] = ()
        self.is_stopping = False
        # Of its own: strangers' servers may be slow, and uploads are written by the threads that everybody uses.
        self.fetchers = ThreadPoolExecutor(16, "qwen3-asr-fetch")
        self.memory = Budget(settings.max_memory_bytes)
        self._open: set[asyncio.Task[Any]] = set()
        self._cancelled_by_us = False

    def loaded(self, engine: AsyncTranscriber, names: tuple[str, ...]) -> None:
        """Begin to serve."""
        self.engine, self.names = engine, tuple(dict.fromkeys((*names, *self.settings.aliases)))

    def require_engine(self) -> AsyncTranscriber:
        """Return the engine.

        Raises:
            ApiError: the model is not loaded yet, or the server is closing.
        """
        if self.is_stopping:
            raise ApiError(503, "the server is closing; try again later", code="shutting_down", retry_after_s=5)
        if self.engine is None:
            raise ApiError(503, "the model is being loaded; try again soon", code="loading", retry_after_s=2)
        return self.engine

    def raise_if_ended(self) -> None:
        """Explain why work was cancelled, if this server did it.

        Raises:
            ApiError: it is closing.
        """
        if self._cancelled_by_us:
            raise ApiError(503, "the server is closing; try again", code="shutting_down", retry_after_s=5) from None

    def cancel_all(self) -> None:
        """End what is not finished: its clients are told to come back."""
        self.is_stopping = self._cancelled_by_us = True
        for task in self._open:
            task.cancel()

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[AsyncTranscriber]:
        """Hold a place in the server from before the body is read to the end of the answer.

        Raises:
            ApiError: there is no place, or not now.
        """
        engine = self.require_engine()
        if engine.waiting_s >= self.settings.max_waiting_s or len(self._open) >= self.settings.max_requests:
            raise ApiError(429, "too much is waiting; try again later", code="rate_limit_exceeded", retry_after_s=5)
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield engine
        except asyncio.CancelledError:
            self.raise_if_ended()
            raise
        finally:
            self._open.discard(task)

    def check_model(self, name: str) -> None:
        """Refuse a model that is not served; no name means the one that is.

        Raises:
            ApiError: there is no such model.
        """
        if name and name not in self.names:
            known = ", ".join(self.names)
            raise ApiError(
                404, f"the model '{name}' is not served here; there are: {known}", param="model", code="model_not_found"
            )


def state_of(request: Request) -> State:
    """Return the server that the request came to."""
    state: State = request.app.state.server
    return state


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work gives; end it when the client goes away. The body must have been read.

    Raises:
        ClientDisconnect: the client went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
