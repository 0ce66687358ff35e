"""Keys: from a file or the environment, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from qwen3_asr_onnx.errors import OptionsError

__all__ = ["VARIABLE", "is_known", "read_keys"]

VARIABLE = "QWEN3_ASR_API_KEY"


def read_keys(path: Path | None) -> tuple[str, ...]:
    """Return the keys: one a line of the file, or those of the environment, with commas between them.

    Raises:
        OptionsError: the file cannot be read, or holds no key.
    """
    if path is None:
        return tuple(filter(None, (key.strip() for key in os.environ.get(VARIABLE, "").split(","))))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"--api-key-file {path}: cannot be read: {error}") from error
    keys = tuple(key for line in lines if (key := line.strip()) and not key.startswith("#"))
    if not keys:
        raise OptionsError(f"--api-key-file {path}: there is no key in it; write one on a line")
    return keys


def is_known(authorization: str, keys: tuple[str, ...]) -> bool:
    """Return whether the header names one of the keys. It takes as long for a wrong key as for a right one."""
    scheme, _, given = authorization.partition(" ")
    digest = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).digest()
    matches = [hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in keys]
    return any(matches) and scheme.lower() == "bearer"
