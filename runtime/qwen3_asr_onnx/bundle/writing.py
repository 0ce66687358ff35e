"""Directories and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from qwen3_asr_onnx.errors import BundleError

__all__ = ["atomic_directory"]


@contextlib.contextmanager
def atomic_directory(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling directory that becomes `target` when the block ends without an error.

    On any error or Ctrl-C the temporary directory is removed and `target` is as it was before.

    Raises:
        BundleError: `target` exists and `overwrite` is false, or is not a directory.
    """
    if target.exists() and not target.is_dir():
        raise BundleError(f"{target} is a file; give a directory name for the bundle")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise BundleError(f"{target} exists and is not empty; remove it, choose another name, or pass --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        # mkdtemp makes a private directory; the bundle gets the permissions a plain mkdir would give.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o777 & ~umask)
        yield partial
        _replace_directory(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace_directory(partial: Path, target: Path) -> None:
    """Put `partial` where `target` is. A full directory cannot be renamed over, so the old one steps aside first."""
    if not target.exists():
        partial.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
    old = aside / target.name
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
