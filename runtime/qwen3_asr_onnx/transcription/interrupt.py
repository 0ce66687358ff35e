"""When to stop before the work is done: a clock and a flag in, a reason out."""

from __future__ import annotations

import threading
import time

from qwen3_asr_onnx.results import StopReason

__all__ = ["Interrupt"]


class Interrupt:
    """Says when to stop: the time is up, or somebody asked for it."""

    def __init__(self, time_limit_s: float | None = None, cancel: threading.Event | None = None) -> None:
        self._deadline_s = None if time_limit_s is None else time.monotonic() + time_limit_s
        self._cancel = cancel
        self.reason: StopReason | None = None

    def __call__(self) -> bool:
        """Return whether to stop; once it said so, it stays with it."""
        if self.reason is None:
            if self._cancel is not None and self._cancel.is_set():
                self.reason = "cancelled"
            elif self._deadline_s is not None and time.monotonic() >= self._deadline_s:
                self.reason = "time_limit"
        return self.reason is not None
