"""Bytes from elsewhere (http, data: URLs, pipes) in, a seekable file out, within stated limits of bytes and seconds."""

from __future__ import annotations

import errno
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes, urlsplit

from qwen3_asr_onnx.errors import AudioError, LimitError

from .waiting import can_be_abandoned

__all__ = ["decode_data_url", "download", "is_url", "spool", "url_label"]

_MEMORY_BYTES = 64 << 20
"""What is spooled stays in memory up to here and goes to a temporary file beyond: an hour of 16 kHz WAV is 115 MB."""

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})

_STALL_S = 30.0
"""A server that sends nothing for this long is taken for dead."""


def is_url(text: str) -> bool:
    """Return whether `text` is an http or https URL."""
    return text[:8].lower().startswith(("http://", "https://"))


def url_label(url: str) -> str:
    """Return the URL without user name, password, query and fragment, which may hold secrets, for messages."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def spool(stream: BinaryIO, name: str, max_bytes: int, timeout_s: float | None = None) -> BinaryIO:
    """Copy `stream` to its end into a seekable temporary file, positioned at the start. The caller closes it.

    Args:
        stream: anything with `read(n)`.
        name: what to call it in errors.
        max_bytes: most bytes to accept.
        timeout_s: most seconds to take; None waits as long as it lasts.

    Raises:
        LimitError: more than `max_bytes` bytes, more than `timeout_s` seconds, or more than the disk holds.
        AudioError: the stream yields text instead of bytes.
    """
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    # read1 returns what has arrived; read would block until the whole piece is there, past any deadline.
    read = getattr(stream, "read1", stream.read)
    spooled = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES))  # noqa: SIM115 - the caller closes it
    n_bytes = 0
    try:
        while data := _waited_for(read):
            if not isinstance(data, bytes):
                raise AudioError(
                    f"{name}: it yields {type(data).__name__}, not bytes; open the file in binary mode ('rb')"
                )
            n_bytes += len(data)
            if n_bytes > max_bytes:
                raise LimitError(f"{name}: more than {max_bytes} bytes; raise AudioLimits.max_bytes to accept it")
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise LimitError(
                    f"{name}: not complete after {timeout_s} s, {n_bytes} bytes came; raise AudioLimits.fetch_timeout_s"
                )
            spooled.write(data)
    except OSError as error:
        spooled.close()
        if error.errno not in _FULL_DISK:
            raise
        raise LimitError(
            f"{name}: {tempfile.gettempdir()}, where it is kept while it is read, is full after "
            f"{n_bytes / 1e6:,.1f} MB; free some space, or set TMPDIR to a folder on another disk"
        ) from error
    except BaseException:
        spooled.close()
        raise
    spooled.seek(0)
    return spooled


def _waited_for(read: Callable[[int], bytes]) -> bytes:
    """Return what has arrived next; b"" at the end."""
    with can_be_abandoned():
        return read(1 << 16)


def decode_data_url(url: str, max_bytes: int) -> bytes:
    """Return the content of a `data:` URL, base64 or percent-encoded.

    Raises:
        AudioError: no comma, or not base64 where base64 is announced.
        LimitError: more than `max_bytes` bytes.
    """
    import base64
    import binascii

    header, comma, payload = url.partition(",")
    if not comma:
        raise AudioError("data: URL: no comma between its type and its content; expected data:audio/wav;base64,...")
    if len(payload) // 4 * 3 > max_bytes:
        raise LimitError(f"data: URL: more than {max_bytes} bytes; raise AudioLimits.max_bytes to accept it")
    content = unquote_to_bytes(payload)
    if not header.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(b"".join(content.split()), validate=True)
    except binascii.Error as error:
        raise AudioError(f"data: URL: the content is not base64: {error}") from error


def download(url: str, max_bytes: int, timeout_s: float) -> BinaryIO:
    """Fetch an http or https URL into a seekable temporary file. The caller closes it.

    Redirects are followed to http and https only. Proxies are those of the environment.

    Raises:
        AudioError: no such host or page, or the connection broke.
        LimitError: more than `max_bytes` bytes, or more than `timeout_s` seconds.
    """
    # Imported here: urllib.request costs as much to import as the rest of the runtime.
    from http.client import HTTPException
    from urllib import request
    from urllib.error import HTTPError

    # The default opener also follows redirects to ftp; this one knows http and https and nothing else.
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPRedirectHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    label = url_label(url)
    try:
        wanted = request.Request(url, headers={"User-Agent": "qwen3-asr-onnx"})  # noqa: S310 - the opener knows http only
        with can_be_abandoned():
            answer = opener.open(wanted, timeout=min(_STALL_S, timeout_s))
        with answer:
            promised = answer.headers.get("Content-Length", "")
            if promised.isdecimal() and int(promised) > max_bytes:
                raise LimitError(
                    f"{label}: {promised} bytes, over {max_bytes}; raise AudioLimits.max_bytes to accept it"
                )
            spooled = spool(answer, label, max_bytes, timeout_s)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, (AudioError, LimitError)):
            raise
        if isinstance(error, HTTPError):
            error.close()  # it carries the open connection
        raise AudioError(f"{label}: cannot be fetched: {error or type(error).__name__}") from error
    received = spooled.seek(0, 2)
    spooled.seek(0)
    if promised.isdecimal() and received < int(promised) and not answer.headers.get("Content-Encoding"):
        spooled.close()
        raise AudioError(f"{label}: the connection broke after {received} of {promised} bytes; try again")
    return spooled
