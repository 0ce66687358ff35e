"""One client of a worker: its messages in, answers and events out, in the order in which things happen."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any, BinaryIO

from qwen3_asr_onnx.bundle.store import Entry, entries
from qwen3_asr_onnx.options import StreamOptions, TranscribeOptions
from qwen3_asr_onnx.results import Partial, Segment, Transcript, doubts

from .faults import CANCELLED, INVALID_REQUEST, NOT_ALLOWED, NOT_NOW, UNKNOWN_METHOD, Fault, fault_of
from .host import Choice, Host
from .live import Streams
from .params import audio_of, checked, shown
from .wire import MAX_LINE_BYTES, MAX_PAYLOAD_BYTES, Message, Writer, read_messages

__all__ = ["PROTOCOL", "WATCHED_EVERY_S", "Session"]

WATCHED_EVERY_S = 0.25
"""How often it is asked whether anybody reads, while nothing is written."""

PROTOCOL = 1
"""Version of the protocol. Fields and verbs may be added to it; none changes its meaning or goes."""


class Session:
    """Answers one client until its input ends, it says `shutdown`, or nobody reads its answers."""

    def __init__(self, host: Host, stream_in: BinaryIO, stream_out: BinaryIO, token: str | None = None) -> None:
        """Start to listen.

        Args:
            host: holds the model.
            stream_in: read by a thread of its own, which closes it at its end.
            stream_out: written by another.
            token: what `hello` must say before anything else is done; None where whoever can write may.
        """
        self._host, self._in = host, stream_in
        self._token, self._known = token, token is None
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(stream_out, partial(self._call, self._break))
        self._streams = Streams(host)
        self._tasks: dict[asyncio.Task[None], tuple[str | int | None, int]] = {}  # with the bytes of their payloads
        self._over = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._was_broken = self.wants_shutdown = False
        self._verbs: Mapping[str, Callable[[Message, dict[str, Any]], Awaitable[Any]]] = {
            "hello": self._hello,
            "load": self._load,
            "unload": self._unload,
            "models": self._models,
            "transcribe": self._transcribe,
            "align": self._align,
            "stream.open": self._open,
            "stream.feed": self._streams.feed,
            "stream.finish": self._streams.finish,
            "cancel": self._cancel,
            "shutdown": self._shutdown,
        }

    async def run(self) -> None:
        """Return when the client is done with: accepted requests are finished first, unless they were cancelled."""
        reader = threading.Thread(target=self._read, name="qwen3-asr worker reader", daemon=True)
        reader.start()
        await self._over.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._watching is not None:
            self._watching.cancel()
        self._streams.close()
        await asyncio.to_thread(self._writer.close)

    def _read(self) -> None:
        try:
            for message in read_messages(self._in):
                self._call(self._take, message)
        except (OSError, ValueError):
            pass  # whoever wrote is gone: the same as an end
        finally:
            self._in.close()
            self._call(self._over.set)

    def _call(self, act: Callable[..., object], *args: object) -> None:
        """Do something in the event loop; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            self._loop.call_soon_threadsafe(act, *args)

    @property
    def is_abandoned(self) -> bool:
        """Whether the client wants nothing more: it said so, or nobody reads what it would be told."""
        return self._was_broken or self._writer.is_unread()

    def _break(self) -> None:
        """End now: take no more, and cancel what is under way, even if it was to be finished after the input's end."""
        self._was_broken = True
        self._over.set()
        for task in self._tasks:
            task.cancel()

    async def _watch(self) -> None:
        """Notice while something is under way, and nothing to be written, that nobody waits for it any more."""
        while self._tasks:
            await asyncio.sleep(WATCHED_EVERY_S)
            if self._writer.is_unread():
                self._break()

    def _take(self, message: Message | tuple[str | int | None, Fault]) -> None:
        if self._over.is_set():
            return
        if isinstance(message, tuple):
            self._writer.send({"id": message[0], "error": message[1].to_dict()})
            return
        if message.id is not None and any(message.id == own for own, _ in self._tasks.values()):
            fault = Fault(INVALID_REQUEST, f"a request with the id {shown(message.id)} is under way")
            self._writer.send({"id": None, "error": fault.to_dict()})
            return
        held = sum(sizes for _, sizes in self._tasks.values()) + len(message.payload or b"")
        if message.payload and held > 2 * MAX_PAYLOAD_BYTES:
            fault = Fault(NOT_NOW, f"{held} bytes of payloads are held; wait until some are done with")
            self._writer.send({"id": message.id, "error": fault.to_dict()})
            return
        task = self._loop.create_task(self._answer(message))
        self._tasks[task] = message.id, len(message.payload or b"")
        task.add_done_callback(self._tasks.pop)
        if self._watching is None or self._watching.done():
            self._watching = self._loop.create_task(self._watch())

    async def _answer(self, message: Message) -> None:
        try:
            result = await self._result(message)
            answer = {"result": result}
        except asyncio.CancelledError:
            answer = {"error": Fault(CANCELLED, "cancelled", type="Cancelled").to_dict()}
        except Exception as error:  # noqa: BLE001 - a fault of one request, whatever it is, is told to who made it
            answer = {"error": fault_of(error).to_dict()}
        if message.id is not None:
            self._writer.send({"id": message.id, **answer})
        if message.method == "shutdown" and self.wants_shutdown:
            self._break()

    async def _result(self, message: Message) -> Any:
        if message.method not in self._verbs:
            raise Fault(UNKNOWN_METHOD, f"there is no {shown(message.method)}; there are: {', '.join(self._verbs)}")
        if not self._known and message.method != "hello":
            raise Fault(NOT_ALLOWED, "say hello with the token first")
        params = checked(message)
        return await self._verbs[message.method](message, params)

    async def _hello(self, _: Message, params: dict[str, Any]) -> dict[str, Any]:
        if self._token is not None:
            given = str(params.get("token", "")).encode()
            if not hmac.compare_digest(given, self._token.encode()):
                raise Fault(NOT_ALLOWED, "the token is not right")
            self._known = True
        if params.get("protocol", PROTOCOL) != PROTOCOL:
            raise Fault(INVALID_REQUEST, f"protocol {params['protocol']} is not spoken here; {PROTOCOL} is")
        return {
            "protocol": PROTOCOL,
            "server": "qwen3-asr-onnx",
            "version": version("qwen3-asr-onnx"),
            "verbs": list(self._verbs),
            "max_line_bytes": MAX_LINE_BYTES,
            "max_payload_bytes": MAX_PAYLOAD_BYTES,
            "model": self._host.info,
        }

    async def _load(self, _: Message, params: dict[str, Any]) -> Any:
        await self._host.load(Choice(**params))
        return self._host.info

    async def _unload(self, _: Message, __: dict[str, Any]) -> dict[str, Any]:
        await self._host.unload()
        return {}

    async def _models(self, _: Message, __: dict[str, Any]) -> dict[str, Any]:
        found = await asyncio.to_thread(entries)
        return {"models": [_described(one) for one in found]}

    async def _transcribe(self, message: Message, params: dict[str, Any]) -> dict[str, Any]:
        audio = audio_of(message, params)
        priority, partials = params.pop("priority", 0), params.pop("partials", False)
        options = TranscribeOptions(**params)
        with self._using():
            model = await self._host.model()
            if options.timestamps == "word":
                self._host.require_aligner('timestamps "word"')
            events, told = model.events(audio, options, priority=priority), ""
            try:
                async for event in events:
                    if isinstance(event, Transcript):
                        return {**event.to_dict(), "warnings": doubts(event.segments)}
                    if isinstance(event, Segment):
                        self._tell(message, "segment", {"segment": event.to_dict()})
                        self._tell(message, "progress", {"done_s": event.end_s})
                        told = ""
                    elif isinstance(event, Partial) and partials and event.text != told:
                        self._tell(message, "partial", {"start_s": event.start_s, "text": event.text})
                        told = event.text
            finally:
                await events.aclose()
        raise AssertionError("a request ends with a transcript or an error")

    async def _align(self, message: Message, params: dict[str, Any]) -> dict[str, Any]:
        audio = audio_of(message, params)
        with self._using():
            model = await self._host.model()
            self._host.require_aligner("align")
            words = await model.align(audio, params["text"], params.get("language"))
        flags = Counter(flag for word in words for flag in word.flags)
        warnings = [f"{n} of {len(words)} words: {flag}" for flag, n in flags.items()]
        return {"words": [asdict(word) for word in words], "warnings": warnings}

    async def _open(self, _: Message, params: dict[str, Any]) -> dict[str, Any]:
        streaming = StreamOptions(**{name: params.pop(name) for name in ("policy", "chunk_s") if name in params})
        return await self._streams.open(params, streaming)

    async def _cancel(self, _: Message, params: dict[str, Any]) -> dict[str, bool]:
        task = next((task for task, (own, _) in self._tasks.items() if own == params["id"]), None)
        return {"cancelled": task is not None and task is not asyncio.current_task() and task.cancel()}

    async def _shutdown(self, _: Message, __: dict[str, Any]) -> dict[str, Any]:
        self.wants_shutdown = True
        return {}

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        self._host.n_users += 1
        try:
            yield
        finally:
            self._host.n_users -= 1

    def _tell(self, message: Message, event: str, params: dict[str, Any]) -> None:
        """Send an event of a request that has an id."""
        if message.id is not None:
            self._writer.send({"method": event, "params": {"id": message.id, **params}})


def _described(entry: Entry) -> dict[str, Any]:
    """Return what `models` says of one."""
    manifest = entry.manifest
    return {
        "name": entry.name,
        "path": str(entry.path),
        "kind": None if manifest is None else manifest.kind,
        "variants": [] if manifest is None else list(manifest.variants),
        "problem": entry.problem or None,
        "size": entry.size,
        "is_default": entry.is_default,
    }
