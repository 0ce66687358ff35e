"""How much memory there is for this process, as far as the system says, and how much of it batches take."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["affordable_bytes", "available_bytes", "most_rows", "total_bytes"]

MAX_ROWS = 8
"""Most rows by default: a step of 8 costs little more than one of 4, and one of 16 twice as much as one of 8."""

MAX_ROWS_OF_INTEGERS = 16
"""Most rows where the steps are 8-bit integer products: 16 cost 12 to 22 % less a token than 8 (entry 084)."""

CACHE_BYTES = 448 << 20
"""Most memory for keys and values by default: 4 rows of 30 s, or 8 rows of 12 s and less, of the 0.6B and 1.7B models.
More brings little: the step of 4 rows is a third dearer per token than that of 8, and decoding a third of all work."""

CACHE_SHARE = 4
"""The cache takes at most this fraction of the free memory (1/4)."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def most_rows(*, in_integers: bool) -> int:
    """Return how many rows a batch has at most if nobody says.

    Args:
        in_integers: whether the steps of many rows are 8-bit integer products.
    """
    return MAX_ROWS_OF_INTEGERS if in_integers else MAX_ROWS


def affordable_bytes() -> int:
    """Return how much memory keys and values may take."""
    free = available_bytes()
    return CACHE_BYTES if free is None else min(CACHE_BYTES, free // CACHE_SHARE)


def available_bytes() -> int | None:
    """Return the bytes free for use without swapping, within the container's limit; None where nothing tells.

    Reads /proc/meminfo and the limit of control groups version 2, which containers set.
    """
    known = [value for value in (_free_in_machine(), _free_in_container()) if value is not None]
    return min(known, default=None)


def total_bytes() -> int | None:
    """Return the bytes of memory that this process may take at most; None where nothing tells, as on Windows."""
    known = [value for value in (_all_of_machine(), _number(_CGROUP / "memory.max")) if value is not None]
    return min(known, default=None)


def _all_of_machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _free_in_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_in_container() -> int | None:
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    return None if limit is None or used is None else max(0, limit - used)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
