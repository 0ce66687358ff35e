"""New files of a bundle, made aside and put in place together: the manifest last, everything or nothing.

The work happens in a hidden directory inside the bundle, so that every move is a rename on one disk. Whatever ends the
block early, an error or Ctrl-C, removes that directory and leaves the bundle as it was. A process that is killed
outright leaves the hidden directory behind, and the bundle as it was unless it died between the renames of a
replacement: then `info` names the files that do not fit the manifest.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .files import Bundle
from .manifest import MANIFEST_FILE, Manifest

__all__ = ["publish", "staging_directory"]


@contextlib.contextmanager
def staging_directory(bundle: Path, label: str) -> Iterator[Path]:
    """Yield an empty directory inside the bundle that is gone when the block ends."""
    staged = Path(tempfile.mkdtemp(prefix=f".{label}.partial-", dir=bundle))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def publish(bundle: Path, staged: Path, change: Callable[[Manifest], Manifest]) -> Bundle:
    """Move every staged file into the bundle, then replace its manifest.

    Files that no variant of the new manifest names any more, but one of the old did, are deleted at the end.

    Args:
        bundle: the bundle's directory.
        staged: a directory on the same disk that holds the new files and nothing else.
        change: the manifest as it is at this moment -> as it shall be.

    Raises:
        OSError: a file cannot be moved; those moved before are moved back.
    """
    # Read again: another variant may have been added since the work began.
    old = Bundle.open(bundle).manifest
    new = change(old)
    files = sorted(path.name for path in staged.iterdir())
    (staged / MANIFEST_FILE).write_text(new.to_json(), encoding="utf-8")
    aside = staged / "replaced"
    aside.mkdir()
    with contextlib.ExitStack() as undo:
        for name in files:
            # Noted before it is done: Ctrl-C may come between any two lines.
            undo.callback(_move_if_there, aside / name, bundle / name)
            _move_if_there(bundle / name, aside / name)
            undo.callback(_move_if_there, bundle / name, staged / name)
            (staged / name).rename(bundle / name)
        shutil.copyfile(bundle / MANIFEST_FILE, aside / MANIFEST_FILE)
        undo.callback(_move_if_there, aside / MANIFEST_FILE, bundle / MANIFEST_FILE)
        (staged / MANIFEST_FILE).replace(bundle / MANIFEST_FILE)
        undo.pop_all()
    for name in _named(old) - _named(new):
        (bundle / name).unlink(missing_ok=True)
    return Bundle(bundle, new)


def _move_if_there(source: Path, target: Path) -> None:
    if source.exists():
        source.replace(target)


def _named(manifest: Manifest) -> set[str]:
    return {name for variant in manifest.variants.values() for name in variant.files}
