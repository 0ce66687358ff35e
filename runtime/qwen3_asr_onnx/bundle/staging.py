"""New files of a bundle, made aside and put in place together: the manifest last, everything or nothing.

The work happens in a hidden directory inside the bundle, so that every move is a rename on one disk. Whatever ends the
block early, an error or Ctrl-C, removes that directory and leaves the bundle as it was. A process that is killed
outright leaves the hidden directory behind, and if it died while files were moved, a bundle that does not fit its
manifest: `recover_bundle` puts that right, and every run begins with it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .files import Bundle
from .leftovers import clear_leftovers, workplace
from .manifest import MANIFEST_FILE, Manifest
from .writing import explained_full_disk

__all__ = ["publish", "recover_bundle", "staging_directory"]

ASIDE = "replaced"
"""Inside the hidden directory: the files that were replaced, and the manifest when it is."""


@contextlib.contextmanager
def staging_directory(bundle: Path, label: str) -> Iterator[Path]:
    """Yield an empty directory inside the bundle that is gone when the block ends.

    Raises:
        LimitError: the disk is full.
    """
    with workplace(bundle, label) as place, explained_full_disk(bundle):
        yield place.partial


def recover_bundle(bundle: Path) -> None:
    """Undo, or finish, what killed processes were doing in a bundle, and clear away what they left.

    Raises:
        BundleError: a manifest that is needed for that cannot be read.
        OSError: a file cannot be moved back.
    """
    clear_leftovers(bundle, None, lambda place: _recover(bundle, place.partial))


def _recover(bundle: Path, staged: Path) -> None:
    aside = staged / ASIDE
    if not aside.is_dir():
        return  # nothing was moved yet
    if not (staged / MANIFEST_FILE).exists():  # it has become the bundle's: only the cleaning up is left
        if (aside / MANIFEST_FILE).exists():
            _remove_unnamed(bundle, _manifest(aside), _manifest(bundle))
        return
    replaced = {path.name for path in aside.iterdir()} - {MANIFEST_FILE}
    for name in sorted(replaced):
        (aside / name).replace(bundle / name)
    for name in _manifest(staged).files.keys() - _manifest(bundle).files.keys() - replaced:
        (bundle / name).unlink(missing_ok=True)


def _manifest(folder: Path) -> Manifest:
    return Bundle.open(folder).manifest


def _remove_unnamed(bundle: Path, old: Manifest, new: Manifest) -> None:
    """Remove the files that no variant names any more."""
    for name in _named(old) - _named(new):
        (bundle / name).unlink(missing_ok=True)


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
    new.save(staged)
    aside = staged / ASIDE
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
    _remove_unnamed(bundle, old, new)
    return Bundle(bundle, new)


def _move_if_there(source: Path, target: Path) -> None:
    if source.exists():
        source.replace(target)


def _named(manifest: Manifest) -> set[str]:
    return {name for variant in manifest.variants.values() for name in variant.files}
