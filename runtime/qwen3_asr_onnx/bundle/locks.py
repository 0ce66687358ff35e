"""Locks that the system drops when their process ends, however it does."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["locked", "take_lock"]

PAUSE_S = 0.05

if sys.platform == "win32":
    import msvcrt

    def take_lock(descriptor: int) -> None:
        """Lock an open file.

        Raises:
            OSError: another process has it, or the file system knows no locks.
        """
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def take_lock(descriptor: int) -> None:
        """Lock an open file.

        Raises:
            OSError: another process has it, or the file system knows no locks.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock on a file, which is made and stays; yield False where it was not to be had within `wait_s`.

    Whoever holds a lock for long is found at once; `wait_s` is for what takes a moment.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _taken(descriptor, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


def _taken(descriptor: int, until_s: float) -> bool:
    while True:
        try:
            take_lock(descriptor)
        except (BlockingIOError, PermissionError):  # the second is what Windows says
            if time.monotonic() >= until_s:
                return False
            time.sleep(PAUSE_S)
        except OSError:  # a file system without locks, where nobody can be told from nobody
            return True
        else:
            return True
