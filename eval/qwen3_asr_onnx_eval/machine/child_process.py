"""The parent's side of a process that answers: one JSON object per line in, one per line out, the first one unasked.

Imports nothing heavy, because the children import it too and what their start takes is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .machine import MeasurementError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ChildProcess", "reply"]

EXIT_TIMEOUT_S = 30


class ChildProcess:
    """A module of ours running in its own process. Use as a context manager; an error inside kills it.

    Attributes:
        loaded: the first answer, which comes when the model is loaded.
    """

    def __init__(self, label: str, module: str, arguments: Sequence[str]) -> None:
        """Start `python -m module arguments` and wait until it is loaded.

        Raises:
            MeasurementError: it ended instead; `label` names it.
        """
        self._label = label
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.loaded = self._answer()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if error is not None:
            self._process.kill()
        self._process.wait(EXIT_TIMEOUT_S)
        self._process.stdout.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            MeasurementError: the process ended instead.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise MeasurementError(f"{self._label} ended with status {self._process.wait(EXIT_TIMEOUT_S)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def reply(**answer: Any) -> None:
    """Answer the parent, on the child's side."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
