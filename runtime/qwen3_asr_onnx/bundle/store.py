"""The models of this machine, by name.

    HOME/models/NAME/       the bundle of each
    HOME/models.json        what was chosen: see `choices`

HOME is where the system keeps the data of a user's programs, or what QWEN3_ASR_HOME says.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from qwen3_asr_onnx.errors import BundleError

from .choices import Choices, Origin, home, read_choices, unwritable, update_choices
from .files import Bundle
from .json_text import parse_json, read_regular_text
from .leftovers import Place, clear_leftovers, workplace
from .locks import locked
from .manifest import MANIFEST_FILE, Manifest

__all__ = [
    "Entry",
    "Family",
    "claimed",
    "default_folder",
    "default_name",
    "entries",
    "find",
    "folder_of",
    "got_from",
    "got_variant",
    "is_bundle",
    "is_name",
    "located",
    "no_such_model",
    "record",
    "remove",
    "set_default",
]

Family: TypeAlias = Literal["asr", "aligner"]
"""What a model is for: `Manifest.kind`."""

FIRST: Mapping[Family, str] = {"asr": "Qwen/Qwen3-ASR-0.6B", "aligner": "Qwen/Qwen3-ForcedAligner-0.6B"}
"""What who has no model is told to get."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the store.

    Attributes:
        name: what it is called.
        path: its bundle.
        manifest: what it says of itself; None where that cannot be read.
        problem: why it cannot be used; "" for a sound one.
        size: bytes on the disk.
        is_default: whether it is the default of its family.
        origin: where it came from; None where that is not known.
    """

    name: str
    path: Path
    manifest: Manifest | None
    problem: str
    size: int
    is_default: bool
    origin: Origin | None


def is_name(text: str) -> bool:
    """Return whether a model can be called so: letters, digits, dots, dashes and underscores, as folders everywhere."""
    return _NAME.fullmatch(text) is not None


def is_bundle(folder: Path) -> bool:
    """Return whether a folder holds a bundle, be it a damaged one."""
    try:
        body = parse_json(read_regular_text(folder / MANIFEST_FILE), folder)
    except (BundleError, OSError, ValueError):
        return False
    return isinstance(body, dict) and "format" in body


def folder_of(name: str) -> Path:
    """Return where a model of this name lies, or would.

    Raises:
        BundleError: nothing can be called so.
    """
    if not is_name(name):
        raise BundleError(f"{name!r}: no name for a model; give letters, digits, dots, dashes and underscores")
    return _models() / name


def find(name: str) -> Path | None:
    """Return the bundle of a model by its name, None where there is none of that name."""
    if not is_name(name):
        return None
    path = _models() / name
    try:
        return path if path.is_dir() else None
    except OSError:  # who may not look into the store has no models
        return None


def no_such_model(name: str) -> str:
    """Return what to say of a name that no model has."""
    known = _names()
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"no such model; did you mean {close[0]}?"
    return f"no such model; here are {', '.join(known)}" if known else "no such model, and none at all is here yet"


def located(name_or_path: str | os.PathLike[str] | None, family: Family) -> Path:
    """Return the folder that is meant: a path if it exists, else a model by its name, or by the id that it came from.

    Args:
        name_or_path: the path or name; a `Path` is a path in any case, and None is the default.
        family: whose default.

    Raises:
        BundleError: the name of no model; or there is no default.
    """
    if name_or_path is None:
        return default_folder(family)
    if not isinstance(name_or_path, str) or os.path.exists(name_or_path):  # noqa: PTH110 - never raises, unlike Path
        return Path(name_or_path)
    found = find(name_or_path) or got_variant(name_or_path)
    if found is None and is_name(name_or_path):
        raise BundleError(f"{name_or_path}: does not exist, and {no_such_model(name_or_path)}")
    return found or Path(name_or_path)


def default_name(family: Family) -> str | None:
    """Return the name of a family's default: the one chosen, or the only one there is."""
    chosen = read_choices().defaults.get(family)
    if chosen is not None and find(chosen) is not None:
        return chosen
    names = _names_of(family)
    return names[0] if len(names) == 1 else None


def default_folder(family: Family) -> Path:
    """Return the bundle of a family's default.

    Raises:
        BundleError: there is no model of that family, or there are several and none was chosen.
    """
    name = default_name(family)
    if name is not None:
        return folder_of(name)
    names = _names_of(family)
    what, option = ("model", "-m") if family == "asr" else ("aligner", "--aligner (align: -m)")
    if names:
        raise BundleError(
            f"which {what}? {', '.join(names)} are here; name one with {option} or choose the default: "
            f"qwen3-asr-onnx models default {names[0]}"
        )
    raise BundleError(
        f"no {what} is here yet; get one: qwen3-asr-onnx get {FIRST[family]}, "
        f"or name the directory of a bundle with {option}"
    )


