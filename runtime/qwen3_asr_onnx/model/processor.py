"""What this processor multiplies fast -> names that rules are written in; nothing where the system does not tell."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

__all__ = ["processor_features"]

CPUINFO = Path("/proc/cpuinfo")

FEATURES = {
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "amx_int8": "amx",
    "amx_tile": "amx",
    "asimddp": "dotprod",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
}
"""How Linux (x86, Arm) and macOS (Arm) call what decides how fast 8-bit products are."""


@functools.cache
def processor_features() -> frozenset[str]:
    """Return which of "vnni", "amx" (x86: 8-bit dot products; 8-bit tiles) and "dotprod" (Arm) this processor has.

    Empty also where the system does not tell: on Windows, and on a Mac with an Intel processor.
    """
    if platform.system() == "Darwin":
        return features_of(_asked_of_macos())
    try:
        return features_of(CPUINFO.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return frozenset()


def features_of(text: str) -> frozenset[str]:
    """Return the features that the text of /proc/cpuinfo names in its first processor, or `sysctl` as "name: 1"."""
    found: set[str] = set()
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        words = value.split() if name in ("flags", "Features") else [name] if value == "1" else []
        found |= {FEATURES[word] for word in words if word in FEATURES}
        if name in ("flags", "Features"):
            break
    return frozenset(found)


def _asked_of_macos() -> str:
    """Return what `sysctl` says about dot products, "" where it has no such name."""
    command = ["/usr/sbin/sysctl", "hw.optional.arm.FEAT_DotProd"]
    try:
        return subprocess.run(  # noqa: S603 - a constant
            command, capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
