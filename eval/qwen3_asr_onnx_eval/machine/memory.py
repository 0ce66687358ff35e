"""How much memory this process takes.

Imports the standard library alone: processes of other systems, in environments of their own, load it by its path.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_rss", "process_memory"]


def peak_rss() -> int:
    """Return the highest resident bytes of this process so far; 0 where the system does not tell."""
    # On Linux not `ru_maxrss`: that starts at the parent's peak.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def process_memory() -> dict[str, int]:
    """Return this process's memory in bytes: resident, its private part, and the highest resident so far."""
    import psutil

    info = psutil.Process().memory_full_info()
    peak = max(info.rss, peak_rss(), getattr(info, "peak_wset", 0))  # the last on Windows
    return {"rss": info.rss, "private": info.uss, "peak_rss": peak}
