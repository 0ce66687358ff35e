"""Places to work in that the next run clears away if this one is killed, and never while it lives.

A place is a hidden directory beside, or inside, what is being made: `.NAME.partial-TOKEN`. Before it there is
`.NAME.partial-TOKEN.lock`, on which its process holds a lock that the system drops when the process ends, however it
does. What a dead process has moved out of the way lies in `.NAME.old-TOKEN`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .locks import take_lock

__all__ = ["Place", "clear_leftovers", "workplace"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process works.

    Attributes:
        folder: what the place lies in.
        name: what is being made there.
        token: tells places of the same name apart.
    """

    folder: Path
    name: str
    token: str

    @property
    def partial(self) -> Path:
        """The directory to work in."""
        return self.folder / f".{self.name}.partial-{self.token}"

    @property
    def old(self) -> Path:
        """The directory for what steps aside."""
        return self.folder / f".{self.name}.old-{self.token}"

    @property
    def lock(self) -> Path:
        """The file whose lock says that the process lives."""
        return self.folder / f".{self.name}.partial-{self.token}.lock"

    def clear(self) -> None:
        """Remove both directories and all that is in them, as far as possible."""
        for path in (self.partial, self.old):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def workplace(folder: Path, name: str) -> Iterator[Place]:
    """Yield a place whose `partial` is an empty directory, with the permissions of any new one; cleared at the end.

    Raises:
        OSError: nothing can be written in `folder`.
    """
    place, descriptor = _claimed(folder, name)
    try:
        place.partial.mkdir()
        yield place
    finally:
        place.clear()
        _release(place, descriptor)


def clear_leftovers(folder: Path, name: str | None, rescue: Callable[[Place], object]) -> None:
    """Clear every place in a folder whose process is dead.

    Args:
        folder: where to look; it need not exist.
        name: of which places; None for all.
        rescue: called with each before it is cleared, to put back what was moved out of the way.

    Raises:
        OSError: what `rescue` needs cannot be moved.
    """
    for place in _places(folder, name):
        try:
            descriptor: int | None = os.open(place.lock, os.O_RDWR)
        except FileNotFoundError:  # an earlier version made it, or its process is just removing it
            descriptor = None
        except OSError:
            continue
        try:
            if descriptor is not None:
                take_lock(descriptor)
        except OSError:  # alive, or nobody can tell
            assert descriptor is not None
            os.close(descriptor)
            continue
        try:
            rescue(place)
            place.clear()
        finally:
            _release(place, descriptor)


def _places(folder: Path, name: str | None) -> list[Place]:
    """Return every place in a folder, dead or alive."""
    pattern = re.compile(
        rf"\.({'.+' if name is None else re.escape(name)})\.(?:partial|old)-([0-9a-z_]{{8}})(?:\.lock)?"
    )
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    matches = (pattern.fullmatch(entry) for entry in names)
    return [Place(folder, *pair) for pair in dict.fromkeys((match[1], match[2]) for match in matches if match)]


def _claimed(folder: Path, name: str) -> tuple[Place, int]:
    """Return a place with its lock taken, and the open file that holds the lock."""
    while True:
        place = Place(folder, name, secrets.token_hex(4))
        descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: others will take the place for alive
                take_lock(descriptor)
            # Somebody who clears up may have found the file before it was locked, and removed it.
            if os.path.samestat(os.fstat(descriptor), place.lock.stat()):
                return place, descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            _release(place, descriptor)
            raise
        os.close(descriptor)


def _release(place: Place, descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)  # first: Windows does not remove open files
    with contextlib.suppress(OSError):
        place.lock.unlink(missing_ok=True)
