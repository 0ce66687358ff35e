"""A recogniser in its own process: a variant of a bundle, transformers in float32 or bfloat16, or transcribe-cpp.

Each model has a process to itself, so that its memory can be read off and its allocator, threads, caches are its own.
"""

from __future__ import annotations

import time
from pathlib import Path

from qwen3_asr_onnx.model.session import import_onnxruntime
from qwen3_asr_onnx_eval.machine.child_process import Answer, ChildProcess
from qwen3_asr_onnx_eval.machine.clip import benchmark_clip
from qwen3_asr_onnx_eval.machine.memory import process_memory

from .recognizers import Recognizer

__all__ = ["TRANSCRIBE_CPP", "UPSTREAM", "Worker"]

UPSTREAM = ("float32", "bfloat16")
"""Kinds of worker that run transformers; every other name but that of the peer is one of our variants."""

TRANSCRIBE_CPP = "transcribe-cpp Q8_0"
"""The kind of worker that runs the package transcribe-cpp, on a GGUF file."""


class Worker(ChildProcess):
    """The parent's side: starts the process and asks. Use as a context manager."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        super().__init__(f"the {kind} worker", _Served, kind, directory)


class _Served:
    """The child's side."""

    def __init__(self, kind: str, directory: Path) -> None:
        started = time.perf_counter()
        _import_libraries(kind)
        imported = time.perf_counter()
        self._recognizer = _recognizer(kind, directory)
        load_s = time.perf_counter() - imported
        self.loaded = {"import_s": imported - started, "load_s": load_s, "memory": process_memory()}

    def run(self, audio_s: float, n_tokens: int) -> Answer:
        """Time one clip."""
        times = self._recognizer.run(benchmark_clip(audio_s), n_tokens)
        return {**times.to_dict(), "memory": process_memory()}

    def step_times(self, capacities: tuple[int, ...], n_tokens: int) -> Answer:
        """Time steps with caches of several capacities; the keys are those of JSON."""
        times = self._recognizer.step_times(capacities, n_tokens)
        return {"times_ms": times and {str(capacity): found for capacity, found in times.items()}}


def _recognizer(kind: str, directory: Path) -> Recognizer:
    if kind == TRANSCRIBE_CPP:
        from .transcribe_cpp import TranscribeCppRecognizer

        return TranscribeCppRecognizer(directory)
    if kind not in UPSTREAM:
        from .ours import OurRecognizer

        return OurRecognizer(directory, kind)
    from .upstream import load_upstream

    return load_upstream(directory, "float32" if kind == "float32" else "bfloat16")


def _import_libraries(kind: str) -> None:
    """Import what loading would import, so that load time is the model's alone."""
    if kind == TRANSCRIBE_CPP:
        import transcribe_cpp  # noqa: F401
    elif kind not in UPSTREAM:
        import_onnxruntime()
        from . import ours  # noqa: F401
    else:
        import torch  # noqa: F401
        from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration  # noqa: F401
