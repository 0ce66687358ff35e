"""A call of a graph that ends in the middle, because nobody wants what it would give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Stop", "Stopped", "current_stop"]


class Stopped(Exception):  # noqa: N818 - it is no error, and nobody outside sees it
    """A call was ended in the middle: what it should have extended is as it was, behind what is valid."""


class Stop:
    """Ends the calls that are made for somebody, once he does not want them: the one under way, and all later ones.

    It is for him alone: who shares a call with others is not worth to end it.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._under_way: list[Any] = []  # the options of calls

    def set(self) -> None:
        """End them, from any thread, and from a finalizer."""
        self._is_set = True
        for options in tuple(self._under_way):
            options.terminate = True

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply to the calls that this thread makes in the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    @contextmanager
    def watching(self, options: Any) -> Iterator[None]:
        """Watch a call with these options, which are for no other call."""
        self._under_way.append(options)  # before it is looked at: `set` does it the other way round
        try:
            if self._is_set:
                raise Stopped
            yield
        except Exception:
            if self._is_set:
                raise Stopped from None
            raise
        finally:
            self._under_way.remove(options)


_CURRENT: ContextVar[Stop | None] = ContextVar("stop", default=None)


def current_stop() -> Stop | None:
    """Return what may end the calls that this thread makes now."""
    return _CURRENT.get()
