"""A recogniser in its own process: one JSON request per line in, one JSON answer per line out.

    python -m qwen3_asr_onnx_eval.bench.worker int4 BUNDLE            any variant of the bundle
    python -m qwen3_asr_onnx_eval.bench.worker float32 CHECKPOINT     transformers in float32 or bfloat16

The first answer comes unasked, when the model is loaded. Each model has a process to itself, so that its memory can be
read off and its allocator, threads and caches are its own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from qwen3_asr_onnx.model.session import import_onnxruntime
from qwen3_asr_onnx_eval.machine.child_process import ChildProcess, reply

from .recognizers import Recognizer, benchmark_clip

__all__ = ["UPSTREAM", "Worker", "main", "process_memory"]

UPSTREAM = ("float32", "bfloat16")
"""Kinds of worker that run transformers; every other name is one of our variants."""


class Worker(ChildProcess):
    """The parent's side: starts the process, asks, reads memory. Use as a context manager."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        super().__init__(f"the {kind} worker", "qwen3_asr_onnx_eval.bench.worker", [kind, str(directory)])


def _load(kind: str, directory: Path) -> Recognizer:
    if kind not in UPSTREAM:
        from .ours import OurRecognizer

        return OurRecognizer(directory, kind)
    from .upstream import load_upstream

    return load_upstream(directory, "float32" if kind == "float32" else "bfloat16")


def _import_libraries(kind: str) -> None:
    """Import what loading would import, so that load time is the model's alone."""
    if kind not in UPSTREAM:
        import_onnxruntime()
        from . import ours  # noqa: F401
    else:
        import torch  # noqa: F401
        from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration  # noqa: F401


def process_memory() -> dict[str, int]:
    """Return this process's memory in bytes: resident, its private part, and the highest resident so far."""
    info = psutil.Process().memory_full_info()
    return {"rss": info.rss, "private": info.uss, "peak_rss": max(info.rss, _peak_rss())}


def _peak_rss() -> int:
    """Return the highest resident bytes of this process so far; 0 where the system does not tell."""
    # Not `ru_maxrss`: on Linux that starts at the parent's peak.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))  # Windows


def main(argv: list[str]) -> int:
    """Serve requests until stdin ends."""
    kind, directory = argv
    started = time.perf_counter()
    _import_libraries(kind)
    imported = time.perf_counter()
    recognizer = _load(kind, Path(directory))
    loaded = time.perf_counter()
    reply(import_s=imported - started, load_s=loaded - imported, memory=process_memory())
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "run":
            times = recognizer.run(benchmark_clip(request["audio_s"]), request["n_tokens"])
            reply(**times.to_dict(), memory=process_memory())
        else:
            reply(times_ms=recognizer.step_times(tuple(request["capacities"]), request["n_tokens"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
