"""What a row of results was measured on: processor and its features, cores, memory, system, commit."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import psutil

from .machine import commit, cpu_model, usable_cores

__all__ = ["cpu_features", "environment"]

FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
            "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip
"""Flags of /proc/cpuinfo (x86 and Arm) that decide which kernels onnxruntime and torch choose."""


def environment() -> dict[str, Any]:
    """Return the facts that every row carries. Versions of packages come from the system's own process."""
    return {
        "cpu": cpu_model(),
        "cpu_features": cpu_features(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit(),
    }


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return which of `FEATURES` the processor has; empty where the system does not tell."""
    if not cpuinfo.exists():
        return []
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            found = set(value.split())
            return [name for name in FEATURES if name in found]
    return []
