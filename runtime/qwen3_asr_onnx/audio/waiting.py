"""What may wait for others without end, a pipe or a server: marked so that a signal handler can call the thread away.

Elsewhere whoever works asks from time to time whether to stop; here nobody would.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

__all__ = ["Abandoned", "can_be_abandoned", "is_waiting"]


class Abandoned(KeyboardInterrupt):
    """Raised by a signal handler into what waits, after the call was cancelled: an input that is read ends there."""


_waits = threading.local()


@contextlib.contextmanager
def can_be_abandoned() -> Iterator[None]:
    """Mark what waits."""
    before = is_waiting()
    _waits.now = True
    try:
        yield
    finally:
        _waits.now = before


def is_waiting() -> bool:
    """Return whether this thread is inside `can_be_abandoned`."""
    return getattr(_waits, "now", False)
