"""Processes of ours that are measured: they end when the one that measures does."""

from __future__ import annotations

import signal
import time

import pytest

pytest.importorskip("psutil", reason="needs the eval extra")

from qwen3_asr_onnx_eval.machine.child_process import run_alone


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that send signals")
def test_a_signal_to_the_parent_alone_ends_the_child_too() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            run_alone(time.sleep, 60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 30
