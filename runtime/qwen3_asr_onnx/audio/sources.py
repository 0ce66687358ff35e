"""Whatever the caller calls audio in, a seekable binary file at its start out, with a name for messages."""

from __future__ import annotations

import difflib
import io
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy.typing as npt

from qwen3_asr_onnx.errors import AudioError

from .downloads import decode_data_url, download, is_url, spool, url_label

__all__ = ["AudioFile", "AudioLimits", "AudioSource", "open_source"]

AudioFile: TypeAlias = str | Path | bytes | bytearray | memoryview | BinaryIO
"""What can be opened as a file: a path, "-" for standard input, an http(s) or data: URL, the content of a file as
bytes, or a binary file object."""

AudioSource: TypeAlias = AudioFile | npt.NDArray[Any] | tuple[npt.NDArray[Any], int]
"""What `load_audio` reads: a path, "-" for standard input, an http(s) or data: URL, the content of a file as bytes, a
binary file object, a (samples, sample_rate) pair, or samples at 16 kHz."""


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """How much audio to accept. Every limit raises `LimitError` when it is exceeded; none cuts anything off.

    Attributes:
        max_duration_s: longest audio; 24 hours are 5.5 GB in memory at 16 kHz, where it is held whole.
        max_bytes: most bytes from a URL, a data: URL, standard input or an unseekable stream; 4 GiB is the most a WAV
            file holds.
        fetch_timeout_s: most seconds for the whole of one download.
        decode_timeout_s: most seconds to wait for ffmpeg on one file; it decodes a day of audio in about ten minutes.
            The time it spends waiting for its reader does not count.
    """

    max_duration_s: float = 24 * 3600.0
    max_bytes: int = 4 << 30
    fetch_timeout_s: float = 600.0
    decode_timeout_s: float = 1800.0


def open_source(
    source: AudioFile,
    limits: AudioLimits,
    stack: ExitStack,
    allow_url: bool,
) -> tuple[BinaryIO, str, Path | None]:
    """Return a seekable file at its start, what to call it in errors, and its path if it has one.

    Args:
        source: what to open.
        limits: how much to fetch or copy.
        stack: closes what was opened here; files of the caller stay open.
        allow_url: whether http(s) URLs are fetched.

    Raises:
        AudioError: missing, unreadable, or not a kind of file.
        LimitError: more bytes or seconds than the limits allow.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), f"audio of {len(source)} bytes", None
    if isinstance(source, str):
        if source == "-":
            name = "standard input"
            return stack.enter_context(spool(sys.stdin.buffer, name, limits.max_bytes)), name, None
        if source[:5].lower() == "data:":
            return io.BytesIO(decode_data_url(source, limits.max_bytes)), "data: URL", None
        if is_url(source):
            if not allow_url:
                raise AudioError(f"{url_label(source)}: URLs are not accepted here; send the audio itself")
            file = stack.enter_context(download(source, limits.max_bytes, limits.fetch_timeout_s))
            return file, url_label(source), None
        source = Path(source)
    if isinstance(source, Path):
        return stack.enter_context(_open_path(source)), str(source), source
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


def _open_path(path: Path) -> BinaryIO:
    try:
        return path.expanduser().open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file{_similar_names(path.expanduser())}") from error
    except IsADirectoryError as error:
        raise AudioError(f"{path}: this is a folder; name the audio files in it") from error
    except PermissionError as error:
        # Windows refuses to open a folder in these words.
        if path.is_dir():
            raise AudioError(f"{path}: this is a folder; name the audio files in it") from error
        raise AudioError(f"{path}: no permission to read it; change its permissions or copy it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise AudioError(f"{path}: cannot be opened: {error}") from error


def _similar_names(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"; the folder {path.parent} cannot be read either"
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f" in {path.parent}"
