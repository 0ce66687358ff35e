"""Ctrl-C, SIGTERM and SIGHUP: one exception that unwinds everything, and an exit status that says which it was.

A verb that can hand out what is finished lets the first signal ask (`first_signal_asks`), and the second insist.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from qwen3_asr_onnx.transcription.interrupt import ReadingAbandoned

__all__ = ["Asked", "ending_signals_raise", "exit_status", "first_signal_asks", "handled_by"]

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a program politely; Windows knows no SIGHUP."""

IDLE_S = 2.0
"""A process that was asked to end and did nothing for so long waits for its input, and is called out of it."""

IDLE_SHARE = 0.02
"""A process that used less of the time than this did nothing."""


class _Handler:
    """A handler of this module, so that it can be told from those of somebody else."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self._act = act

    def __call__(self, number: int, _: FrameType | None) -> None:
        self._act(number)


def exit_status(interrupt: KeyboardInterrupt) -> int:
    """Return 128 + the number of the signal, as shells report it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    number = interrupt.args[0] if interrupt.args else signal.SIGINT  # Python's own handler names no number
    return 128 + int(number)


@contextlib.contextmanager
def handled_by(act: Callable[[int], object]) -> Iterator[None]:
    """Call `act` with the number of each signal that would end the program.

    Signals that are ignored (nohup, a job in the background) or that somebody else handles are left alone.
    """
    with _handlers(dict.fromkeys(ENDING, act)):
        yield


@contextlib.contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP clean up and report as Ctrl-C does: by a KeyboardInterrupt, which names the signal.

    Only the first raises: a terminal that closes and a service manager send several, and the clean-up must not suffer.
    Ctrl-C is a person, who may insist.
    """
    seen: list[int] = []

    def raise_once(number: int) -> None:
        seen.append(number)
        if len(seen) == 1 or number == signal.SIGINT:
            raise KeyboardInterrupt(number)

    with handled_by(raise_once):
        yield


class Asked:
    """Whether somebody asked for an end.

    Attributes:
        event: set by the first signal; what `Transcriber.transcribe_many` takes as `cancel`.
        number: the number of that signal; None before.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number: int | None = None
        self._cpu_s = 0.0

    def ask(self, number: int) -> None:
        """Take a signal: the second one raises."""
        if self.number is not None:
            raise KeyboardInterrupt(number)
        self.number = number
        self.event.set()
        if hasattr(signal, "setitimer"):
            self._cpu_s = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, IDLE_S, IDLE_S)

    def insist_if_idle(self, _: int) -> None:
        """Raise if nothing was computed since the last time: whoever waits for input never asks whether to stop."""
        cpu_s = time.process_time()
        if self.number is not None and cpu_s - self._cpu_s < IDLE_SHARE * IDLE_S:
            raise ReadingAbandoned(self.number)
        self._cpu_s = cpu_s


@contextlib.contextmanager
def first_signal_asks() -> Iterator[Asked]:
    """Yield what the first signal sets instead of raising; the second one raises."""
    asked = Asked()
    acts: dict[int, Callable[[int], object]] = dict.fromkeys(ENDING, asked.ask)
    has_timer = hasattr(signal, "setitimer")
    if has_timer:
        acts[signal.SIGALRM] = asked.insist_if_idle
    with _handlers(acts):
        try:
            yield asked
        finally:
            if has_timer and asked.number is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _handlers(acts: Mapping[int, Callable[[int], object]]) -> Iterator[None]:
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number, act in acts.items():
                current = signal.getsignal(number)
                if current in (signal.SIG_DFL, signal.default_int_handler) or isinstance(current, _Handler):
                    before[number] = current
                    signal.signal(number, _Handler(act))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
