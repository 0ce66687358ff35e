"""Where a signal handler may raise at once, and where it must not, because of what the thread is doing.

Waiting for others (a pipe, a server) may last for ever, and nobody asks whether to stop: a handler can call the thread
away. Inside a library that calls us back it must wait: an exception cannot leave the callback, and what was to be read
would seem to end there.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

__all__ = ["Abandoned", "can_be_abandoned", "is_waiting", "postponed", "undisturbed"]


class Abandoned(KeyboardInterrupt):
    """Raised by a signal handler into what waits, after the call was cancelled: an input that is read ends there."""


_state = threading.local()


@contextlib.contextmanager
def can_be_abandoned() -> Iterator[None]:
    """Mark what waits."""
    before = is_waiting()
    _state.waits = True
    try:
        yield
    finally:
        _state.waits = before


def is_waiting() -> bool:
    """Return whether this thread is inside `can_be_abandoned`."""
    return getattr(_state, "waits", False)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back what signals call for until the block has ended; it should be short."""
    held: list[Callable[[], object]] = []
    before, _state.held = getattr(_state, "held", None), held
    try:
        yield
    finally:
        _state.held = before
        for act in held:  # even if the block failed: what it was told may be why
            if not postponed(act):
                act()


def postponed(act: Callable[[], object]) -> bool:
    """Return whether this thread is inside `undisturbed`; then `act` is called at its end."""
    held: list[Callable[[], object]] | None = getattr(_state, "held", None)
    if held is None:
        return False
    held.append(act)
    return True
