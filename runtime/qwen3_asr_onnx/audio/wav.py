"""A WAV file in, mono float32 blocks out, with the standard library and numpy alone.

Reads PCM of 8, 16, 24 and 32 bits and IEEE float of 32 and 64 bits, plain or WAVE_FORMAT_EXTENSIBLE, in RIFF, RF64 and
BW64 files, from seekable files and from pipes. Other codecs inside WAV are left to soundfile and ffmpeg. Header numbers
are checked before use and never decide how much memory is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError

from .blocks import Mix, block_frames, check_rate, to_mono

__all__ = ["WavHeader", "is_wav", "read_wav_blocks", "read_wav_header"]

_MAX_FMT_BYTES = 4_096
"""A format chunk has 16 to 40 bytes; ADPCM tables reach a few hundred. More is a damaged header."""

_UNKNOWN_SIZE_FROM = 0x7FFFF000
"""Programs that write WAV to a pipe cannot fill in the size afterwards: sox leaves 0x7FFFF000, ffmpeg 0xFFFFFFFF."""

_TAG_PCM, _TAG_FLOAT, _TAG_EXTENSIBLE = 0x0001, 0x0003, 0xFFFE

_BYTES_PER_SAMPLE = {_TAG_PCM: (1, 2, 3, 4), _TAG_FLOAT: (4, 8)}


@dataclass(frozen=True, slots=True)
class WavHeader:
    """What stands before the samples.

    Attributes:
        tag: codec; 1 is PCM, 3 IEEE float.
        n_channels: samples per frame.
        sample_rate: Hz.
        sample_bytes: bytes per sample of one channel.
        data_bytes: size of the samples according to the header; None when the writer did not know.
    """

    tag: int
    n_channels: int
    sample_rate: int
    sample_bytes: int
    data_bytes: int | None

    @property
    def is_plain(self) -> bool:
        """Whether the samples are uncompressed in a width this module reads."""
        return self.sample_bytes in _BYTES_PER_SAMPLE.get(self.tag, ())

    @property
    def n_frames(self) -> int | None:
        """Frames according to the header; None when the writer did not know."""
        return None if self.data_bytes is None else self.data_bytes // (self.n_channels * self.sample_bytes)


def is_wav(head: bytes) -> bool:
    """Return whether a file that begins with these bytes claims to be WAV."""
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and b"WAVE".startswith(head[8:12])


def read_wav_header(file: BinaryIO, name: str) -> WavHeader:
    """Read up to the first sample and return the header.

    Args:
        file: positioned at "RIFF"; read forwards only.
        name: what to call the file in errors.

    Raises:
        AudioError: the header is damaged or ends early.
    """
    magic, riff_bytes, _ = struct.unpack("<4sI4s", _read(file, 12, name))
    long_data_bytes: int | None = None
    header: WavHeader | None = None
    header_bytes = 12
    while True:
        chunk_id, chunk_bytes = struct.unpack("<4sI", _read(file, 8, name))
        header_bytes += 8 + chunk_bytes + chunk_bytes % 2
        if chunk_id == b"data":
            break
        if chunk_id in (b"fmt ", b"ds64"):
            if chunk_bytes > _MAX_FMT_BYTES:
                raise _damaged(name, f"the {chunk_id.decode().strip()!r} chunk claims {chunk_bytes} bytes")
            body = _read(file, chunk_bytes + chunk_bytes % 2, name)
            if chunk_id == b"fmt ":
                header = _parse_fmt(body, name)
            elif len(body) >= 16:
                long_data_bytes = struct.unpack_from("<Q", body, 8)[0]
        else:
            _skip(file, chunk_bytes + chunk_bytes % 2, chunk_id, name)
    if header is None:
        raise _damaged(name, "the samples come before their format")
    data_bytes: int | None = chunk_bytes
    if magic != b"RIFF" and chunk_bytes == 0xFFFFFFFF and long_data_bytes is not None:
        data_bytes = long_data_bytes
    elif chunk_bytes >= _UNKNOWN_SIZE_FROM or (chunk_bytes == 0 and riff_bytes <= header_bytes - 8):
        data_bytes = None  # a size of zero in a file that counts nothing after it: a recorder that was switched off
    return WavHeader(header.tag, header.n_channels, header.sample_rate, header.sample_bytes, data_bytes)


def read_wav_blocks(file: BinaryIO, header: WavHeader, mix: Mix = to_mono, first_frame: int = 0) -> Iterator[Waveform]:
    """Yield the samples as (n,) float32 mono blocks, to the promised end or the end of the file, whichever comes first.

    Args:
        file: positioned at the sample to begin with; read forwards only.
        header: of a plain file (`WavHeader.is_plain`).
        mix: makes one channel of all.
        first_frame: which one the file is positioned at.
    """
    frame_bytes = header.n_channels * header.sample_bytes
    left = None if header.data_bytes is None else header.data_bytes - first_frame * frame_bytes
    while left is None or left >= frame_bytes:
        wanted = block_frames(header.n_channels) * frame_bytes
        data = _read_some(file, wanted if left is None else min(wanted, left - left % frame_bytes))
        data = data[: len(data) - len(data) % frame_bytes]
        if not data:
            return
        if left is not None:
            left -= len(data)
        yield mix(_in_frames(data, header))


def _parse_fmt(body: bytes, name: str) -> WavHeader:
    if len(body) < 16:
        raise _damaged(name, f"the format chunk has {len(body)} bytes instead of 16")
    tag, n_channels, sample_rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _TAG_EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack_from("<H", body, 24)[0]  # the codec's number opens the sub-format GUID
    if not n_channels:
        raise _damaged(name, "it claims to have no channels")
    if tag in _BYTES_PER_SAMPLE and bits:  # as in libsndfile and ffmpeg, what a frame is said to take counts for less
        frame_bytes = n_channels * ((bits + 7) // 8)
    if tag in _BYTES_PER_SAMPLE and (frame_bytes == 0 or frame_bytes % n_channels):
        raise _damaged(name, f"{n_channels} channels in frames of {frame_bytes} bytes")
    return WavHeader(tag, n_channels, check_rate(sample_rate, name), frame_bytes // n_channels, None)


def _in_frames(data: bytes, header: WavHeader) -> npt.NDArray[Any]:
    """Return the samples as (n_frames,) or (n_frames, n_channels), 24-bit ones as the upper bytes of 32."""
    if header.sample_bytes == 3:
        wide = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3)
        samples: npt.NDArray[Any] = wide.view("<i4").reshape(-1)
    else:
        kind = "f" if header.tag == _TAG_FLOAT else "u" if header.sample_bytes == 1 else "i"  # only 8 bits are unsigned
        samples = np.frombuffer(data, dtype=f"<{kind}{header.sample_bytes}")
    return samples if header.n_channels == 1 else samples.reshape(-1, header.n_channels)


def _read(file: BinaryIO, n_bytes: int, name: str) -> bytes:
    data = _read_some(file, n_bytes)
    if len(data) < n_bytes:
        raise _damaged(name, "it ends inside its header, before any sample")
    return data


def _read_some(file: BinaryIO, n_bytes: int) -> bytes:
    """Return `n_bytes` bytes, fewer only at the end: one read of a pipe may return less than asked for."""
    data = file.read(n_bytes)
    while len(data) < n_bytes:
        more = file.read(n_bytes - len(data))
        if not more:
            break
        data += more
    return data


def _skip(file: BinaryIO, n_bytes: int, chunk_id: bytes, name: str) -> None:
    while n_bytes:
        data = file.read(min(n_bytes, 1 << 16))
        if not data:
            label = chunk_id.decode("ascii", "backslashreplace")
            raise _damaged(name, f"its {label!r} chunk is longer than the file, and no samples come before it")
        n_bytes -= len(data)


def _damaged(name: str, what: str) -> AudioError:
    return AudioError(f"{name}: the WAV header is damaged: {what}. Export or copy the file again")
