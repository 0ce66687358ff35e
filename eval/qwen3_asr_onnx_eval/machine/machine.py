"""What a measurement was made on, and what a command cost: machine, versions, commit; seconds and peak memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from qwen3_asr_onnx.errors import Qwen3AsrError

__all__ = [
    "MeasurementError",
    "ProcessCost",
    "commit",
    "cpu_model",
    "describe_machine",
    "run_and_measure",
    "usable_cores",
    "versions",
]

POLL_S = 0.05
BANDWIDTH_BYTES = 1 << 29
BANDWIDTH_REPEATS = 4
MEASURED_PACKAGES = ("qwen3-asr-onnx", "onnxruntime", "numpy", "torch", "transformers", "onnx", "psutil")


class MeasurementError(Qwen3AsrError, RuntimeError):
    """A process that was to be measured failed; its own message is on stderr."""


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """What a finished command used.

    Attributes:
        wall_s: seconds from start to exit.
        peak_rss: highest sum of resident bytes over the process and its children, polled every 50 ms. Pages of mapped
            files count, though the system can take them back at any time.
        peak_private: the same of private bytes (USS), polled: what it really needs.
        max_rss: highest resident bytes of any single process of it, from the system (`ru_maxrss`), so no peak is
            missed; None where the system does not tell.
    """

    wall_s: float
    peak_rss: int
    peak_private: int
    max_rss: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        return asdict(self)


def run_and_measure(command: Sequence[str]) -> ProcessCost:
    """Run a command to its end and return what it used. Its stdout goes to our stderr.

    Raises:
        MeasurementError: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr)  # noqa: S603 - built by the caller from our own names
    peak_rss = peak_private = 0
    max_rss: int | None = None
    status: int | None = None
    try:
        while status is None:
            rss, private = _tree_memory(process.pid)
            peak_rss, peak_private = max(peak_rss, rss), max(peak_private, private)
            time.sleep(POLL_S)
            status, max_rss = _poll(process)
    finally:
        if status is None:
            process.kill()
            process.wait()
    if status != 0:
        raise MeasurementError(f"{' '.join(command)} ended with status {status}")
    return ProcessCost(time.perf_counter() - started, peak_rss, peak_private, max_rss)


def _poll(process: subprocess.Popen[bytes]) -> tuple[int | None, int | None]:
    """Return exit status (None while it runs) and highest resident bytes, where wait4 exists."""
    if not hasattr(os, "wait4"):
        return process.poll(), None
    pid, wait_status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid == 0:
        return None, None
    process.returncode = os.waitstatus_to_exitcode(wait_status)  # so that Popen does not wait for it again
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _tree_memory(pid: int) -> tuple[int, int]:
    """Return resident and private bytes of a process and its children."""
    rss = private = 0
    try:
        process = psutil.Process(pid)
        members = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0, 0
    for member in members:
        try:
            info = member.memory_full_info()
        except psutil.Error:  # gone, or a zombie
            continue
        rss += info.rss
        private += info.uss
    return rss, private


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, load and measured memory bandwidth, for the record."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "available_bytes": psutil.virtual_memory().available,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        **_bandwidth_of_a_fresh_process(),
    }


def cpu_model() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _bandwidth_of_a_fresh_process() -> dict[str, float]:
    """Return the bandwidth, measured elsewhere: on Linux a child's `ru_maxrss` starts at its parent's peak."""
    command = [sys.executable, "-m", "qwen3_asr_onnx_eval.machine.machine"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own module
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_bandwidth()))
