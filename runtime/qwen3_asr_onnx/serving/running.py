"""The server as a process: a socket, the model loading beside it, and an end that lets requests finish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

from .app import make_app
from .connections import protocol_of
from .state import State

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

__all__ = ["Server", "listening_socket"]


def listening_socket(host: str, port: int, send_timeout_s: float) -> socket.socket:
    """Return a socket that listens; where the system can, it gives up on who does not read.

    Raises:
        OSError: the address is not one of this machine's, or is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=2048)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * send_timeout_s))
    return listening


class Server(uvicorn.Server):
    """Serves until a signal comes; `load` runs meanwhile, in a thread of its own.

    Attributes:
        failure: why the model could not be loaded; None if it could.
    """

    def __init__(
        self,
        state: State,
        load: Callable[[], tuple[AsyncTranscriber, tuple[str, ...]]],
        on_loaded: Callable[[], object],
        **config: Any,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(state),
                http=protocol_of(state.settings),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(state.settings.grace_s) + 5,
                **config,
            )
        )
        self._state, self._load, self._on_loaded = state, load, on_loaded
        self.failure: Exception | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal ask for the end, and the second insist; an end that was asked for is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and to load."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._loading, args=(loop,), daemon=True, name="qwen3-asr-load").start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing more, let requests finish for a while, and tell the rest to come back."""
        self._state.is_stopping = True
        timer = asyncio.get_running_loop().call_later(self._state.settings.grace_s, self._state.cancel_all)
        await super().shutdown(sockets)
        timer.cancel()
        if self._state.engine is not None:
            await self._state.engine.close(finish=False)

    def _loading(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            engine, names = self._load()
        except Exception as error:  # noqa: BLE001 - raised again by the verb, in the main thread
            self.failure, self.should_exit = error, True
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server was ended meanwhile
            loop.call_soon_threadsafe(self._state.loaded, engine, names)
            loop.call_soon_threadsafe(self._on_loaded)
