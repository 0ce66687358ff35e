"""Weights arranged for this machine, kept between runs so that loading maps them instead of making a copy.

    FOLDER/KEY/graph.onnx       a graph, optimized
    FOLDER/KEY/weights.bin      its weights, and the same as the processor wants them
    FOLDER/KEY/entry.json       what both files were when they were written

FOLDER is where the system keeps what can be made again, or `warm` in what QWEN3_ASR_HOME says. It may be deleted at any
time. An entry that is not what it was when it was written is never used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import LimitError, OptionsError

from .choices import moved_home
from .files import file_record
from .locks import locked
from .writing import atomic_directory, free_bytes, readable_bytes

__all__ = [
    "GRAPH_FILE",
    "WEIGHTS_FILE",
    "find_prepared",
    "keep_prepared",
    "prepared_folder",
    "prepared_size",
    "room_for",
]

GRAPH_FILE, WEIGHTS_FILE, ENTRY_FILE = "graph.onnx", "weights.bin", "entry.json"

SIZE_VARIABLE = "QWEN3_ASR_WARM_GB"
DEFAULT_GB = 8.0
"""What all entries may take together; those of the 0.6B model take 1.1 GB (int4) and 2.2 GB (fast)."""

WAIT_S = 60.0
"""How long somebody else may take to write an entry that is wanted here too."""


def prepared_folder() -> Path:
    """Return where the entries lie; the folder need not exist."""
    moved = moved_home()
    if moved is not None:
        return moved / "warm"
    import platformdirs

    return Path(platformdirs.user_cache_dir("qwen3-asr-onnx", appauthor=False)) / "warm"


def prepared_size() -> int:
    """Return the bytes of everything in the folder."""
    return sum(_size(path) for path in _entries())


def room_for() -> int:
    """Return how many bytes all entries may take together; 0 where there shall be none.

    Raises:
        OptionsError: what the environment says is no number of gigabytes.
    """
    given = os.environ.get(SIZE_VARIABLE, "").strip() or str(DEFAULT_GB)
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e6:
        raise OptionsError(f"{SIZE_VARIABLE} is {given!r}; give a number of gigabytes, or 0 for no warm start")
    return int(gigabytes * 1e9)


def find_prepared(key: str) -> Path | None:
    """Return the folder of an entry, None where there is none that is as it was written."""
    folder = prepared_folder() / key
    try:
        noted = json.loads((folder / ENTRY_FILE).read_text(encoding="utf-8"))
        if noted != _described(folder, key):
            return None
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):  # the oldest go first; where nothing can be written nothing goes
        os.utime(folder / ENTRY_FILE)
    return folder


def keep_prepared(key: str, n_bytes: int, write: Callable[[Path], object]) -> None:
    """Make an entry, unless it is there: all of it or nothing, whoever else does the same.

    Args:
        key: its name, which says all that its bytes depend on.
        n_bytes: what it will take at most; old entries make room for it.
        write: puts `GRAPH_FILE` and `WEIGHTS_FILE` into the folder it is given.

    Raises:
        LimitError: the disk is full.
        OSError: nothing can be written there.
    """
    folder = prepared_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / ".lock", WAIT_S) as is_ours:
        if not is_ours or find_prepared(key) is not None:
            return
        _make_room(n_bytes)
        free = free_bytes(folder)
        if free < n_bytes:
            raise LimitError(f"{folder}: {readable_bytes(free)} free, {readable_bytes(n_bytes)} are needed")
        with atomic_directory(folder / key, overwrite=True) as partial:
            write(partial)
            (partial / ENTRY_FILE).write_text(json.dumps(_described(partial, key)), encoding="utf-8")


def _described(folder: Path, key: str) -> dict[str, Any]:
    """Return what an entry is now. The graph is small and read whole; of the weights size and time must do."""
    graph, weights = file_record(folder / GRAPH_FILE), (folder / WEIGHTS_FILE).stat()
    return {"key": key, "graph": graph.sha256, "weights": [weights.st_size, weights.st_mtime_ns]}


def _make_room(n_bytes: int) -> None:
    """Remove the entries that were not used for longest until so many bytes fit in."""
    entries = sorted(_entries(), key=_last_use_s)
    total = sum(map(_size, entries))
    for path in entries:
        if total + n_bytes <= room_for():
            break
        total -= _size(path)
        shutil.rmtree(path, ignore_errors=True)  # Windows keeps what a process has mapped


def _entries() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in prepared_folder().iterdir() if path.is_dir() and not path.name.startswith("."))


def _last_use_s(entry: Path) -> float:
    try:
        return (entry / ENTRY_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    size = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            size += path.stat().st_size
    return size
