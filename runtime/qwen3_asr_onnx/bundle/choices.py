"""The small file beside the models of the store: the default of each family, and where each model came from."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.audio.sources import at_home
from qwen3_asr_onnx.errors import BundleError

from .json_text import parse_json, read_regular_text
from .locks import locked

__all__ = ["Choices", "Origin", "home", "moved_home", "read_choices", "unwritable", "update_choices"]

HOME_VARIABLE = "QWEN3_ASR_HOME"

CHOICES_FILE = "models.json"

WAIT_S = 10.0
"""How long another process may take to write the small file before something is wrong with it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model came from.

    Attributes:
        source: what was given to `get`: "owner/name", "modelscope:owner/name", or a directory.
        revision: the commit, "" where there is none.
        recipe: what it was made by, "" where it was pulled as it is.
    """

    source: str
    revision: str = ""
    recipe: str = ""


@dataclass(slots=True)
class Choices:
    """What the file says.

    Attributes:
        defaults: family -> name of a model.
        origins: name of a model -> where it came from.
    """

    defaults: dict[str, str] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)


def home() -> Path:
    """Return the folder of the store, which need not exist."""
    moved = moved_home()
    if moved is not None:
        return moved
    import platformdirs

    return Path(platformdirs.user_data_dir("qwen3-asr-onnx", appauthor=False))


def moved_home() -> Path | None:
    """Return where the user wants everything that is kept between runs; None for where the system keeps such things."""
    given = os.environ.get(HOME_VARIABLE)
    return at_home(Path(given), given).absolute() if given else None


def read_choices() -> Choices:
    """Return what was chosen. Where that cannot be read nothing was: every model is still there, under its name."""
    path = home() / CHOICES_FILE
    try:
        body = parse_json(read_regular_text(path), path)
    except (BundleError, OSError):
        return Choices()
    return Choices(
        {family: name for family, name in _mapping(body, "defaults").items() if isinstance(name, str)},
        {name: _origin(fields) for name, fields in _mapping(body, "origins").items() if isinstance(fields, dict)},
    )


def update_choices(change: Callable[[Choices], object]) -> None:
    """Change the file as it is at this moment, whoever else changes it meanwhile.

    Raises:
        BundleError: it cannot be written.
    """
    path = home() / CHOICES_FILE
    partial = path.with_name(f".{CHOICES_FILE}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{CHOICES_FILE}.lock"), WAIT_S) as is_ours:
            if not is_ours:
                raise BundleError(f"{path}: another process has held it for {WAIT_S:g} s; end it, or try again")
            choices = read_choices()
            change(choices)
            try:
                partial.write_text(json.dumps(asdict(choices), indent=2, sort_keys=True) + "\n", encoding="utf-8")
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> BundleError:
    """Return the error to raise where the store cannot be written."""
    return BundleError(
        f"{path}: the model store cannot be written ({error.strerror or error}); "
        f"set {HOME_VARIABLE} to a folder that can"
    )


def _mapping(body: object, key: str) -> Mapping[str, Any]:
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, dict) else {}


def _origin(fields: Mapping[str, Any]) -> Origin:
    return Origin(*(str(fields.get(key) or "") for key in ("source", "revision", "recipe")))
