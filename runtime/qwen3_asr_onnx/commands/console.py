"""The two streams of the command line: results to stdout and nothing else, all that is said about them to stderr.

Progress bars appear on stderr when a person watches it, that is, when it is a terminal. Messages and results step
around a live bar, and a line that is still growing on a terminal has none below it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol, TextIO

from qwen3_asr_onnx.audio.waiting import can_be_abandoned

__all__ = [
    "PROGRAM",
    "Bar",
    "abandon_stdout_if_broken",
    "emit",
    "incomplete_display",
    "progress_bar",
    "say",
    "say_warnings",
    "show_warning",
    "use_safe_encodings",
]

PROGRAM = "qwen3-asr-onnx"

_lacking: set[str] = set()
"""Encodings of this process's terminal that a result did not fit into."""

_growing: list[str] = []
"""The end of the line on the terminal of stdout, where that is not finished."""


class Bar(Protocol):
    """What a verb does with its progress bar."""

    def update(self, n: float = 1) -> object:
        """Move the bar by `n` units."""

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> object:
        """Show `s` at the end of the bar."""

    def close(self) -> object:
        """Take the bar away for good."""


_bars: list[Bar] = []
"""Those that are shown."""


def emit(text: str) -> None:
    """Write a piece of the result to stdout, at once: a reader on the other end of a pipe may be waiting for it.

    Raises:
        OSError: stdout cannot take it; BrokenPipeError when its reader has gone.
    """
    if sys.stdout is None:  # closed by the caller, as in `>&-`
        raise OSError(errno.EBADF, "standard output is closed")
    on_terminal = sys.stdout.isatty()
    if on_terminal and text:
        _growing[:] = [] if text.endswith("\n") else [text]
        for bar in _bars if _growing else []:
            bar.close()  # it would be drawn over the line
    try:
        with can_be_abandoned():  # the reader of a pipe may have stopped reading
            _write(sys.stdout, text)
    except KeyboardInterrupt:
        _abandon_stdout()  # or the flush at the end would wait for that reader again
        raise
    if on_terminal:
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            _lacking.add(sys.stdout.encoding)


def say(message: str) -> None:
    """Write one message to stderr, marked with the program's name.

    A stderr that cannot take it, as that of a terminal that was closed, must not cost the result it is about.
    """
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            begin = "\n" if _growing and sys.stderr.isatty() else ""
            _write(sys.stderr, f"{begin}{PROGRAM}: {message}\n")
            if begin:
                _growing.clear()


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Say a warning, without the line of the program that it came from: for `warnings.showwarning`."""
    say(f"warning: {message}")


class _Said(logging.Handler):
    """A log on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"warning: {record.getMessage()}")


def say_warnings() -> None:
    """Write what the loading of models warns of to stderr, from now on."""
    logging.getLogger("qwen3_asr_onnx.model").handlers[:] = [_Said(logging.WARNING)]


@contextlib.contextmanager
def progress_bar(*, total: float | None, unit: str, scale: bool = False, quiet: bool = False) -> Iterator[Bar]:
    """Yield a bar that shows itself only if stderr is a terminal and `quiet` is false.

    Args:
        total: units to do; None when not known.
        unit: what is counted, as shown.
        scale: whether to write large counts with k, M, G.
        quiet: hide the bar.
    """
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        unit=unit,
        unit_scale=scale,
        file=sys.stderr,
        disable=True if quiet or sys.stderr is None else None,  # None lets tqdm look whether it is a terminal
        leave=False,
        dynamic_ncols=True,
    )
    with bar:
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.remove(bar)


def use_safe_encodings() -> None:
    """Make stdout and stderr able to print any text in any language.

    A pipe or file gets UTF-8 whatever locale and environment say (Windows would pick cp1252, which cannot hold most
    transcripts). A terminal keeps its encoding; what it cannot show is escaped, and `incomplete_display` tells.
    """
    _lacking.clear()
    _growing.clear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def incomplete_display() -> str | None:
    """Return what to tell the user when stdout is a terminal that could not show a part of the results, else None."""
    if not _lacking:
        return None
    return (
        f"this terminal shows {', '.join(sorted(_lacking))} only: what it cannot is escaped above, as \\u4f60; use a "
        "UTF-8 locale, or send the output to a file, which is UTF-8 always"
    )


def abandon_stdout_if_broken() -> None:
    """Flush stdout; if that fails, send the rest to nowhere so that the interpreter does not complain at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_stdout()


def _abandon_stdout() -> None:
    """Send to nowhere what is still to be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _write(stream: TextIO, text: str) -> None:
    with _bars_hidden(stream):
        stream.write(text)
        stream.flush()


def _bars_hidden(stream: TextIO) -> contextlib.AbstractContextManager[object]:
    tqdm_module = sys.modules.get("tqdm")
    # tqdm takes a process-wide lock to look for live bars; without an import there cannot be one.
    if tqdm_module is None:
        return contextlib.nullcontext()
    hidden: contextlib.AbstractContextManager[object] = tqdm_module.tqdm.external_write_mode(file=stream)
    return hidden
