"""Unfinished downloads that nobody will finish: found, and removed unless a process is at work on them.

A file that `pull` began is finished by the next `pull` of it. What stays is what huggingface_hub 2 began, which gives
every attempt a name of its own, and what the next `pull` found elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["download_locks", "remove_abandoned", "remove_unneeded"]

_ATTEMPT = re.compile(r"(.+)\.[0-9a-f]{8}\.incomplete")
_OURS = re.compile(r"([0-9a-f]{64})\.incomplete")


def download_locks() -> Path:
    """Return the folder of the locks that downloads hold."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, ".locks", "qwen3-asr-onnx")


def remove_abandoned(blobs: Path) -> None:
    """Remove the attempts of dead processes from a repository's folder in the cache of the hub."""
    locks = blobs.parent.parent / ".locks" / blobs.parent.name
    for path in blobs.glob("*.incomplete"):
        match = _ATTEMPT.fullmatch(path.name)
        if match:
            _remove_unless_locked(path, locks / f"{match[1]}.lock")


def remove_unneeded(folder: Path, names: Iterable[str]) -> None:
    """Remove unfinished downloads and copies from a folder in which all that was asked for is finished.

    Args:
        folder: a bundle of its own.
        names: its files.
    """
    locks = download_locks()
    for path in folder.glob("*.incomplete"):
        match = _OURS.fullmatch(path.name)
        if match:
            _remove_unless_locked(path, locks / f"{match[1]}.lock")
    for name in names:
        (folder / f"{name}.incomplete").unlink(missing_ok=True)


def _remove_unless_locked(path: Path, lock: Path) -> None:
    import filelock

    if not lock.parent.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        with filelock.FileLock(lock, timeout=0):
            path.unlink(missing_ok=True)
    except (filelock.Timeout, OSError):
        pass
