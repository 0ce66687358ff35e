"""The body of a request in, its fields out: a file goes to disk as it comes, counted and with a clock running."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

from starlette.requests import ClientDisconnect, Request

from .errors import ApiError
from .settings import Settings

__all__ = ["Budget", "Form", "Upload", "read_body", "read_form"]

_MAX_FIELDS = 200
_MAX_VALUE_BYTES = 1 << 20
"""Of all fields that are no file together: they are kept in memory."""

_IN_MEMORY_BYTES = 1 << 20
_MIN_BYTES_PER_S = 1000
"""Slower than this on average is no upload: a telephone sends more."""


if TYPE_CHECKING:
    _TemporaryFile = tempfile.SpooledTemporaryFile[bytes]
else:
    _TemporaryFile = tempfile.SpooledTemporaryFile


class Upload(_TemporaryFile):
    """What was sent, in memory while it is small; gone when it is closed."""

    name = "the upload"

    def seekable(self) -> bool:
        """Return True; Python 3.10 does not say so itself."""
        return True


@dataclass(slots=True)
class Form:
    """The fields of a form, by name without brackets. Close it: files in it are on disk until then."""

    values: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, BinaryIO] = field(default_factory=dict)

    def close(self) -> None:
        """Delete the files."""
        for file in self.files.values():
            file.close()

    def text(self, name: str, default: str = "") -> str:
        """Return the last value of a field."""
        return self.values.get(name, [default])[-1]

    def file(self, name: str) -> BinaryIO:
        """Return an upload, at its start.

        Raises:
            ApiError: there is none, or nothing is in it.
        """
        if name not in self.files:
            how = "it must be a file, with a file name (curl -F file=@talk.wav)" if name in self.values else "send one"
            raise ApiError(400, f"no upload is called '{name}'; {how}", param=name, code="missing_file")
        file = self.files[name]
        if not file.seek(0, 2):
            raise ApiError(400, f"the upload '{name}' is empty", param=name, code="empty_file")
        file.seek(0)
        return file


class _Collector:
    """What the parser of multipart bodies calls back."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._name, self._value, self._header = b"", bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._file: BinaryIO | None = None
        self._n_parts = self._n_value_bytes = 0
        self.is_complete = False

    def on_part_begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > _MAX_FIELDS:
            raise ApiError(400, f"more than {_MAX_FIELDS} fields", code="too_many_fields")
        self._headers, self._value, self._name, self._file = {}, bytearray(), b"", None

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        key = self._header.decode("latin-1").lower()
        self._headers[key] = self._headers.get(key, b"") + data[start:end]

    def on_header_end(self) -> None:
        self._header.clear()

    def on_headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        if b"name" not in options:
            raise ApiError(400, "a part of the form has no name", code="invalid_form")
        self._name = options[b"name"]
        if b"filename" in options:
            name = self._plain_name()
            if name in self._form.files:
                raise ApiError(400, f"more than one upload is called '{name}'", param=name, code="invalid_form")
            self._file = self._form.files[name] = cast("BinaryIO", Upload(_IN_MEMORY_BYTES))

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._value += data[start:end]
        self._n_value_bytes += end - start
        if self._n_value_bytes > _MAX_VALUE_BYTES:
            name = self._plain_name()
            why = f"the fields beside the file are over {_MAX_VALUE_BYTES} bytes, with '{name}'"
            raise ApiError(413, why, param=name, code="field_too_long")

    def on_part_end(self) -> None:
        if self._file is None:
            value = self._value.decode("utf-8", "replace")
            self._form.values.setdefault(self._plain_name(), []).append(value)

    def on_end(self) -> None:
        self.is_complete = True

    def _plain_name(self) -> str:
        return self._name.decode("utf-8", "replace").removesuffix("[]")


async def read_form(request: Request, settings: Settings) -> Form:
    """Return the fields of a multipart form.

    Raises:
        ApiError: it is none, is too large or too slow, or is damaged.
        ClientDisconnect: the client went away.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError(415, "send the fields as multipart/form-data (curl -F)", code="unsupported_media_type")
    form = Form()
    collector = _Collector(form)
    try:
        names = [name for name in dir(collector) if name.startswith("on_")]
        parser = MultipartParser(options[b"boundary"], {name: getattr(collector, name) for name in names})  # type: ignore[arg-type]
        async for chunk in _chunks(request, settings, settings.max_upload_bytes):
            await asyncio.to_thread(parser.write, chunk)
        if not collector.is_complete:
            raise ApiError(400, "the form ends in the middle; send all of it", code="invalid_form")
    except BaseException as error:
        form.close()
        if isinstance(error, FormParserError):
            raise ApiError(400, f"the form cannot be read: {error}", code="invalid_form") from error
        raise
    return form


class Budget:
    """Bytes that all requests together may hold in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Give what takes some for one request; it is given back behind the block.

        Raises:
            ApiError: from what is given: there is too little left.
        """
        taken = 0

        def take(n_bytes: int) -> None:
            nonlocal taken
            if n_bytes > self._left:
                why = "too many large bodies at once; try again later, or send a form, which is kept on disk"
                raise ApiError(429, why, code="rate_limit_exceeded", retry_after_s=5)
            self._left -= n_bytes
            taken += n_bytes

        try:
            yield take
        finally:
            self._left += taken


async def read_body(request: Request, settings: Settings, max_bytes: int, take: Callable[[int], None]) -> bytearray:
    """Return the whole body.

    Args:
        request: whose body it is.
        settings: how fast it must come.
        max_bytes: most bytes of it.
        take: is asked for the memory, chunk by chunk; see `Budget`.

    Raises:
        ApiError: it is too large or too slow, or there is no memory for it now.
        ClientDisconnect: the client went away.
    """
    body = bytearray()
    async for chunk in _chunks(request, settings, max_bytes):
        take(len(chunk))
        body += chunk
    return body


async def _chunks(request: Request, settings: Settings, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes, within the limits of bytes and time."""
    promised = request.headers.get("content-length", "")
    too_large = ApiError(413, f"the body is over {max_bytes} bytes, which this server takes", code="body_too_large")
    if promised.isdecimal() and int(promised) > max_bytes:
        raise too_large
    loop = asyncio.get_running_loop()
    begun_s, n_bytes, more = loop.time(), 0, True
    while more:
        # Neither silence nor a drop now and then may hold a place for ever.
        allowed_s = settings.read_timeout_s + n_bytes / _MIN_BYTES_PER_S - (loop.time() - begun_s)
        try:
            message = await asyncio.wait_for(request.receive(), max(0.0, min(settings.read_timeout_s, allowed_s)))
        except asyncio.TimeoutError:
            raise ApiError(408, f"too slow: {n_bytes} bytes came in time; try again", code="upload_timeout") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        n_bytes += len(chunk)
        if n_bytes > max_bytes:
            raise too_large
        yield chunk
