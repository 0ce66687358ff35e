"""Processes of ours that are measured: they end when the one that measures does."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psutil", reason="needs the eval extra")

from qwen3_asr_onnx_eval.machine.child_process import run_alone, run_and_measure

WORK = """
import signal, sys, time
from pathlib import Path

def end(*_):
    raise SystemExit

signal.signal(signal.SIGTERM, end)
try:
    Path("begun").touch()
    time.sleep(60)
finally:
    Path("begun").unlink()
"""


@contextlib.contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_signal_to_the_parent_alone_ends_the_child_too() -> None:
    started = time.monotonic()
    with interrupted_after(0.5):
        run_alone(time.sleep, 60)
    assert time.monotonic() - started < 30


# The signal may come while psutil has a file of /proc open, between opening it and being ready to close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_command_that_is_ended_may_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with interrupted_after(1.0):
        run_and_measure([sys.executable, "-c", WORK])
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_terminal_is_left_to_the_parent() -> None:
    """Its children would print tracebacks."""
    assert run_alone(signal.getsignal, signal.SIGINT) == signal.SIG_IGN
