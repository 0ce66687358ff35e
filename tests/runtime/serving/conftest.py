"""A server in this process around an engine that says what a test tells it to, and one on a port."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from tests.support.clips import wav_bytes

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.results import Partial, Segment, Transcript, Word

HAS_SERVE = all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn", "python_multipart", "httpx2"))
collect_ignore_glob = [] if HAS_SERVE else ["test_*.py"]  # a conftest cannot skip

if HAS_SERVE:
    from qwen3_asr_onnx.serving.metrics import Metrics
    from qwen3_asr_onnx.serving.running import Server, listening_socket
    from qwen3_asr_onnx.serving.settings import Settings
    from qwen3_asr_onnx.serving.state import State


def wav(seconds: float = 0.5) -> bytes:
    """A quiet tone at 16 kHz."""
    return wav_bytes((np.sin(np.arange(int(16000 * seconds)) / 20) * 3000).astype(np.int16))


def said(*, words: bool = False) -> Transcript:
    """What the stand-in of the engine hears in anything."""
    first = Segment(0.0, 1.0, "Hello there.", "English", (5, 6), "eos", -0.1, (-0.1, -0.2))
    second = Segment(1.0, 2.0, "Bye.", "English", (7,), "eos", -0.2, (-0.3,))
    timed = (Word("Hello", 0.1, 0.4), Word("there.", 0.5, 0.9), Word("Bye.", 1.1, 1.5)) if words else None
    return Transcript("Hello there. Bye.", "English", 2.0, (first, second), timed, (5, 6, 7), "eos", -0.15)


class FakeEngine:
    """Says `said()`, and remembers what it was asked."""

    n_active = n_waiting = 0

    def __init__(self, transcriber: Any) -> None:
        self.transcriber = transcriber
        self.options: list[Any] = []
        self.sizes: list[int] = []
        self.waiting_s = 0.0
        self.error: Exception | None = None
        self.hangs = False
        self.cancelled = threading.Event()

    async def transcribe(self, audio: Any, options: Any) -> Transcript:
        async for event in self.events(audio, options):
            if isinstance(event, Transcript):
                return event
        raise AssertionError

    async def events(self, audio: Any, options: Any) -> AsyncIterator[Partial | Segment | Transcript]:
        self.options.append(options)
        self.sizes.append(len(audio.read()))
        if self.error is not None:
            raise self.error
        if self.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        whole = said(words=options.timestamps == "word")
        yield Partial(0.0, "Hello", "language English<asr_text>Hello")
        yield whole.segments[0]
        yield Partial(1.0, "By", "language English<asr_text>By")
        yield whole.segments[1]
        yield whole

    async def align(self, audio: Any, text: str, language: str) -> tuple[Word, ...]:
        del audio, text, language
        return said(words=True).words or ()

    async def close(self, **_: Any) -> None: ...


@pytest.fixture
def engine(asr: Transcriber) -> FakeEngine:
    return FakeEngine(asr)


def make_state(engine: Any, **settings: Any) -> State:
    state = State(Settings(**settings), Metrics())
    state.loaded(engine, ("tiny",))
    return state


@contextmanager
def running(engine: Any, *, tls: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    """A server on a free port, in a thread; gives its address."""
    listening = listening_socket("127.0.0.1", 0, 1.0)
    loaded = threading.Event()
    server = Server(State(Settings(**settings), Metrics()), lambda: (engine, ("tiny",)), loaded.set, **(tls or {}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert loaded.wait(20)
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)
