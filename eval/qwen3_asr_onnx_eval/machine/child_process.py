"""Processes that are measured: commands to their end, functions of ours alone, and models that answer requests.

Our own code runs in spawned processes: nothing is inherited, so their memory, threads and caches are their own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import psutil

from qwen3_asr_onnx.errors import Qwen3AsrError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Answer", "ChildProcess", "MeasurementError", "ProcessCost", "run_alone", "run_and_measure"]

T = TypeVar("T")
Answer: TypeAlias = "dict[str, Any]"

SPAWN = multiprocessing.get_context("spawn")
EXIT_TIMEOUT_S = 30
POLL_S = 0.05


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
            _end(process)
    if status != 0:
        raise MeasurementError(f"{' '.join(command)} ended with status {status}")
    return ProcessCost(time.perf_counter() - started, peak_rss, peak_private, max_rss)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: it may have files to clean up."""
    process.terminate()
    try:
        process.wait(EXIT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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


def run_alone(call: Callable[..., T], *arguments: Any) -> T:
    """Return what a function of ours returns, or raise what it raises, in a process of its own."""
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(1, SPAWN, _leave_ctrl_c_to_the_parent) as pool:
        try:
            return pool.submit(call, *arguments).result()
        except KeyboardInterrupt:  # of a signal to us alone: the pool would wait for the end of the work
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


class ChildProcess:
    """A model of ours in a process of its own. Use as a context manager; an error inside kills it.

    Attributes:
        loaded: what there was to tell when the model was loaded.
    """

    def __init__(self, label: str, served: Callable[..., Any], *arguments: Any) -> None:
        """Start the process and wait until it is loaded.

        Args:
            label: names it in errors.
            served: class of a module, which the process imports: loads a model, has `loaded`, and a method for each
                kind of request.
            arguments: of `served`.

        Raises:
            MeasurementError: it ended instead.
        """
        self._label = label
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs, served, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that reading ends when the process does
        self.loaded = self._answer()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        if error is not None:
            self._process.kill()
        self._process.join(EXIT_TIMEOUT_S)

    def ask(self, method: str, **request: Any) -> Answer:
        """Send one request, a method of the served class with its arguments, and wait for its answer.

        Raises:
            MeasurementError: the process ended instead.
        """
        self._connection.send((method, request))
        return self._answer()

    def _answer(self) -> Answer:
        try:
            answer: Answer = self._connection.recv()
        except EOFError:
            self._process.join(EXIT_TIMEOUT_S)
            raise MeasurementError(f"{self._label} ended with status {self._process.exitcode}") from None
        return answer


def _leave_ctrl_c_to_the_parent() -> None:
    """Ignore what a terminal sends to all of us: the parent ends its children, and they need not print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _serve(connection: Connection, served: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Load and answer until the parent closes its end: the child's side."""
    _leave_ctrl_c_to_the_parent()
    os.dup2(2, 1)  # what libraries print is no result of the parent's
    model = served(*arguments)
    connection.send(model.loaded)
    while True:
        try:
            method, request = connection.recv()
        except EOFError:
            return
        connection.send(getattr(model, method)(**request))
