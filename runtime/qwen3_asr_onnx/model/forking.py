"""What becomes of sessions in a process that is forked off: their threads stay behind, and must not be waited for."""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from typing import Any

from qwen3_asr_onnx.errors import Qwen3AsrError

__all__ = ["keep_when_forked", "refuse_forked"]

_sessions: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of onnxruntime that have threads."""


def keep_when_forked(session: Any) -> None:
    """Let no forked process ever end this session of onnxruntime: it would wait for threads that are not there."""
    _sessions.add(session)
    _prepare()


def refuse_forked(pid: int) -> None:
    """Raise where a session that was made by process `pid` is to run in another one.

    Raises:
        Qwen3AsrError: this is another process.
    """
    if os.getpid() != pid:
        raise Qwen3AsrError(
            "this model was loaded before the process was forked, and its threads stayed in the parent; load it in the "
            'child, start that by multiprocessing.get_context("spawn"), or load with threads=1'
        )


@functools.cache
def _prepare() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_abandon)


def _abandon() -> None:
    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
