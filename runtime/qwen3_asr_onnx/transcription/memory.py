"""How much memory this process may still take, as far as the system says, and how much of it batches do."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MAX_ROWS", "affordable_bytes", "available_bytes"]

MAX_ROWS = 8
"""Most rows by default: a step of 8 costs little more than one of 4, and one of 16 twice as much as one of 8."""

CACHE_BYTES = 448 << 20
"""Most memory for keys and values by default: 4 rows of 30 s, or 8 rows of 12 s and less, of the 0.6B and 1.7B models.
More brings little: the step of 4 rows is a third dearer per token than that of 8, and decoding a third of all work."""

CACHE_SHARE = 4
"""The cache takes at most this fraction of the free memory (1/4)."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


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


def _free_in_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _free_in_container() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else None
