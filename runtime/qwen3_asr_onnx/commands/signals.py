"""Ctrl-C, SIGTERM and SIGHUP: one exception that unwinds everything, and an exit status that says which it was.

A verb that can hand out what is finished lets the first signal ask (`first_signal_asks`), and the second insist.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType
from typing import Any

from qwen3_asr_onnx.audio.waiting import Abandoned, is_waiting, postponed

__all__ = ["Asked", "ending_signals_raise", "exit_status", "first_signal_asks", "handled_by"]

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a program politely; Windows knows no SIGHUP."""


class _Ending(KeyboardInterrupt):
    """Lives as long as it unwinds what is to end."""


class _Handler:
    """A handler of this module, so that it can be told from those of somebody else."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self._act = act

    def __call__(self, number: int, _: FrameType | None) -> None:
        if not postponed(partial(self._act, number)):
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
    Ctrl-C is a person, who may insist. An exception that somebody has swallowed does not count.
    """
    raised: list[weakref.ref[_Ending]] = []

    def raise_once(number: int) -> None:
        if number != signal.SIGINT and any(error() is not None for error in raised):
            return
        ending = _Ending(number)
        raised.append(weakref.ref(ending))
        try:
            raise ending
        finally:
            del ending  # or its traceback would keep it alive

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

    def take(self, number: int) -> None:
        """Take a signal. The second raises, and the first where nobody would look at what it sets."""
        if self.number is not None:
            raise KeyboardInterrupt(number)
        self.number = number
        self.event.set()
        if is_waiting():
            raise Abandoned(number)


@contextlib.contextmanager
def first_signal_asks() -> Iterator[Asked]:
    """Yield what the first signal sets instead of raising; the second one raises."""
    asked = Asked()
    with handled_by(asked.take):
        yield asked


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
