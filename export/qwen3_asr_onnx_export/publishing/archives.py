"""Files in, a compressed tar out, in parts that every host of releases takes: the same files give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from qwen3_asr_onnx.errors import MissingExtra

__all__ = ["FORMATS", "PART_BYTES", "Content", "write_archive"]

Content: TypeAlias = Path | bytes

PART_BYTES = 2_000_000_000
"""Most bytes of a file: releases on GitHub take files under 2 GiB."""

ZSTD_LEVEL, GZIP_LEVEL = 6, 6


class _Parts(io.RawIOBase):
    """A file that goes on in the next one when it is full; each part is hashed as it is written."""

    def __init__(self, target: Path, part_bytes: int) -> None:
        self._target, self._part_bytes = target, part_bytes
        self._files: list[tuple[Path, BinaryIO]] = []
        self._hashes: list[Any] = []
        self._left = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while written < len(view):
            if not self._left:
                self._next()
            piece = view[written : written + self._left]
            self._files[-1][1].write(piece)
            self._hashes[-1].update(piece)
            self._left -= len(piece)
            written += len(piece)
        return written

    def _next(self) -> None:
        path = self._target.with_name(f"{self._target.name}.{len(self._files):02d}")
        if self._files:
            self._files[-1][1].close()
        self._files.append((path, path.open("wb")))
        self._hashes.append(hashlib.sha256())
        self._left = self._part_bytes

    def close(self) -> None:
        for _, file in self._files:
            file.close()
        super().close()

    def digests(self) -> dict[Path, str]:
        """Return every part's path and sha256; one that is alone gets the name of the whole."""
        paths = [path for path, _ in self._files]
        if len(paths) == 1:
            paths = [paths[0].replace(self._target)]
        return {path: found.hexdigest() for path, found in zip(paths, self._hashes, strict=True)}


@contextmanager
def _zstd(sink: io.RawIOBase) -> Iterator[BinaryIO]:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra(
            "archives in zstd need zstandard: pip install 'qwen3-asr-onnx[publish]', or give --format tar.gz"
        ) from error
    # With one worker thread or many the bytes are the same; without one they are others.
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=-1)
    with compressor.stream_writer(cast(BinaryIO, sink), closefd=False) as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def _gzip(sink: io.RawIOBase) -> Iterator[BinaryIO]:
    # Neither a name nor a time: they would differ from run to run.
    with gzip.GzipFile("", "wb", GZIP_LEVEL, cast(BinaryIO, sink), mtime=0) as stream:
        yield cast(BinaryIO, stream)


FORMATS = {"tar.zst": _zstd, "tar.gz": _gzip}
"""How a tar is compressed, by the ending of its name."""


def write_archive(
    files: Mapping[str, Content],
    folder: str,
    target: Path,
    *,
    part_bytes: int = PART_BYTES,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[Path, str]:
    """Write one archive and return its parts with their sha256: `target`, or `target`.00, .01 and so on.

    The parts of one archive, one after the other, are the archive. Entries are in the order of their names, without
    owners, times and rights, which would differ from machine to machine.

    Args:
        files: where each file lies, or what is in it, by its name in the archive, with "/" between folders.
        folder: what all of them lie in.
        target: ends in one of `FORMATS`.
        part_bytes: most bytes of a part.
        progress: told of bytes of the files as they are read.

    Raises:
        MissingExtra: zstandard is not installed.
        OSError: a file cannot be read, or the target not be written.
    """
    compressed = next(open_ for ending, open_ in FORMATS.items() if target.name.endswith(f".{ending}"))
    with (
        _Parts(target, part_bytes) as sink,
        compressed(sink) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            _add(tar, f"{folder}/{name}", files[name], progress)
    return sink.digests()


def _add(tar: tarfile.TarFile, name: str, content: Content, progress: Callable[[int], object]) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        progress(len(content))
        return
    with content.open("rb") as file:
        entry.size = content.stat().st_size
        tar.addfile(entry, cast(BinaryIO, _Counted(file, progress)))


class _Counted:
    """A file that tells how much of it is read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], object]) -> None:
        self._file, self._progress = file, progress

    def read(self, n_bytes: int) -> bytes:
        data = self._file.read(n_bytes)
        self._progress(len(data))
        return data
