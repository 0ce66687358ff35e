"""Samples without a header, from a pipe: bytes in, mono float32 blocks out as they arrive."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import AudioError

from .blocks import AudioStream, check_rate, to_mono
from .layout import HeaderBytes
from .mpeg import mpeg_frame
from .wav import is_wav, read_wav_blocks, read_wav_header

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["PCM_FORMATS", "decode_pcm", "open_pcm"]

PCM_FORMATS = {"s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "f32le": "<f4", "u8": "u1", "s8": "i1"}
"""Sample formats by the names that ffmpeg and sox users know, and as numpy types."""

_NAME = "standard input"

_HEAD_BYTES = 2_048
"""Read before anything is decided: 64 ms of samples at 16 kHz, and more than one frame of any MP3."""

_TS_PACKET = 188

_CONTAINERS = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"ID3", "MP3"),
    (0, b"RIFX", "WAV in big-endian order"),
    (0, b"RIFF", "RIFF"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b"FORM", "AIFF"),
    (0, b"caff\x00\x01", "CAF"),
    (0, b".snd\x00\x00", "AU"),
    (0, b"NIST_1A", "SPHERE"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA or ASF"),
    (0, b"FLV\x01", "FLV"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
)
"""What files begin with: offset, bytes, name. Samples begin so once in four billion streams."""


def open_pcm(file: io.BufferedReader, sample_format: str, sample_rate: int, n_channels: int) -> AudioStream:
    """Return what comes through a pipe, in blocks of at most 0.1 s, each as soon as it is there.

    A pipe that begins with a WAV header is read as its header says, whatever is declared. One that begins as another
    kind of file is refused: taken for samples it would be noise, of which nothing is heard.

    Args:
        file: read forwards only; not to be read by others afterwards.
        sample_format: one of `PCM_FORMATS`.
        sample_rate: Hz.
        n_channels: samples per frame, at least 1; they are averaged.

    Returns:
        Blocks that end with the pipe; `faults` then tells of a last frame cut short, which is left out.

    Raises:
        AudioError: the rate is out of range, there is a WAV header that is damaged or of compressed sound, or another
            kind of file is in the pipe.
    """
    head = _head(file)
    file = io.BufferedReader(_Again(head, file))
    if is_wav(head[:12]):
        header = read_wav_header(file, _NAME)
        if not header.is_plain:
            raise AudioError(f"{_NAME}: compressed sound in WAV (codec {header.tag}); pipe PCM, as `ffmpeg -f s16le`")
        return AudioStream(header.sample_rate, None, read_wav_blocks(file, header))
    kind = _container(head)
    if kind is not None:
        raise AudioError(
            f"{_NAME}: this is {kind}, not samples; give its name instead of -, or decode it on the way: "
            f"ffmpeg -i - -f s16le -ar {SAMPLE_RATE} -ac 1 - | qwen3-asr-onnx stream -"
        )
    rate = check_rate(sample_rate, _NAME)
    faults: list[str] = []
    dtype = np.dtype(PCM_FORMATS[sample_format])
    return AudioStream(rate, None, _blocks(file, dtype, rate, n_channels, faults), faults)


def decode_pcm(data: bytes, sample_format: str, n_channels: int) -> npt.NDArray[np.generic]:
    """Return the samples of a block, (n, channels), in the numbers they came in.

    Raises:
        AudioError: the block ends inside a frame.
    """
    dtype = np.dtype(PCM_FORMATS[sample_format])
    frame_bytes = dtype.itemsize * n_channels
    if len(data) % frame_bytes:
        raise AudioError(f"{len(data)} bytes are not whole frames of {frame_bytes} bytes ({sample_format})")
    return np.frombuffer(data, dtype=dtype).reshape(-1, n_channels)


def _head(file: io.BufferedReader) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (more := file.read1(_HEAD_BYTES - len(head))):
        head += more
    return head


def _container(head: bytes) -> str | None:
    """Return the name of the kind of file that begins so; None for samples."""
    for offset, magic, name in _CONTAINERS:
        if head[offset:].startswith(magic):
            return name
    data = HeaderBytes(io.BytesIO(head))
    # Two bytes of a frame's header may well be a sample: a second frame of the same kind must follow.
    frame = mpeg_frame(data, 0)
    following = None if frame is None else mpeg_frame(data, frame.length)
    if frame is not None and following is not None and frame.kind == following.kind:
        return "MP3"
    if len(head) > 4 * _TS_PACKET and set(head[: 4 * _TS_PACKET + 1 : _TS_PACKET]) == {0x47}:
        return "MPEG-TS"
    if _adts_length(head, 0) and _adts_length(head, _adts_length(head, 0)):
        return "AAC"
    return None


def _adts_length(head: bytes, offset: int) -> int:
    """Return the length of the AAC frame whose header stands at an offset; 0 where none does."""
    start = head[offset : offset + 6]
    if len(start) < 6 or start[0] != 0xFF or start[1] & 0xF6 != 0xF0 or start[2] >> 2 & 15 > 12:
        return 0
    return (start[3] & 3) << 11 | start[4] << 3 | start[5] >> 5


class _Again(io.RawIOBase):
    """A file whose first bytes were read already, from its start."""

    def __init__(self, head: bytes, rest: io.BufferedReader) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or self._rest.read1(len(view))
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


def _blocks(
    file: io.BufferedReader, dtype: np.dtype[np.generic], rate: int, n_channels: int, faults: list[str]
) -> Iterator[Waveform]:
    frame_bytes = dtype.itemsize * n_channels
    wanted = max(1, rate // 10) * frame_bytes
    rest = b""
    while data := file.read1(wanted):
        data = rest + data
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        if whole:
            yield to_mono(np.frombuffer(data[:whole], dtype=dtype).reshape(-1, n_channels))
    if rest:
        faults.append(
            f"the input ended inside a frame; its last {len(rest)} of {frame_bytes} bytes are left out "
            "(are the sample format and the number of channels right?)"
        )
