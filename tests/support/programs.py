"""Programs a machine may lack: the one place that knows them, looks for them, and can act as if they were not there.

A test that needs one is marked `@pytest.mark.program("ffmpeg")`; a test whose fixture speaks gets the marker through
the fixture `voices`. Without the program the test is skipped, and the reason says what to install.

`.ci/run` runs the whole suite with all of them out of reach, then the marked tests with them. Out of reach means that
their files are covered (`python -m tests.support.programs` prints the files, `.ci/without-programs` covers them), or,
where no mount is allowed, that `QWEN3_ASR_TESTS_WITHOUT_PROGRAMS` is set: it is read here and nowhere else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["PROGRAMS", "Program", "find", "installed_files", "why_missing"]

HIDDEN = "QWEN3_ASR_TESTS_WITHOUT_PROGRAMS"


@dataclass(frozen=True, slots=True)
class Program:
    """What to look for, and what brings it.

    Attributes:
        executables: names on the PATH, the first found is used.
        libraries: shared libraries, all needed.
        folders: data, all needed.
        install: what to type on Debian.
    """

    install: str
    executables: Sequence[str] = ()
    libraries: Sequence[str] = ()
    folders: Sequence[str] = ()


PROGRAMS = {
    "ffmpeg": Program("apt-get install ffmpeg", ("ffmpeg",)),
    "voices": Program(
        "apt-get install libespeak-ng1 espeak-ng-data libflite1",
        libraries=("libespeak-ng.so.1", "libflite.so.1"),
        folders=("espeak-ng-data",),
    ),
    "chromium": Program("apt-get install chromium", ("chromium", "chromium-browser", "google-chrome")),
    "qemu": Program("apt-get install qemu-user", ("qemu-x86_64",)),
    "strace": Program("apt-get install strace", ("strace",)),
    "curl": Program("apt-get install curl", ("curl",)),
    "node": Program("apt-get install nodejs", ("node",)),
    "npm": Program("apt-get install nodejs npm", ("npm",)),
    "xvfb": Program("apt-get install xvfb", ("Xvfb",)),
    "docker": Program("https://docs.docker.com/engine/install", ("docker",)),
}


def find(name: str) -> str | None:
    """Return the path of a program's executable, or None where it is missing."""
    if os.environ.get(HIDDEN):
        return None
    return next((found for program in PROGRAMS[name].executables if (found := shutil.which(program))), None)


@cache
def why_missing(name: str) -> str | None:
    """Return why a test that needs the program is skipped; None where the program is there."""
    program = PROGRAMS[name]
    is_there = not os.environ.get(HIDDEN) and (
        (not program.executables or find(name) is not None)
        and _load(program.libraries)
        and all(_data_folders(folder) for folder in program.folders)
    )
    return None if is_there else f"needs {name}: {program.install}"


def installed_files() -> list[Path]:
    """Return every file and folder of this machine that is one of the programs, links resolved."""
    found: set[Path] = set()
    for program in PROGRAMS.values():
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            found.update(Path(folder, executable) for executable in program.executables)
        for path, name in _known_libraries():
            if any(name.startswith(library) for library in program.libraries):
                found.add(path)
        for folder in program.folders:
            found.update(_data_folders(folder))
    return sorted({path.resolve() for path in found if path.exists()})


def _load(libraries: Sequence[str]) -> bool:
    """Return whether the libraries load: in a process of its own, for the voices are only reset by being unloaded."""
    code = "import ctypes, sys; [ctypes.CDLL(name) for name in sys.argv[1:]]"
    if not libraries:
        return True
    done = subprocess.run([sys.executable, "-c", code, *libraries], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def _data_folders(name: str) -> list[Path]:
    """Return the folders of this name where Debian puts data; an empty one is as good as none."""
    places = [*Path("/usr/lib").glob(f"*/{name}"), Path("/usr/share") / name]
    return [place for place in places if place.is_dir() and any(place.iterdir())]


def _known_libraries() -> list[tuple[Path, str]]:
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    if not Path(ldconfig).exists():
        return []
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    paths = [Path(line.rpartition("=> ")[2].strip()) for line in listing.splitlines() if "=> " in line]
    return [(path, path.name) for path in paths]


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in installed_files())
