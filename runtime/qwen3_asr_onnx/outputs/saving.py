"""A result on disk: whole, or not there; and nothing beside it, whatever ended the run that wrote it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows, which does not let anybody delete a file that is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["remove_abandoned", "write_atomically"]

_TEMPORARY = re.compile(r"\.qwen3-asr-onnx-[0-9a-f]{8}\.tmp")


def write_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 file that appears complete or not at all, whatever interrupts the writing.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(path, text)
    except FileNotFoundError:  # another run took the new file for an abandoned one before it was locked
        _write(path, text)


def remove_abandoned(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder when its process was killed; never what a living one writes."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if _TEMPORARY.fullmatch(entry.name):
                _remove_if_abandoned(entry)


def _write(path: Path, text: str) -> None:
    # Named before the try block: an interrupt between creating and remembering a file would leave it behind. The name
    # is short, because that of the result may be as long as the disk allows.
    partial = path.with_name(f".qwen3-asr-onnx-{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            _lock(file)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file that --resume takes for silence
            if fcntl is not None:
                partial.replace(path)  # while it is locked; Windows wants it closed
        if fcntl is None:
            partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # nobody knows the partial file's name
    finally:
        partial.unlink(missing_ok=True)


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("r+") as file:
        if fcntl is not None and _lock(file):
            path.unlink()
    if fcntl is None:
        with contextlib.suppress(OSError):
            path.unlink()


def _lock(file: TextIO) -> bool:
    """Mark a file as in use by a living process; return whether nobody else has. Some network disks know no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