def entries() -> list[Entry]:
    """Return every model, sorted by name; broken ones too."""
    choices = read_choices()
    defaults = {default_name("asr"), default_name("aligner")}
    return [_entry(name, name in defaults, choices.origins.get(name)) for name in _names()]


def got_from(source: str, revision: str | None = None) -> list[str]:
    """Return the names of the models that came from a source, a default first.

    Args:
        source: as in `Origin`.
        revision: only those of this commit, or one that begins so.
    """
    choices = read_choices()
    names = [
        name
        for name, origin in sorted(choices.origins.items())
        if origin.source == source and origin.revision.startswith(revision or "") and find(name) is not None
    ]
    return sorted(names, key=lambda name: name not in choices.defaults.values())


def got_variant(source: str, variant: str | None = None, revision: str | None = None) -> Path | None:
    """Return the bundle of a model that came from a source and has this variant; None where there is none.

    Args:
        source: as in `Origin`.
        variant: what it must have; None for whatever it has.
        revision: as for `got_from`.
    """
    for name in got_from(source, revision):
        with contextlib.suppress(BundleError):
            path = folder_of(name)
            if variant is None or variant in Bundle.open(path).manifest.variants:
                return path
    return None


def set_default(name: str) -> Family:
    """Make a model the default of its family, and return the family.

    Raises:
        BundleError: there is no such model, or it is broken; or the store cannot be written.
    """
    family = Bundle.open(_require(name)).manifest.kind
    update_choices(lambda choices: choices.defaults.update({family: name}))
    return family


def record(name: str, origin: Origin) -> None:
    """Note where a model came from; the first of its family becomes the default.

    Raises:
        BundleError: it is not there or broken; or the store cannot be written.
    """
    family = Bundle.open(_require(name)).manifest.kind

    def note(choices: Choices) -> None:
        choices.origins[name] = origin
        chosen = choices.defaults.get(family)
        if chosen is None or find(chosen) is None:
            choices.defaults[family] = name

    update_choices(note)


def remove(name: str) -> int:
    """Remove a model, at once for every other process, and return how many bytes it held.

    Raises:
        BundleError: there is no such model; another process is making it; or the store cannot be written.
    """
    path = _require(name)
    if path.is_symlink():
        raise BundleError(f"{path}: is a link; remove the link, and what it leads to if nobody needs that")

    def forget(choices: Choices) -> None:
        choices.origins.pop(name, None)
        choices.defaults = {family: chosen for family, chosen in choices.defaults.items() if chosen != name}

    size = _size(path)
    with claimed(name):
        try:
            with workplace(path.parent, name) as place:
                path.rename(place.partial / name)  # what a killed process leaves there is cleared, not put back
        except OSError as error:
            raise unwritable(path, error) from error
    update_choices(forget)
    return size


@contextlib.contextmanager
def claimed(name: str) -> Iterator[Path]:
    """Yield the folder of a model that nobody else makes or removes meanwhile; what killed processes left is cleared.

    Raises:
        BundleError: another process is at it; or the store cannot be written.
    """
    path = folder_of(name)

    def rescue(place: Place) -> None:
        old = place.old / place.name
        if old.is_dir() and not (path.parent / place.name).exists():
            old.rename(path.parent / place.name)

    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_ours = stack.enter_context(locked(path.parent / f".{name}.lock"))
            if is_ours:
                clear_leftovers(path.parent, None, rescue)
        except OSError as error:
            raise unwritable(path.parent, error) from error
        if not is_ours:
            raise BundleError(f"{name}: another process is making or removing this model; wait for it, or end it")
        yield path


def _models() -> Path:
    return home() / "models"


def _names() -> list[str]:
    try:
        return sorted(path.name for path in _models().iterdir() if is_name(path.name) and path.is_dir())
    except OSError:
        return []


def _names_of(family: Family) -> list[str]:
    return [name for name in _names() if _kind(folder_of(name)) == family]


def _kind(folder: Path) -> str | None:
    try:
        return Bundle.open(folder).manifest.kind
    except BundleError:
        return None


def _require(name: str) -> Path:
    path = find(name)
    if path is None:
        raise BundleError(f"{name}: {no_such_model(name)}")
    return path


def _entry(name: str, is_default: bool, origin: Origin | None) -> Entry:
    path, manifest, problem = folder_of(name), None, ""
    try:
        manifest = Bundle.open(path).manifest
        for variant in manifest.variants:
            Bundle(path, manifest).variant(variant)
    except BundleError as error:
        problem = str(error)
    return Entry(name, path, manifest, problem, _size(path), is_default, origin)


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError:
        return 0
