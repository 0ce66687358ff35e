"""JSON of unknown origin -> plain values, or a `BundleError`: as small, as flat and as finite as ours is.

And measured values -> JSON that everybody can read.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from qwen3_asr_onnx.errors import BundleError

__all__ = ["MAX_JSON_BYTES", "measured_json", "parse_json", "read_regular_text", "require_regular"]

MAX_JSON_BYTES = 16 << 20
"""A manifest takes some kilobytes, the index of a large checkpoint some megabytes."""

MAX_DEPTH = 32
"""Deepest nesting. What is made of a manifest, `asdict` among it, recurses."""

AGAIN = "download it again, or export it anew"


def require_regular(path: Path) -> os.stat_result:
    """Return the status of a file that is, or links to, a regular one: nothing else can be read without surprises.

    Raises:
        BundleError: it is a directory, a pipe, a device or a socket.
        OSError: it is not there or cannot be looked at; FileNotFoundError for a link that leads nowhere.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
        kind = next((name for matches, name in kinds if matches(status.st_mode)), "a device")
        raise BundleError(f"{path}: is {kind} where a file is expected; {AGAIN}")
    return status


def read_regular_text(path: Path, max_bytes: int = MAX_JSON_BYTES) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        BundleError: it is no regular file, larger than `max_bytes`, not UTF-8, or cannot be read.
        FileNotFoundError: it is not there.
    """
    try:
        size = require_regular(path).st_size
        if size > max_bytes:
            raise BundleError(
                f"{path}: {size / 1e6:,.1f} MB; what belongs here has at most {max_bytes / 1e6:,.1f} MB; {AGAIN}"
            )
        with path.open(encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error


def parse_json(text: str, where: Path) -> Any:
    """Return what a JSON text holds.

    Raises:
        BundleError: not JSON; a key twice in one object; a number that is not finite; nested too deeply.
    """
    try:
        body = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise BundleError(f"{where}: nested more than {MAX_DEPTH} levels deep; {AGAIN}") from error
    except ValueError as error:
        raise BundleError(f"{where}: not valid JSON ({_short(str(error))}); {AGAIN}") from error
    _refuse_depth(body, where)
    return body


def measured_json(value: object, indent: int | None = None) -> str:
    """Return JSON of measured values. JSON knows no NaN and no infinity: what could not be measured is null."""
    return json.dumps(_null_unless_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _null_unless_finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _null_unless_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_null_unless_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_short(text)} is too large a number")
    return value


def _refuse_depth(body: object, where: Path) -> None:
    level: list[Any] = [[body]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise BundleError(f"{where}: nested more than {MAX_DEPTH} levels deep; {AGAIN}")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}..."
