"""Directories that appear whole or not at all, files whose digest grows with them, and room for both on the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError, LimitError

from .leftovers import Place, clear_leftovers, workplace
from .manifest import FileRecord

__all__ = [
    "FULL_DISK",
    "LINE_BYTES",
    "HashedFile",
    "aligned",
    "atomic_directory",
    "clear_directory_leftovers",
    "explained_full_disk",
    "free_bytes",
    "full_disk",
    "readable_bytes",
    "require_space",
]

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})

PAGE_BYTES, LINE_BYTES = 4096, 64
"""Large tensors start on page boundaries, because onnxruntime maps the file; small ones on cache lines."""


def aligned(offset: int, n_bytes: int) -> int:
    """Return the first place from `offset` on where a tensor of `n_bytes` may start."""
    return offset + -offset % (PAGE_BYTES if n_bytes >= PAGE_BYTES else LINE_BYTES)


class HashedFile:
    """A file written front to back, with its sha256 kept as it grows.

    Attributes:
        size: bytes so far.
    """

    def __init__(self, file: BinaryIO, progress: Callable[[int], object] | None = None) -> None:
        """Start with an empty file; `progress` is called with the bytes just written, padding among them."""
        self._file = file
        self._progress = progress
        self._digest = hashlib.sha256()
        self.size = 0

    def align(self, n_bytes: int) -> int:
        """Pad to where a tensor of `n_bytes` may start, and return that offset."""
        self._put(memoryview(bytes(aligned(self.size, n_bytes) - self.size)))
        return self.size

    def write(self, values: npt.NDArray[Any]) -> None:
        """Append an array as it lies in memory, which must be in C order."""
        assert values.flags.c_contiguous
        self._put(values.data.cast("B"))

    def record(self) -> FileRecord:
        """Return the size and digest so far."""
        return FileRecord(self.size, self._digest.hexdigest())

    def _put(self, data: memoryview) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
        if self._progress is not None:
            self._progress(len(data))


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that `folder`, which need not exist yet, will lie on."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def require_space(folder: Path, n_bytes: int, what: str, remedy: str) -> None:
    """Refuse now what would fail for want of space later, after much work.

    Raises:
        LimitError: less than `n_bytes` are free in `folder`; its message names `what` needs them, and the `remedy`.
    """
    free = free_bytes(folder)
    if free < n_bytes:
        raise LimitError(
            f"{folder}: {readable_bytes(free)} free, {what} needs {readable_bytes(n_bytes)}; "
            f"free some space or {remedy}"
        )


def readable_bytes(n_bytes: float) -> str:
    """Return a size in megabytes, as disks and release pages count them."""
    return f"{n_bytes / 1e6:,.1f} MB"


def clear_directory_leftovers(target: Path) -> None:
    """Remove what killed runs of `atomic_directory` for this target left behind, and put back what they had moved away.

    Raises:
        OSError: the directory that was to be replaced cannot be put back.
    """

    def rescue(place: Place) -> None:
        old = place.old / target.name
        if old.is_dir() and not target.exists():
            old.rename(target)

    clear_leftovers(target.parent, target.name, rescue)


@contextlib.contextmanager
def atomic_directory(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling directory that becomes `target` when the block ends without an error.

    On any error or Ctrl-C the temporary directory is removed and `target` is as it was before. If the process is
    killed, the next call for the same target does that.

    Raises:
        BundleError: `target` exists and `overwrite` is false, or is not a directory.
        LimitError: the disk is full.
    """
    clear_directory_leftovers(target)
    if target.exists() and not target.is_dir():
        raise BundleError(f"{target} is a file; give a directory name for the bundle")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise BundleError(f"{target} exists and is not empty; remove it, choose another name, or pass --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    with workplace(target.parent, target.name) as place, explained_full_disk(target):
        yield place.partial
        _replace_directory(place, target)


def _replace_directory(place: Place, target: Path) -> None:
    """Put what was made where `target` is. A full directory cannot be renamed over, so the old one steps aside first.

    Between the two renames there is no target: whoever finds it missing and the old one aside puts that one back.
    """
    if not target.exists():
        place.partial.rename(target)
        return
    place.old.mkdir()
    old = place.old / target.name
    target.rename(old)
    try:
        place.partial.rename(target)
    except OSError:
        old.rename(target)
        raise


@contextlib.contextmanager
def explained_full_disk(target: Path) -> Iterator[None]:
    """Turn the error of a full disk into one that names what the user knows, not the temporary file.

    Raises:
        LimitError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise full_disk(target, "choose another disk") from error


def full_disk(target: Path, remedy: str) -> LimitError:
    """Return the error to raise where the disk of `target` is full; `remedy` is what to do if no space can be freed."""
    free = readable_bytes(free_bytes(target))
    return LimitError(f"{target}: the disk is full, {free} are free; free some space or {remedy}")
