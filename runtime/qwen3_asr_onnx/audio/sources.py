"""Whatever the caller calls audio in, a seekable binary file at its start out, with a name for messages."""

from __future__ import annotations

import difflib
import io
import os
import stat
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy.typing as npt

from qwen3_asr_onnx.errors import AudioError, LimitError

from .downloads import decode_data_url, download, is_url, spool, url_label
from .waiting import can_be_abandoned

__all__ = ["AudioFile", "AudioLimits", "AudioSource", "at_home", "open_source"]

AudioFile: TypeAlias = str | Path | bytes | bytearray | memoryview | BinaryIO
"""What can be opened as a file: a path, "-" for standard input, an http(s) or data: URL, the content of a file as
bytes, or a binary file object."""

AudioSource: TypeAlias = AudioFile | npt.NDArray[Any] | tuple[npt.NDArray[Any], int]
"""What `load_audio` reads: a path, "-" for standard input, an http(s) or data: URL, the content of a file as bytes, a
binary file object, a (samples, sample_rate) pair, or samples at 16 kHz."""


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What audio to accept. A limit that is exceeded raises `LimitError`; none cuts anything off.

    A service that hands on what strangers send gives `AudioLimits(allow_url=False, allow_path=False)`: then no string
    makes it fetch or open anything, and only the audio itself is taken.

    Attributes:
        max_duration_s: longest audio; 24 hours are 5.5 GB in memory at 16 kHz, where it is held whole.
        max_bytes: most bytes from a URL, a data: URL, standard input or an unseekable stream; 4 GiB is the most a WAV
            file holds.
        fetch_timeout_s: most seconds for the whole of one download.
        decode_timeout_s: most seconds to wait for ffmpeg on one file; it decodes a day of audio in about ten minutes.
            The time it spends waiting for its reader does not count.
        allow_url: whether a string may be the URL of something to fetch; `AudioError` where not. data: URLs hold their
            content and are taken always.
        allow_path: whether a string may name a file or, as "-", standard input; `AudioError` where not. A `Path` or an
            open file is the caller's own, and is taken always.
    """

    max_duration_s: float = 24 * 3600.0
    max_bytes: int = 4 << 30
    fetch_timeout_s: float = 600.0
    decode_timeout_s: float = 1800.0
    allow_url: bool = True
    allow_path: bool = True


def open_source(source: AudioFile, limits: AudioLimits, stack: ExitStack) -> tuple[BinaryIO, str, Path | None]:
    """Return a seekable file at its start, what to call it in errors, and its path if it has one.

    Args:
        source: what to open.
        limits: what to accept.
        stack: closes what was opened here; files of the caller stay open.

    Raises:
        AudioError: missing, unreadable, not a kind of file, or a string that the limits refuse.
        LimitError: more bytes or seconds than the limits allow.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), f"audio of {len(source)} bytes", None
    if isinstance(source, str):
        return _open_text(source, limits, stack)
    if isinstance(source, Path):
        return _open_path(source, str(source), limits, stack)
    if not hasattr(source, "read"):
        raise AudioError(
            f"{type(source).__name__} is not audio: give a path, bytes, a binary file, "
            "a numpy array, or (array, sample_rate)"
        )
    name = str(getattr(source, "name", "audio stream"))
    # libsndfile counts positions from the start of the file, so a stream that is already partly read is copied.
    if hasattr(source, "seekable") and source.seekable() and source.tell() == 0 and isinstance(source.read(0), bytes):
        return source, name, None
    return stack.enter_context(spool(source, name, limits.max_bytes)), name, None


def _open_text(text: str, limits: AudioLimits, stack: ExitStack) -> tuple[BinaryIO, str, Path | None]:
    """Open what a string means: a data: URL, a URL, standard input, or the name of a file."""
    if text[:5].lower() == "data:":
        return io.BytesIO(decode_data_url(text, limits.max_bytes)), "data: URL", None
    if is_url(text):
        label = url_label(text)
        if not limits.allow_url:
            raise AudioError(f"{label}: URLs are not accepted here; send the audio itself")
        return stack.enter_context(download(text, limits.max_bytes, limits.fetch_timeout_s)), label, None
    if not limits.allow_path:
        raise AudioError("names of files are not accepted here; send the audio itself")
    if text == "-":
        name = "standard input"
        return stack.enter_context(spool(sys.stdin.buffer, name, limits.max_bytes)), name, None
    return _open_path(Path(text), text, limits, stack)


def _open_path(path: Path, text: str, limits: AudioLimits, stack: ExitStack) -> tuple[BinaryIO, str, Path | None]:
    """Open a file, or copy what comes through a pipe; `text` is how the caller spelled the path."""
    path = at_home(path, text)
    try:
        if _is_device(path):
            raise AudioError(f"{text}: this is a device, not a file; name a file, or - for standard input")
        with can_be_abandoned():  # a named pipe is open when somebody opens its other end
            file = stack.enter_context(path.open("rb"))
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file, text, path
        return stack.enter_context(spool(file, text, limits.max_bytes)), text, None
    except FileNotFoundError as error:
        if path.is_symlink():
            raise AudioError(f"{text}: a link to {path.readlink()}, which does not exist") from error
        raise AudioError(f"{text}: no such file{_similar_names(path)}") from error
    except IsADirectoryError as error:
        raise AudioError(f"{text}: this is a folder; name the audio files in it") from error
    except PermissionError as error:
        # Windows refuses to open a folder in these words.
        if path.is_dir():
            raise AudioError(f"{text}: this is a folder; name the audio files in it") from error
        raise AudioError(f"{text}: no permission to read it; change its permissions or copy it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if isinstance(error, (AudioError, LimitError)):
            raise
        raise AudioError(f"{text}: cannot be opened: {error}") from error


def _is_device(path: Path) -> bool:
    """Return whether reading would wait for a person, or never end; a terminal, /dev/zero and disks are devices."""
    mode = path.stat().st_mode
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def at_home(path: Path, text: str) -> Path:
    """Return the path with a leading ~ expanded, unless a file of just this name exists."""
    if not text.startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # there is no such user, or no home
        return path


def _similar_names(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"; the folder {path.parent} cannot be read either"
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f" in {path.parent}"
