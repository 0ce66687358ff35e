"""How a live transcript is shown: committed text on stdout, text that may still change on a terminal's stderr only."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Protocol

from qwen3_asr_onnx.stream.updates import StreamUpdate
from qwen3_asr_onnx.text.scripts import column_width

from .console import emit

__all__ = ["Display", "JsonLines", "Lines"]


class Display(Protocol):
    """Shows the updates of one stream."""

    def show(self, update: StreamUpdate) -> None:
        """Show one update."""
        ...

    def end(self) -> None:
        """Leave the cursor where the next program expects it."""
        ...


class JsonLines:
    """One JSON object per update on stdout."""

    def show(self, update: StreamUpdate) -> None:
        """Write the update."""
        emit(json.dumps(update.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")

    def end(self) -> None:
        """Do nothing: every line is complete."""


class Lines:
    """One line of text per segment on stdout, growing as words are committed.

    Where a person watches stderr, the tentative words follow in faint letters until the next update replaces them.
    """

    def __init__(self, *, tentative: bool = True) -> None:
        self._line = ""
        self._shares_line = tentative and _is_terminal(sys.stdout)
        self._tentative = tentative and _is_terminal(sys.stderr)
        self._shown_columns = 0

    def show(self, update: StreamUpdate) -> None:
        """Add what is committed, and replace what is tentative."""
        self._erase()
        new = update.committed if self._line else update.committed.lstrip()
        if new:
            emit(new)
            self._line += new
        if update.segment is not None and self._line:
            emit("\n")
            self._line = ""
        if self._tentative and update.tentative:
            self._show_tentative(update.tentative)

    def end(self) -> None:
        """Take the tentative words away and end the line."""
        self._erase()
        if self._line:
            emit("\n")
            self._line = ""

    def _show_tentative(self, text: str) -> None:
        """Write as much as fits on the line: what wraps could not be erased."""
        width = shutil.get_terminal_size().columns - 1
        before = column_width(self._line) % (width + 1) if self._shares_line else 0
        shown, columns = "", 0
        for character in text if self._line else text.lstrip():
            columns += column_width(character)
            if before + columns > width:
                break
            shown += character
        sys.stderr.write(f"\x1b[2m{shown}\x1b[0m")
        sys.stderr.flush()
        self._shown_columns = column_width(shown)

    def _erase(self) -> None:
        if self._shown_columns:
            sys.stderr.write(f"\x1b[{self._shown_columns}D\x1b[K")
            sys.stderr.flush()
            self._shown_columns = 0


def _is_terminal(stream: object) -> bool:
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty())
