"""An object of a manifest or of a checkpoint's config, read field by field, each checked for its type and range."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import BundleError

__all__ = ["Section"]

REMEDY = "export or download the bundle again"

MAX_SHOWN = 60
MAX_ENTRIES = 10_000
MAX_NAME_BYTES = 255
_REQUIRED: Any = object()

_PLAIN_NAME = re.compile(r"(?!\.\.?$)[^/\\:*?\"<>|\x00-\x1f\x7f\ud800-\udfff]+")
"""On every file system."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Section:
    """One object of a JSON document, and its name there for errors."""

    def __init__(self, body: object, where: Path, name: str = "", remedy: str = REMEDY) -> None:
        """Look at an object.

        Args:
            body: what may be one.
            where: the file.
            name: its dotted path in the file; "" for all of it.
            remedy: what to do about errors.

        Raises:
            BundleError: it is none.
        """
        self._where = where
        self._name = name
        self._remedy = remedy
        if not isinstance(body, dict):
            raise self._error(name, body, "an object")
        self._body: dict[str, Any] = body

    def has(self, field: str) -> bool:
        """Return whether a field is there and not null."""
        return self._body.get(field) is not None

    def keys(self) -> Iterator[str]:
        """Return the names of all fields."""
        return iter(self._body)

    def only(self, known: Sequence[str]) -> None:
        """Check that no other fields are there.

        Raises:
            BundleError: one is.
        """
        for field in self._body:
            if field not in known:
                raise BundleError(
                    f"{self._where}: unknown field {self._path(_shown(field))}; upgrade qwen3-asr-onnx, or "
                    f"{self._remedy}"
                )

    def integer(self, field: str, low: int, high: int, default: int = _REQUIRED) -> int:
        """Return a whole number within [low, high].

        Raises:
            BundleError: it is missing, something else, or out of range; so below.
        """
        value = self._get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            allowed = f"{low} alone" if low == high else f"a whole number from {low} to {high}"
            raise self._error(self._path(field), value, allowed)
        return value

    def number(self, field: str, low: float, high: float, default: float = _REQUIRED) -> float:
        """Return a number within [low, high]."""
        value = self._get(field, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self._error(self._path(field), value, f"a number from {low:g} to {high:g}")
        return float(value)

    def integers(self, field: str, low: int, high: int, most: int) -> tuple[int, ...]:
        """Return a list of 1 to `most` different whole numbers within [low, high]."""
        value = self._get(field)
        is_fine = isinstance(value, list) and 1 <= len(value) <= most
        if not is_fine or any(isinstance(one, bool) or not isinstance(one, int) for one in value):
            raise self._error(self._path(field), value, f"a list of 1 to {most} whole numbers")
        if not all(low <= one <= high for one in value) or len(set(value)) != len(value):
            raise self._error(self._path(field), value, f"different whole numbers from {low} to {high}")
        return tuple(value)

    def id_or_ids(self, field: str, last: int, most: int) -> tuple[int, ...]:
        """Return a token id, or 1 to `most` of them, each once, none above `last`."""
        value = self._get(field)
        ids = value if isinstance(value, list) else [value]
        if not 1 <= len(ids) <= most or any(isinstance(one, bool) or not isinstance(one, int) for one in ids):
            raise self._error(self._path(field), value, f"a token id or a list of 1 to {most} of them")
        if not all(0 <= one <= last for one in ids):
            raise self._error(self._path(field), value, f"a token id from 0 to {last}, or a list of them")
        return tuple(dict.fromkeys(ids))

    def fact(self, field: str, known: object) -> None:
        """Check that a field, if it is there, has the only value that is known here."""
        value = self._body.get(field, known)
        if value is not None and (value != known or isinstance(value, bool) != isinstance(known, bool)):
            raise BundleError(
                f"{self._where}: {self._path(field)} is {_shown(value)}; this version knows {known!r} only"
            )

    def text(self, field: str, longest: int, default: str = _REQUIRED, *, lines: bool = False) -> str:
        """Return a string of at most `longest` characters, without control characters unless it may have `lines`."""
        value = self._get(field, default)
        return self._checked_text(self._path(field), value, longest, lines=lines)

    def texts(self, field: str, longest: int, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """Return a list of strings, each not empty and of at most `longest` characters."""
        if field not in self._body and default is not _REQUIRED:
            return default
        value = self._get(field)
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise self._error(self._path(field), value, f"a list of at most {MAX_ENTRIES} strings")
        return tuple(self._checked_text(f"{self._path(field)}[{i}]", one, longest) for i, one in enumerate(value))

    def choice(self, field: str, known: Sequence[str], default: str = _REQUIRED) -> str:
        """Return one of a few strings."""
        value = self._get(field, default)
        if not isinstance(value, str) or value not in known:
            raise BundleError(
                f"{self._where}: {self._path(field)} is {_shown(value)}, this version knows "
                f"{' and '.join(map(repr, known))}; upgrade qwen3-asr-onnx, or {self._remedy}"
            )
        return value

    def file_name(self, field: str, default: str = _REQUIRED) -> str:
        """Return a plain file name: a manifest must not reach outside its own directory."""
        return self.plain_name(self._path(field), self._get(field, default))

    def file_names(self, field: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """Return a list of plain file names."""
        if field not in self._body and default is not _REQUIRED:
            return default
        value = self._get(field)
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise self._error(self._path(field), value, f"a list of at most {MAX_ENTRIES} file names")
        return tuple(self.plain_name(f"{self._path(field)}[{i}]", one) for i, one in enumerate(value))

    def plain_name(self, path: str, value: object) -> str:
        """Return `value`, which stands at `path`, if it can name a file in the bundle's own folder and nothing else."""
        if not isinstance(value, str) or not _PLAIN_NAME.fullmatch(value) or len(value.encode()) > MAX_NAME_BYTES:
            raise BundleError(f"{self._where}: {path}: {_shown(value)} is not a plain file name; {self._remedy}")
        return value

    def refuse(self, field: str, allowed: str) -> BundleError:
        """Return the error for a field that its neighbours forbid."""
        return self._error(self._path(field), self._body[field], allowed)

    def flag(self, field: str, default: bool = _REQUIRED) -> bool:
        """Return true or false."""
        value = self._get(field, default)
        if not isinstance(value, bool):
            raise self._error(self._path(field), value, "true or false")
        return value

    def pattern(self, field: str, pattern: str, allowed: str) -> str:
        """Return a string that a regular expression matches whole."""
        value = self._get(field)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self._error(self._path(field), value, allowed)
        return value

    def mapping(self, field: str, default: Mapping[str, Any] = _REQUIRED) -> Mapping[str, Any]:
        """Return an object whose fields are nobody's business."""
        value = self._get(field, default)
        if not isinstance(value, dict):
            raise self._error(self._path(field), value, "an object")
        return value

    def section(self, field: str, default: Mapping[str, Any] = _REQUIRED) -> Section:
        """Return an object, to be read in turn."""
        return Section(self._get(field, default), self._where, self._path(field), self._remedy)

    def _get(self, field: str, default: Any = _REQUIRED) -> Any:
        if field in self._body:
            return self._body[field]
        if default is _REQUIRED:
            raise BundleError(f"{self._where}: no field {self._path(field)}; {self._remedy}")
        return default

    def _checked_text(self, path: str, value: object, longest: int, *, lines: bool = False) -> str:
        if not isinstance(value, str) or len(value) > longest or not (lines or value):
            raise self._error(path, value, f"a string of 1 to {longest} characters")
        if _UNPRINTABLE.search(value.replace("\n", "") if lines else value):
            raise self._error(path, value, "a string without control characters")
        return value

    def _path(self, field: str) -> str:
        return f"{self._name}.{field}" if self._name else field

    def _error(self, path: str, value: object, allowed: str) -> BundleError:
        return BundleError(f"{self._where}: {path} is {_shown(value)}, not {allowed}; {self._remedy}")


def _shown(value: object) -> str:
    """Return a value for an error message, in a few characters however large it is."""
    if isinstance(value, int) and not -(10**30) < value < 10**30:
        return "a whole number of more than 30 digits"
    if isinstance(value, (list, dict)) and len(value) > 10:
        return f"a{' list' if isinstance(value, list) else 'n object'} of {len(value)} entries"
    text = repr(value if not isinstance(value, str) else value[: MAX_SHOWN + 1])
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
