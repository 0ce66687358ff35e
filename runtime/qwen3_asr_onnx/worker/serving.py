"""Where a worker's clients come from: its own stdin and stdout, or connections to a local socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from qwen3_asr_onnx.errors import OptionsError

from .host import Choice, Host
from .session import WATCHED_EVERY_S, Session

__all__ = ["own_stdio", "serve_socket", "serve_stdio"]


@contextlib.contextmanager
def own_stdio() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield what was stdin and stdout, and keep everything else away from both.

    The first is closed by whoever reads it: while a thread waits for it to say something, nobody else can.

    Whatever a library prints to file descriptor 1 goes to stderr, and what reads descriptor 0 finds its end.
    """
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    with contextlib.suppress(OSError), open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    with open(sink, "wb", buffering=0) as stream_out:  # noqa: PTH123
        yield open(source, "rb"), stream_out  # noqa: PTH123, SIM115


async def serve_stdio(
    stream_in: BinaryIO, stream_out: BinaryIO, choice: Choice | None, leave: Callable[[], object] | None = None
) -> None:
    """Answer the one client at the other end, until it is done.

    Args:
        stream_in: what it says.
        stream_out: where it listens.
        choice: a model to load at once; None waits for `load`.
        leave: ends the process on the spot; called where the client is gone, or said `shutdown`, while a model is being
            loaded, which cannot be stopped and may take minutes. None waits for it.
    """
    host = Host()
    loading = _begin(host, choice)
    session = Session(host, stream_in, stream_out)
    try:
        await session.run()
    finally:
        while leave is not None and host.is_loading:
            if session.is_abandoned:
                leave()
            await asyncio.sleep(WATCHED_EVERY_S)
        await _end(host, loading)


async def serve_socket(address: str, token: str, choice: Choice | None, on_listening: Callable[[str], object]) -> None:
    """Answer any number of clients of a local socket, until one says `shutdown`.

    Args:
        address: path of a Unix socket, or HOST:PORT of a loopback address; port 0 takes any.
        token: what each has to say in `hello`.
        choice: a model to load at once; None waits for `load`.
        on_listening: called with the address, once it listens.

    Raises:
        OptionsError: the address is not a local one, or is in use.
    """
    listener = _listen(address)
    host, over = Host(), asyncio.Event()
    loading = _begin(host, choice)
    clients: set[asyncio.Task[None]] = set()

    async def answer(connection: socket.socket) -> None:
        connection.setblocking(True)
        with connection, connection.makefile("rb") as stream_in, connection.makefile("wb", buffering=0) as stream_out:
            session = Session(host, stream_in, stream_out, token)  # type: ignore[arg-type]
            await session.run()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            if session.wants_shutdown:
                over.set()

    async def accept() -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            task = asyncio.create_task(answer(connection))
            clients.add(task)
            task.add_done_callback(clients.discard)

    on_listening(_name(listener))
    accepting = asyncio.create_task(accept())
    try:
        await over.wait()
    finally:
        accepting.cancel()
        for task in clients:
            task.cancel()
        await asyncio.gather(accepting, *clients, return_exceptions=True)
        listener.close()
        if listener.family == getattr(socket, "AF_UNIX", None):
            Path(address).unlink(missing_ok=True)
        await _end(host, loading)


def _begin(host: Host, choice: Choice | None) -> asyncio.Task[None] | None:
    return None if choice is None else asyncio.create_task(host.load(choice))


async def _end(host: Host, loading: asyncio.Task[None] | None) -> None:
    """Release the model; raise what was wrong with the one that was to be loaded at the start."""
    try:
        if loading is not None:
            await loading
    finally:
        await host.close()


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal() and host:
            if host not in ("127.0.0.1", "::1", "localhost"):
                raise OptionsError(f"{address} is not local; a worker listens on 127.0.0.1, ::1 or a Unix socket")
            listener = socket.create_server(
                (host, int(port)), family=socket.AF_INET6 if host == "::1" else socket.AF_INET
            )
        elif hasattr(socket, "AF_UNIX"):
            listener = socket.socket(socket.AF_UNIX)
            mask = os.umask(0o177)  # nobody else may connect; before any thread is started
            try:
                listener.bind(address)
                listener.listen()
            except OSError:
                listener.close()
                raise
            finally:
                os.umask(mask)
        else:
            raise OptionsError(f"{address}: this system has no Unix sockets; give 127.0.0.1:PORT")
    except (OSError, OverflowError) as error:
        raise OptionsError(f"{address}: cannot be listened on ({error}); give another path or port") from error
    listener.setblocking(False)
    return listener


def _name(listener: socket.socket) -> str:
    name = listener.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"
