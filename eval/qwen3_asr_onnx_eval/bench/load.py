"""Many clients at once against a transcription server: how it answers at each number of them.

Closed loop: each client sends its next request when the last is answered, as fast as it can. A refusal with 429 is no
error: the client waits as long as it is asked to and tries again, and what it waited is part of the latency it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .wire import Answer, BadAnswer, Request, Server, exchange, hang_up, make_request

__all__ = ["LoadClip", "LoadPlan", "run_load"]

RETRY_S = 1.0
"""Before trying again where a 429 does not say how long."""
LONGEST_RETRY_S = 120.0
"""What clients honour at most (server.md: the openai client gives up above it)."""
MEMORY_EVERY_S = 0.25
PARTS = 20
"""Parts of a level of whose memory the median is kept. After a fifth of them a server is warm, if the level lasts long
enough: what it holds then is what it should hold at the end."""


@dataclass(frozen=True, slots=True)
class LoadClip:
    """One audio file to send.

    Attributes:
        data: a WAV file's bytes.
        duration_s: of its audio.
        text: what is said, "" if unknown.
        language: English name, "" if unknown.
    """

    data: bytes = field(repr=False)
    duration_s: float
    text: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send.

    Attributes:
        server: where to.
        clips: taken in turns.
        concurrencies: numbers of clients, one level each.
        routes: taken in turns; see `wire.ROUTES`.
        model: name to ask for.
        requests: per client and level, where no duration is given.
        duration_s: how long a level lasts, or None; what is under way at its end is finished.
        hang_up: share of requests whose client goes away in the middle.
        timeout_s: after which a request counts as failed.
        pid: the server's process, to read its memory by psutil; None to leave that out.
    """

    server: Server
    clips: Sequence[LoadClip]
    concurrencies: Sequence[int]
    routes: Sequence[str] = ("transcriptions",)
    model: str = "whisper-1"
    requests: int = 4
    duration_s: float | None = None
    hang_up: float = 0.0
    timeout_s: float = 600.0
    pid: int | None = None


