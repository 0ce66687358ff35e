"""The process in which one system runs: JSON requests on stdin in, JSON answers on stdout out.

    python serve.py ADAPTER.py '{"model": "...", "precision": "...", "threads": 2}'

Run as a script by the interpreter of whichever environment holds the system, so it needs numpy and the standard library
only, like every adapter apart from the system it adapts. An adapter defines `load(config) -> System`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol, TypedDict

__all__ = ["Answer", "Config", "System", "main"]


class Config(TypedDict):
    """What a system is loaded with.

    `model`: path or name. `precision`: what the kind of system calls it, "" for its default. `threads`: how many.
    """

    model: str
    precision: str
    threads: int


class Answer(TypedDict):
    """What a system heard. `language`: name or code; None where the system does not tell."""

    text: str
    language: str | None
    stop_reason: str | None


class System(Protocol):
    """A loaded speech recogniser: the one face that every system shows."""

    info: dict[str, Any]
    """`size_bytes` of the model's files, `versions` of the packages that compute, and what else is worth recording."""

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what is said in (n_samples,) float32 at 16 kHz; `language` forces one, None lets the system detect."""


def main(argv: list[str]) -> int:
    """Load the adapter's system, say so, and answer requests until stdin ends."""
    adapter, config = argv
    # Libraries write to stdout when they like; the answers go to a copy of it, everything else to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # This script's own folder is no place to import from: its file names would hide packages.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    started = time.perf_counter()
    system: System = _module(Path(adapter)).load(json.loads(config))
    _reply(answers, load_s=time.perf_counter() - started, info=system.info, peak_rss=peak_rss())
    for line in sys.stdin:
        _reply(answers, **_transcribe(system, json.loads(line)))
    return 0


def _module(path: Path) -> Any:
    """Return a module by its file: our package need not be installed here."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peak_rss = _module(Path(__file__).parents[2] / "machine" / "memory.py").peak_rss


def _transcribe(system: System, request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    waveform = np.load(request["audio"])
    seconds: list[float] = []
    answer: Answer | None = None
    try:
        for _ in range(request["repeats"]):
            started = time.perf_counter()
            answer = system.transcribe(waveform, request["language"])
            seconds.append(time.perf_counter() - started)
    except Exception as error:  # noqa: BLE001 - whatever a system raises is its result for this utterance
        return {"error": f"{type(error).__name__}: {error}", "seconds": seconds, "peak_rss": peak_rss()}
    return {**(answer or {}), "seconds": seconds, "peak_rss": peak_rss()}


def _reply(stream: Any, **answer: Any) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
