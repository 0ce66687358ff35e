"""Every error this package raises on purpose.

    Qwen3AsrError
    |-- BundleError    (ValueError)    a bundle or checkpoint is missing, damaged, or not what was asked for
    |-- AudioError     (ValueError)    the audio cannot be read, or makes no sense as audio
    |-- OptionsError   (ValueError)    an option has a value we do not accept
    |-- MissingExtra   (ImportError)   an optional package is needed; the message is the pip line to type
    |-- ProviderError  (RuntimeError)  the device or execution provider asked for is not to be had
    |-- LimitError     (ValueError)    a stated limit (size, time, positions) would be exceeded
    |   `-- BusyError                  too much is waiting already; it says when to ask again
    `-- StreamError    (RuntimeError)  a live stream is used after its end, or by two threads at once

Each is also the builtin a caller would expect. A message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

__all__ = [
    "AudioError",
    "BundleError",
    "BusyError",
    "LimitError",
    "MissingExtra",
    "OptionsError",
    "ProviderError",
    "Qwen3AsrError",
    "StreamError",
    "import_errors_named",
]


class Qwen3AsrError(Exception):
    """Root of the tree: catch this to catch everything this package raises on purpose."""


class BundleError(Qwen3AsrError, ValueError):
    """A bundle or checkpoint is missing, damaged, or not what was asked for."""


class AudioError(Qwen3AsrError, ValueError):
    """The audio cannot be read, or makes no sense as audio."""


class OptionsError(Qwen3AsrError, ValueError):
    """An option has a value that is not accepted."""


class MissingExtra(Qwen3AsrError, ImportError):  # noqa: N818 - the name is part of the public API
    """An optional package is needed; the message holds the pip line that installs it."""


class ProviderError(Qwen3AsrError, RuntimeError):
    """The device or execution provider asked for is not available."""


class LimitError(Qwen3AsrError, ValueError):
    """A stated limit (bytes, seconds, positions) would be exceeded."""


class BusyError(LimitError):
    """More audio is waiting for the model than may; ask again later.

    Attributes:
        retry_after_s: seconds until there is probably room, at the speed measured so far.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[BusyError], tuple[str, float]]:
        """Return what pickle makes it of: errors travel between processes."""
        return type(self), (str(self), self.retry_after_s)


class StreamError(Qwen3AsrError, RuntimeError):
    """A live stream is used after its end, or by two threads at once."""


@contextlib.contextmanager
def import_errors_named(what: str, fix: str) -> Iterator[None]:
    """Turn a failed import of somebody else's package into the pip line that installs it.

    A failed import of our own package is a bug and keeps its traceback.

    Args:
        what: what cannot be done without the package.
        fix: what to do about it.

    Raises:
        MissingExtra: a package is missing or broken.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ImportError as error:
        if (error.name or "").startswith("qwen3_asr_onnx"):
            raise
        raise MissingExtra(f"{what} needs more packages ({error}): {fix}") from error
