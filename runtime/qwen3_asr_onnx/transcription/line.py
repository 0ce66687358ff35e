"""The requests of an engine in their line: who waits, who is next, and how long the line may be."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from qwen3_asr_onnx.errors import BusyError, Qwen3AsrError

from .requests import Request

__all__ = ["Line"]

MOST_AHEAD = 16
"""Requests whose first piece is read while others are before them: twice the rows of a batch."""

MOST_OPEN = 128
"""Requests whose audio is open, each read by a thread."""

STUCK_S = 2.0
"""A request that has given no piece for so long since it was opened waits for somebody else: others are opened."""

USUAL_SPEED = 5.0
"""Seconds of audio done in a second, before anything was measured."""

MEASURED_S = 60.0
"""Seconds of work after which what was measured counts half."""


class Line:
    """Requests that were accepted and have not ended. Any thread may add some; the rest is for the engine's thread."""

    def __init__(self, max_waiting_s: float) -> None:
        self._max_waiting_s = max_waiting_s
        self._lock = threading.Lock()
        self._requests: dict[Request, None] = {}
        self._limited: set[Request] = set()
        self._turn = 0
        self._busy_s = self._done_s = 0.0
        self.is_closed = False

    def next_turn(self) -> int:
        """Return a place at the end of the line."""
        with self._lock:
            self._turn += 1
            return self._turn

    def add(self, request: Request) -> None:
        """Let a request wait.

        Raises:
            BusyError: too much waits already.
            Qwen3AsrError: the line was closed.
        """
        with self._lock:
            if self.is_closed:
                raise Qwen3AsrError("this AsyncTranscriber was closed; make another one to go on")
            waiting_s = _waiting_s(self._requests)
            too_much_s = waiting_s + request.waiting_s - self._max_waiting_s
            if waiting_s and too_much_s > 0:
                retry_after_s = max(1.0, min(waiting_s, too_much_s) / self._speed())
                raise BusyError(
                    f"{waiting_s:.0f} s of audio wait for the model already, and {self._max_waiting_s:.0f} s may: "
                    f"ask again in {retry_after_s:.0f} s",
                    retry_after_s,
                )
            self._requests[request] = None
            if request.limited:
                self._limited.add(request)

    def remove(self, request: Request) -> None:
        """Forget a request that has ended."""
        with self._lock:
            self._requests.pop(request, None)
            self._limited.discard(request)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self.is_closed = True

    def everybody(self) -> list[Request]:
        """Return all requests, in the order in which they came."""
        with self._lock:
            return list(self._requests)

    @property
    def is_empty(self) -> bool:
        """Whether there is no request."""
        return not self._requests

    @property
    def n_active(self) -> int:
        """Requests that have begun."""
        return sum(request.has_begun for request in self.everybody())

    @property
    def n_waiting(self) -> int:
        """Requests that have not begun."""
        return sum(not request.has_begun for request in self.everybody())

    @property
    def waiting_s(self) -> float:
        """Seconds of audio of those that have not begun."""
        return _waiting_s(self.everybody())

    def limited(self) -> list[Request]:
        """Return the requests with a time limit."""
        with self._lock:
            return list(self._limited)

    def is_late(self) -> bool:
        """Return whether the time of a request is up."""
        return bool(self._limited) and any(not one.is_cut and one.interrupt() for one in self.limited())

    def needs_ticks(self) -> bool:
        """Return whether something may be due without anybody saying so."""
        return any(not one.is_cut for one in self.limited()) or any(one.opened_s is None for one in self.everybody())

    def to_open(self, now_s: float) -> list[Request]:
        """Return, marked as opened, the requests whose audio should be read from now on."""
        everybody = self.everybody()
        closed = [one for one in everybody if one.opened_s is None]
        if not closed:
            return []
        n_ahead = sum(
            not one.has_begun and (bool(one.ready) or now_s - one.opened_s < STUCK_S)
            for one in everybody
            if one.opened_s is not None
        )
        n_open = len(everybody) - len(closed)
        closed.sort(key=_order)
        chosen = closed[: max(0, min(MOST_AHEAD - n_ahead, MOST_OPEN - n_open))]
        for request in chosen:
            request.opened_s = now_s
        return chosen

    def next_ready(self, *, first: bool) -> Request | None:
        """Return the request that gives the next piece: of those that wait for their first text, or of the others."""
        ready = (one for one in self.everybody() if one.ready and one.waits_for_text is first)
        return min(ready, key=_order, default=None)

    def measure(self, busy_s: float, done_s: float) -> None:
        """Learn from some work how fast it goes; the newest counts most."""
        self._busy_s += busy_s
        self._done_s += done_s
        if self._busy_s > MEASURED_S:
            self._busy_s, self._done_s = self._busy_s / 2, self._done_s / 2

    def _speed(self) -> float:
        known = self._busy_s > 1.0 and self._done_s > 0.0
        return self._done_s / self._busy_s if known else USUAL_SPEED


def _order(request: Request) -> tuple[int, int]:
    return -request.priority, request.turn


def _waiting_s(requests: Iterable[Request]) -> float:
    return sum(request.waiting_s for request in requests if not request.has_begun)
