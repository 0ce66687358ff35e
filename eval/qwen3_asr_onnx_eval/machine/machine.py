"""What a measurement was made on: processor and its features, cores, memory, bandwidth, system, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from qwen3_asr_onnx.model.session import usable_cores

from .child_process import run_alone

__all__ = ["commit", "describe_machine", "environment", "versions"]

BANDWIDTH_BYTES = 1 << 29
BANDWIDTH_REPEATS = 4
MEASURED_PACKAGES = ("qwen3-asr-onnx", "onnxruntime", "numpy", "torch", "transformers", "onnx", "psutil")
FEATURES = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
            "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip
"""Flags of /proc/cpuinfo (x86 and Arm) that decide which kernels onnxruntime and torch choose."""


def environment() -> dict[str, Any]:
    """Return the facts that every row carries. Versions of packages come from the system's own process."""
    flags = set(_cpuinfo("flags", "Features").split())
    return {
        "cpu": _cpu_model(),
        "cpu_features": [name for name in FEATURES if name in flags],
        **_facts(),
        "commit": commit(),
    }


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, load and measured memory bandwidth, for the record."""
    return {
        "cpu": _cpu_model(),
        **_facts(),
        "available_bytes": psutil.virtual_memory().available,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        **run_alone(_bandwidth),  # elsewhere: on Linux a child's `ru_maxrss` starts at its parent's peak
    }


def _facts() -> dict[str, Any]:
    return {
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    """Return the first value of /proc/cpuinfo under any of the names; "" where the system does not tell."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() in names), "")


def _bandwidth() -> dict[str, float]:
    """Return bytes per second of reading and of copying, all cores, the best of a few: the floor of a decode step."""
    cores = usable_cores()
    data = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    target = np.empty_like(data)
    parts = [slice(len(data) * i // cores, len(data) * (i + 1) // cores) for i in range(cores)]
    read_s = copy_s = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(BANDWIDTH_REPEATS):
            started = time.perf_counter()
            list(pool.map(lambda part: data[part].sum(), parts))
            middle = time.perf_counter()
            list(pool.map(lambda part: np.copyto(target[part], data[part]), parts))
            copy_s = min(copy_s, time.perf_counter() - middle)
            read_s = min(read_s, middle - started)
    return {"read_bytes_per_s": data.nbytes / read_s, "copy_bytes_per_s": 2 * data.nbytes / copy_s}


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that matter; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for name in MEASURED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> str | None:
    """Return the commit of the sources in use, with "+" if they were edited; None outside a repository."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        dirty = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if dirty else "")


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout.strip()