def run_load(plan: LoadPlan, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the figures of each level, as JSON values.

    Ctrl-C ends the run; what was measured until then is returned, with `interrupted` true.

    Args:
        plan: what to send.
        save: called with all results after each level and at the end.
    """
    results: dict[str, Any] = {
        "kind": "load",
        "routes": list(plan.routes),
        "clips": len(plan.clips),
        "clip_s": [clip.duration_s for clip in plan.clips],
        "hang_up": plan.hang_up,
        "duration_s": plan.duration_s,
        "levels": [],
        "interrupted": False,
    }
    requests = [
        [make_request(plan.server, route, clip.data, plan.model) for route in plan.routes] for clip in plan.clips
    ]
    for concurrency in plan.concurrencies:
        level = _Level(plan, concurrency, requests)
        try:
            asyncio.run(level.run())
        except KeyboardInterrupt:
            results["interrupted"] = True
        results["levels"].append(level.figures())
        save(results)
        if results["interrupted"]:
            break
    return results


class _Level:
    """One number of clients: they take numbered requests from one counter until the plan is fulfilled."""

    def __init__(self, plan: LoadPlan, concurrency: int, requests: Sequence[Sequence[Request]]) -> None:
        self.plan, self.concurrency, self._requests = plan, concurrency, requests
        self._taken = 0
        self._random = random.Random(concurrency)  # noqa: S311 - the same clients leave in every run
        self._began = self._ended = 0.0
        self.latencies: list[float] = []
        self.first_texts: list[float] = []
        self.audio_s = 0.0
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        self.texts: Counter[tuple[int, str]] = Counter()
        self.refused = self.hung_up = 0
        self.memory: list[int] = []

    async def run(self) -> None:
        watch = None
        if self.plan.pid is not None:
            import psutil  # takes a while, which is not the server's

            watch = asyncio.ensure_future(self._watch_memory(psutil))
        self._began = time.perf_counter()
        try:
            await asyncio.gather(*(self._client() for _ in range(self.concurrency)))
        finally:
            self._ended = time.perf_counter()
            if watch is not None:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch

    def _numbers(self) -> Iterator[int]:
        """Yield the number of the next request for as long as there is one."""
        while (
            self._taken < self.plan.requests * self.concurrency
            if self.plan.duration_s is None
            else time.perf_counter() - self._began < self.plan.duration_s
        ):
            self._taken += 1
            yield self._taken - 1

    async def _client(self) -> None:
        for number in self._numbers():
            # Clips go round once per route, so that each meets them all.
            index = number % len(self.plan.clips)
            request = self._requests[index][number // len(self.plan.clips) % len(self.plan.routes)]
            if self._random.random() < self.plan.hang_up:
                await self._leave(request)
            else:
                await self._ask(index, request)

    async def _leave(self, request: Request) -> None:
        """Go away while sending, or at any moment of what an answer takes."""
        usual_s = median(self.latencies) if self.latencies else 0.2
        share = 0.5 if self._random.random() < 0.5 else 1.0
        await hang_up(self.plan.server, request, share=share, wait_s=self._random.random() * usual_s)
        self.hung_up += 1

    async def _ask(self, index: int, request: Request) -> None:
        started = time.perf_counter()
        try:
            waited_s, answer = await self._answer(request, started)
        except asyncio.TimeoutError:
            self._fail("timeout", f"no answer in {self.plan.timeout_s:g} s")
        except BadAnswer as error:
            self._fail("bad answer", str(error))
        except OSError as error:
            self._fail("connection", str(error) or type(error).__name__)
        else:
            if answer.status != 200:
                self._fail(str(answer.status), answer.text)
                return
            self.latencies.append(time.perf_counter() - started)
            self.audio_s += self.plan.clips[index].duration_s
            self.texts[index, answer.text] += 1
            if answer.first_text_s is not None:
                self.first_texts.append(waited_s + answer.first_text_s)

    async def _answer(self, request: Request, started: float) -> tuple[float, Answer]:
        """Return what was waited before the try that was taken, and its answer; 429 only where time is up."""
        while True:
            waited_s = time.perf_counter() - started
            answer = await asyncio.wait_for(exchange(self.plan.server, request), self.plan.timeout_s)
            if answer.status != 429:
                return waited_s, answer
            self.refused += 1
            pause = min(RETRY_S if answer.retry_after_s is None else answer.retry_after_s, LONGEST_RETRY_S)
            if time.perf_counter() + pause - started > self.plan.timeout_s:
                return waited_s, answer
            await asyncio.sleep(pause)

    def _fail(self, kind: str, message: str) -> None:
        self.errors[kind] += 1
        self.messages.setdefault(kind, message[:300])

    async def _watch_memory(self, psutil: Any) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.plan.pid)
            while True:
                family = [server, *server.children(recursive=True)]
                self.memory.append(sum(process.memory_info().rss for process in family))
                await asyncio.sleep(MEMORY_EVERY_S)

    def figures(self) -> dict[str, Any]:
        wall_s = max((self._ended or time.perf_counter()) - self._began, 1e-9)
        return {
            "concurrency": self.concurrency,
            "wall_s": wall_s,
            "answered": len(self.latencies),
            "errors": dict(self.errors),
            "messages": self.messages,
            "refused": self.refused,
            "hung_up": self.hung_up,
            "requests_per_s": len(self.latencies) / wall_s,
            "audio_s_per_s": self.audio_s / wall_s,
            "rtf": sum(self.latencies) / self.audio_s if self.audio_s else None,
            "latency_s": _spread(self.latencies),
            "first_text_s": _spread(self.first_texts),
            "memory_bytes": self._memory(),
            "texts": [{"clip": clip, "text": text, "n": n} for (clip, text), n in self.texts.items()],
        }

    def _memory(self) -> dict[str, Any] | None:
        if not self.memory:
            return None
        size = -(-len(self.memory) // PARTS)
        parts = [int(median(self.memory[at : at + size])) for at in range(0, len(self.memory), size)]
        warm = parts[min(len(parts) // 5, len(parts) - 1)]
        return {"start": self.memory[0], "warm": warm, "peak": max(self.memory), "end": parts[-1], "parts": parts}


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Return mean, median and 95th percentile (the nearest rank) of some seconds; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    rank = -(-95 * len(ordered) // 100) - 1
    return {"mean": sum(ordered) / len(ordered), "median": median(ordered), "p95": ordered[rank]}
