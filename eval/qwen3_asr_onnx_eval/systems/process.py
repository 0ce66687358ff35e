"""Systems under evaluation: what a user types for one in, a process that transcribes out.

Every system runs alone in a process (`adapters/serve.py`), so that its memory can be read off, a crash takes nothing
else down, and the official package can live in its own environment. All get the same samples and the same threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from qwen3_asr_onnx.errors import OptionsError, Qwen3AsrError
from qwen3_asr_onnx.model.session import disable_telemetry

__all__ = ["KINDS", "SYSTEM_HELP", "SystemFailedError", "SystemProcess", "SystemSpec", "parse_system"]

ADAPTERS = Path(__file__).parent / "adapters"
KINDS = {
    "ours": "ours.py",
    "transformers": "transformers_native.py",
    "official": "official.py",
    "faster-whisper": "faster_whisper.py",
    "sherpa-onnx": "sherpa.py",
}
SYSTEM_HELP = (
    "[NAME=]KIND:MODEL[@PRECISION]; kinds: ours (bundle@variant), transformers (checkpoint@float32 or @bfloat16), "
    "official (checkpoint, needs --official-python), faster-whisper (model@int8), sherpa-onnx (a JSON file)"
)

LOAD_TIMEOUT_S = 900.0
EXIT_TIMEOUT_S = 10.0
STDERR_LINES = 2


class SystemFailedError(Qwen3AsrError, RuntimeError):
    """A system could not be loaded, ended, or did not answer; the message holds the end of its stderr."""


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """One system to evaluate.

    Attributes:
        name: in tables; unique.
        kind: key of `KINDS`.
        model: path or name.
        precision: variant, dtype or compute type; "" for the kind's default.
        threads: for the system's own thread pool.
        python: interpreter to run it with.
    """

    name: str
    kind: str
    model: str
    precision: str
    threads: int
    python: str = sys.executable


def parse_system(text: str, *, threads: int, official_python: str | None) -> SystemSpec:
    """Return the system that a user means.

    Args:
        text: see `SYSTEM_HELP`.
        threads: for every system the same.
        official_python: interpreter of the environment that holds qwen-asr.

    Raises:
        OptionsError: not of that form, or the official package without its interpreter.
    """
    head, colon, model = text.partition(":")
    name, equals, kind = head.rpartition("=")
    if not (colon and model) or kind not in KINDS or (equals and not name):
        raise OptionsError(f"system {text!r}: give {SYSTEM_HELP}")
    path, _, precision = model.rpartition("@") if "@" in model else (model, "", "")
    if kind == "official" and not official_python:
        raise OptionsError(f"system {text!r}: name the interpreter of qwen-asr's environment with --official-python")
    python = official_python if kind == "official" and official_python else sys.executable
    default = " ".join(part for part in (kind, Path(path).name if kind != "official" else "", precision) if part)
    return SystemSpec(name or default, kind, path, precision, threads, python)


class SystemProcess:
    """A loaded system. Use as a context manager.

    Attributes:
        spec: what it is.
        loaded: `load_s`, `info` and `peak_rss`, as told when it was ready.
    """

    def __init__(self, spec: SystemSpec, *, adapter: Path | None = None) -> None:
        """Start the process and wait until the model is loaded.

        Args:
            spec: what to load.
            adapter: file of an adapter; None takes the kind's own.

        Raises:
            SystemFailedError: it could not be loaded.
        """
        self.spec = spec
        disable_telemetry()  # other systems import onnxruntime by themselves
        config = json.dumps({"model": spec.model, "precision": spec.precision, "threads": spec.threads})
        script = adapter or ADAPTERS / KINDS[spec.kind]
        # Read back for error messages; a pipe that nobody empties would block the process.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._answers: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [spec.python, str(ADAPTERS / "serve.py"), str(script), config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": str(spec.threads), "PYTHONIOENCODING": "utf-8"},
            # Ctrl-C is for the parent, which then closes its systems in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_answers, daemon=True)
        self._reader.start()
        try:
            self.loaded = self._answer(LOAD_TIMEOUT_S)
        except BaseException:
            self.close(kill=True)
            raise

    def __enter__(self) -> SystemProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(kill=error is not None)

    def transcribe(self, audio: Path, language: str | None, repeats: int, timeout_s: float) -> dict[str, Any]:
        """Return the answer for one .npy file of samples: text, language, seconds; or error.

        Raises:
            SystemFailedError: the process ended or did not answer in time; it is gone then.
        """
        assert self._process.stdin is not None
        try:
            request = {"audio": str(audio), "language": language, "repeats": repeats}
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended; waiting for the answer says how
        return self._answer(timeout_s)

    def close(self, *, kill: bool = False) -> None:
        """End the process: politely by closing its stdin, unless told to kill it."""
        assert self._process.stdin is not None
        if kill:
            self._process.kill()
        with contextlib.suppress(OSError):  # unsent bytes of a request to a dead process
            self._process.stdin.close()
        try:
            self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self._process.kill()
            raise SystemFailedError(f"{self.spec.name}: no answer within {timeout_s:g} s") from None
        if not line:
            raise SystemFailedError(f"{self.spec.name}: {self._how_it_ended()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _how_it_ended(self) -> str:
        status = self._process.wait(EXIT_TIMEOUT_S)
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace").splitlines()
        # The last lines of a traceback are the error; those of carets point at code that is not shown.
        tail = [line.strip() for line in said if line.strip(" ^~")][-STDERR_LINES:]
        return f"the process {how}" + (f": {' | '.join(tail)}" if tail else "")
