"""The frames of MPEG audio (MP3): how many there are, where a file ends and another begins, and what lies between.

Sources: ISO 11172-3 and 13818-3 (frames), the Xing header as LAME writes it, Fraunhofer's VBRI header, ID3v2, APE.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from .layout import BLOCK_BYTES, HeaderBytes, Layout, Part

__all__ = ["after_id3", "mpeg_frame", "read_mpeg"]

_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_XING_FRAMES = 1
_ROOMY_BITRATE = 9
"""Index of a bitrate whose frames hold the statement of their number at every rate: 80 kbit/s or more."""

_CHUNK_BYTES = 1 << 16
"""So much is walked at once where nothing new comes."""

_INFORMATION_BYTES = 40
"""So much of a frame tells whether it may be an information frame."""


@dataclass(frozen=True, slots=True)
class _Frame:
    length: int
    n_samples: int
    rate: int
    kind: int
    """The bits of the header that stay the same within a stream: version, layer, rate."""

    side_bytes: int


def mpeg_frame(data: HeaderBytes, offset: int) -> _Frame | None:
    """Return the frame whose header stands at an offset; None where none does."""
    head = data.at(offset, 4)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate_bits = head[2] >> 4, head[2] >> 2 & 3
    if version_bits == 1 or layer_bits == 0 or not 0 < bitrate < 15 or rate_bits == 3:
        return None
    layer = 4 - layer_bits
    low = version_bits != 3
    rate = _RATES[rate_bits] >> {3: 0, 2: 1, 0: 2}[version_bits]
    bits_s = 1000 * _BITRATES[2 if low else 1, layer][bitrate - 1]
    padding = head[2] >> 1 & 1
    n_samples = 384 if layer == 1 else 576 if layer == 3 and low else 1152
    slot = 4 if layer == 1 else 1
    length = (n_samples // 8 * bits_s // rate // slot + padding) * slot
    mono = head[3] >> 6 == 3
    side_bytes = (9 if mono else 17) if low else (17 if mono else 32)
    return _Frame(length, n_samples, rate, head[1] & 0xFE | (head[2] & 0x0C) << 8, side_bytes)


def after_id3(data: HeaderBytes, offset: int) -> int:
    """Return what lies behind an ID3v2 tag that begins here; the same offset if none does."""
    head = data.at(offset, 10)
    if len(head) < 10 or head[:3] != b"ID3":
        return offset
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return offset + 10 + size + (10 if head[5] & 0x10 else 0)


def _after_tag(data: HeaderBytes, offset: int) -> int:
    """Return what lies behind a tag that begins here; the same offset if none does."""
    head = data.at(offset, 16)
    if head.startswith(b"TAG"):
        return offset + 128
    if head.startswith(b"APETAGEX") and len(head) == 16:
        return offset + 32 + int.from_bytes(head[12:16], "little")
    if head.startswith(b"LYRICSBEGIN"):
        ends = data.find(b"LYRICS200", offset)
        return ends + 9 if ends >= 0 else data.size
    return after_id3(data, offset)


def _xing_frames(data: HeaderBytes, offset: int, frame: _Frame) -> int | None:
    """Return how many frames an information frame promises, 0 when it does not say; None for a frame of sound."""
    body = data.at(offset + 4 + frame.side_bytes, 12)
    if body[:4] in (b"Xing", b"Info") and len(body) == 12:
        return int.from_bytes(body[8:12], "big") if body[7] & _XING_FRAMES else 0
    body = data.at(offset + 36, 18)
    if body[:4] == b"VBRI" and len(body) == 18:
        return int.from_bytes(body[14:18], "big")
    return None


def _may_inform(chunk: bytes, at: int, frame: _Frame) -> bool:
    """Return whether `_xing_frames` is to look at a frame."""
    body = at + 4 + frame.side_bytes
    return chunk[body : body + 4] in (b"Xing", b"Info") or chunk[at + 36 : at + 40] == b"VBRI"


class _MpegPart:
    """The part that is being walked."""

    def __init__(self, start: int, promised: int | None, frame: _Frame) -> None:
        self.start = start
        self.promised = promised
        self.first = frame
        self.n_frames = 0
        self._met: dict[bytes, _Frame] = {}

    def walk(self, data: HeaderBytes, offset: int) -> int:
        """Count the frames of sound that follow, as far as their headers were met before; return what lies behind.

        A recording of hours has some hundred thousand, and a few dozen headers.
        """
        chunk, at, n_frames = data.at(offset, _CHUNK_BYTES), 0, 0
        last = len(chunk) - _INFORMATION_BYTES
        left = (self.promised or data.size) - self.n_frames
        while at <= last and n_frames < left:
            frame = self._met.get(chunk[at : at + 4])
            if frame is None or at + frame.length > data.size - offset or _may_inform(chunk, at, frame):
                break
            at += frame.length
            n_frames += 1
        self.n_frames += n_frames
        return offset + at

    def count(self, header: bytes, frame: _Frame) -> None:
        """Count a frame of sound."""
        self.n_frames += 1
        if frame.kind == self.first.kind:
            self._met[header] = frame

    @property
    def is_complete(self) -> bool:
        """Whether all frames that the information frame promises have come."""
        return bool(self.promised) and self.n_frames >= (self.promised or 0)

    def close(self, data: HeaderBytes, end: int) -> Part:
        n_samples = self.n_frames * self.first.n_samples
        if self.promised is None:
            return Part(self.start, end, n_samples, _information_frame(data, self.start, self.first, self.n_frames))
        return Part(self.start, end, self.promised * self.first.n_samples if self.promised else n_samples)


def _information_frame(data: HeaderBytes, offset: int, frame: _Frame, n_frames: int) -> bytes:
    """Return a frame without sound that states the number of frames, for a stream that has none."""
    head = bytearray(data.at(offset, 4))
    head[1] |= 1  # no checksum
    head[2] = head[2] & 0x0F | _ROOMY_BITRATE << 4
    body = bytes(frame.side_bytes) + b"Xing" + struct.pack(">II", _XING_FRAMES, n_frames)
    alone = mpeg_frame(HeaderBytes(io.BytesIO(bytes(head))), 0)
    assert alone is not None
    return (bytes(head) + body).ljust(alone.length, b"\0")


def read_mpeg(data: HeaderBytes, layout: Layout) -> None:
    """Walk all frames: a part ends where another information frame begins, or as many frames as promised have come."""
    offset = 0
    part: _MpegPart | None = None
    played_s = 0.0
    while offset < data.size:
        behind = _after_tag(data, offset)
        if behind > offset:
            offset = behind
            continue
        frame = mpeg_frame(data, offset)
        if frame is None or (part is not None and frame.kind != part.first.kind and not _goes_on(data, offset, frame)):
            following = _next_frame(data, offset + 1)
            if data.at(offset, min(following - offset, BLOCK_BYTES)).strip(b"\0"):  # zeros are padding
                layout.faults.append(f"{following - offset} bytes at {played_s:.2f} s are no MPEG audio")
            offset = following
            continue
        promised = _xing_frames(data, offset, frame)
        if part is None or promised is not None or part.is_complete:
            if part is not None and part.n_frames:
                layout.parts.append(part.close(data, offset))
            part = _MpegPart(offset, promised, frame)
        if promised is None:
            part.count(data.at(offset, 4), frame)
            played_s += frame.n_samples / frame.rate
        if offset + frame.length > data.size:
            layout.faults.append("its last frame is cut")
        n_before = part.n_frames
        offset = part.walk(data, offset + frame.length)
        played_s += (part.n_frames - n_before) * part.first.n_samples / part.first.rate
    if part is not None:
        layout.parts.append(part.close(data, data.size))


def _goes_on(data: HeaderBytes, offset: int, frame: _Frame) -> bool:
    """Return whether another frame of the same kind follows, or the end: two headers in a row are no accident."""
    behind = offset + frame.length
    following = mpeg_frame(data, behind)
    return behind >= data.size or (following is not None and following.kind == frame.kind)


def _next_frame(data: HeaderBytes, offset: int) -> int:
    while (offset := data.find(b"\xff", offset)) >= 0:
        frame = mpeg_frame(data, offset)
        if frame is not None and _goes_on(data, offset, frame):
            return offset
        offset += 1
    return data.size
