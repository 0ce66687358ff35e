"""The live streams of one client: opened, fed in order, finished."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qwen3_asr_onnx.options import StreamOptions, TranscribeOptions
from qwen3_asr_onnx.results import doubts
from qwen3_asr_onnx.stream.stream import Stream
from qwen3_asr_onnx.stream.updates import StreamUpdate

from .faults import INVALID_PARAMS, Fault
from .host import Host
from .params import Raw, raw_of, shown
from .wire import Message

__all__ = ["Streams"]

MOST = 64
"""Streams that one client may have open."""


class _Open:
    """A stream, how its samples come, what of it was not told yet, and the lock that keeps its blocks in order."""

    def __init__(self, stream: Stream, raw: Raw) -> None:
        self.stream, self.raw = stream, raw
        self.lock = asyncio.Lock()
        self.untold: list[StreamUpdate] = []
        self.n_segments = 0

    def heard(self, listening: asyncio.Future[None]) -> None:
        """Let the next block in; what went wrong with this one was told, unless nobody waited for it any more."""
        self.lock.release()
        if not listening.cancelled():
            listening.exception()

    def told(self) -> dict[str, Any]:
        """Return what is known since the last answer."""
        updates, self.untold = self.untold, []
        segments = [update.segment for update in updates if update.segment is not None]
        warnings = doubts(segments, self.n_segments)
        self.n_segments += len(segments)
        return {"updates": [update.to_dict() for update in updates], "warnings": warnings}


class Streams:
    """Streams by name. Blocks of one stream are heard in the order in which they came; those of others beside."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: dict[str, _Open] = {}
        self._opening = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def open(self, params: dict[str, Any], streaming: StreamOptions) -> dict[str, str]:
        """Begin a stream, and return its name: s1, s2 and so on, so that it may be fed before this is answered.

        Raises:
            Fault: too many are open, or the samples are described wrongly.
            OptionsError, LimitError, MissingExtra: as `Stream`.
        """
        if len(self._open) >= MOST:
            raise Fault(INVALID_PARAMS, f"{MOST} streams are open; finish one first")
        raw = raw_of(params, "f32le")
        assert raw is not None
        async with self._opening:
            model = await self._host.model()
            stream = model.transcriber.stream(TranscribeOptions(**params), streaming)
            name = f"s{next(self._numbers)}"
            self._open[name] = _Open(stream, raw)
            self._host.n_users += 1
        return {"stream": name}

    async def feed(self, message: Message, params: dict[str, Any]) -> dict[str, Any]:
        """Hear a block, and return what is known by then."""
        if message.payload is None:
            raise Fault(INVALID_PARAMS, "stream.feed needs a payload: the samples")
        opened = await self._named(params)
        samples = opened.raw.decoded(message.payload)
        return await self._run(opened, lambda: opened.stream.feed(samples, opened.raw.rate))

    async def finish(self, _: Message, params: dict[str, Any]) -> dict[str, Any]:
        """Hear what is left, and forget the stream."""
        opened = await self._named(params)
        try:
            return await self._run(opened, opened.stream.finish)
        finally:
            if self._open.pop(params["stream"], None) is not None:
                self._host.n_users -= 1

    def close(self) -> None:
        """Forget all streams."""
        self._host.n_users -= len(self._open)
        self._open.clear()

    async def _named(self, params: Mapping[str, Any]) -> _Open:
        name = params["stream"]
        async with self._opening:  # what is being opened, or waits for the model, comes first
            pass
        if name not in self._open:
            raise Fault(INVALID_PARAMS, f"no stream {shown(name)} is open")
        return self._open[name]

    async def _run(self, opened: _Open, listen: Callable[[], Iterable[StreamUpdate]]) -> dict[str, Any]:
        """Let a stream listen, and return what it found.

        Listening cannot be stopped on its way. Who is cancelled waits no longer, but the next block does, and what was
        found is told with it.
        """
        await opened.lock.acquire()
        try:
            if opened not in self._open.values():
                raise Fault(INVALID_PARAMS, "the stream was finished before this was heard; open another")
            listening = asyncio.ensure_future(asyncio.to_thread(lambda: opened.untold.extend(listen())))
        except BaseException:
            opened.lock.release()
            raise
        listening.add_done_callback(opened.heard)
        await asyncio.shield(listening)
        return opened.told()
