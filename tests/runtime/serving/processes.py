"""The verb `serve` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["Served"]


class Served:
    """A server that runs until the block ends.

    Attributes:
        address: where it listens.
        told: all that it wrote to stderr, once it has ended.
    """

    def __init__(self, bundle: Path, *options: str, **how: Any) -> None:
        command = [sys.executable, "-m", "qwen3_asr_onnx", "serve", "-m", str(bundle), "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how)
        assert self.process.stderr is not None
        self._stderr = self.process.stderr
        first = self._stderr.readline()
        assert "listening on " in first, first + self._stderr.read()
        self.address = first.split("listening on ")[1].split(";")[0]
        self.told = first

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._stderr.close()

    def wait_until_ready(self) -> None:
        """Wait for the model; read what is written from then on, so that nobody waits for a full pipe."""
        line = self._stderr.readline()
        assert "ready" in line, line + self._stderr.read()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        self.told += self._stderr.read()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._reader.join(20)
        return status
