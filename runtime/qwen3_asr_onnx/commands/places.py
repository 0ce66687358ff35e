"""Where results go: names that can be written, names that mean one file on this disk, and names of journals."""

from __future__ import annotations

import hashlib
import os
import secrets
import unicodedata
from functools import cache
from pathlib import Path

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["JOURNAL_SUFFIX", "check_place", "folded", "journal_path", "place_of", "shortened", "tells_case_apart"]

JOURNAL_SUFFIX = ".partial.jsonl"

USUAL_NAME_BYTES = 255
"""Longest name where the system does not tell its limit: that of every common disk."""


def place_of(path: Path) -> str:
    """Return what two paths of one file have in common; links are followed."""
    return os.path.normcase(os.path.realpath(path))


def folded(place: str) -> str:
    """Return what places have in common that differ in case or in how accents are composed only."""
    return unicodedata.normalize("NFC", place).casefold()


def tells_case_apart(path: Path) -> bool:
    """Return whether the disk that `path` will lie on holds two files whose names differ in case only."""
    return _tells_case_apart(_nearest_folder(path))


@cache
def _tells_case_apart(folder: Path) -> bool:
    probe = folder / f".Qwen3-asr-onnx-{secrets.token_hex(4)}.tmp"
    try:
        probe.touch(exist_ok=False)
    except OSError:
        return True  # that nothing can be written there is told elsewhere
    try:
        return not probe.with_name(probe.name.lower()).exists()
    finally:
        probe.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Refuse now what would fail only after the transcribing.

    Raises:
        OptionsError: a file cannot be written at `path`.
    """
    folder = _nearest_folder(path)
    if not folder.is_dir():
        raise OptionsError(f"{path} cannot be written: {folder} is not a directory")
    limit = _name_limit(folder)
    for name in path.absolute().relative_to(folder).parts:
        if len(os.fsencode(name)) > limit:
            raise OptionsError(
                f"{path} cannot be written: {name} has {len(os.fsencode(name))} bytes, a name may have {limit} there; "
                "use a shorter name"
            )
    if not os.access(folder, os.W_OK):
        raise OptionsError(f"{path} cannot be written: no permission in {folder}; use another place")
    try:
        is_folder = path.is_dir()
    except OSError as error:  # too long a path, bytes that the disk takes for no name
        raise OptionsError(f"{path} cannot be written: {error.strerror}") from error
    if is_folder:
        raise OptionsError(f"{path} cannot be written: it is a directory")


def journal_path(path: Path) -> Path:
    """Return where the journal of a result lies: beside it, under a name that fits into the folder.

    Args:
        path: of the result, without the suffix of its format.
    """
    limit = _name_limit(_nearest_folder(path)) - len(JOURNAL_SUFFIX)
    return path.with_name(shortened(path.name, limit) + JOURNAL_SUFFIX)


def shortened(name: str, n_bytes: int) -> str:
    """Return a name of at most `n_bytes` bytes: the name itself, or its beginning with a digest of all of it."""
    encoded = os.fsencode(name)
    if len(encoded) <= n_bytes:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: n_bytes - len(digest) - 1].decode("utf-8", "ignore") + f"-{digest}"


def _nearest_folder(path: Path) -> Path:
    """Return the nearest thing above `path` that is there, which should be a folder."""
    return next(parent for parent in path.absolute().parents if os.path.lexists(parent))


def _name_limit(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows has no pathconf; some disks do not answer
        return USUAL_NAME_BYTES
