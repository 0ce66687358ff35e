"""What the bytes of a container say: where its parts lie, how much each promises, and what is missing.

libsndfile reads the first of several files that were joined, takes a file that was cut for a shorter one, and guesses
the length of an MP3 that does not state it. Headers are read here, with the standard library alone, so that what it
would leave out is read part by part, or named. Nothing here decodes, and no number of a header decides what is
allocated.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus), RFC 9639 (FLAC), ISO 11172-3 and 13818-3 (MPEG audio frames) with the Xing
header as LAME writes it, Apple's AIFF and CAF, Sun's AU, Sony's Wave64, and the format chunks of EA IFF 85.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["Layout", "Part", "read_layout"]

_BLOCK_BYTES = 1 << 20

_UNKNOWN_FROM = 0x7FFFF000
"""Sizes that programs leave in a WAV header when they write to a pipe."""

_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


@dataclass(frozen=True, slots=True)
class Part:
    """One file inside the file.

    Attributes:
        start: offset of its first byte.
        end: offset behind its last byte.
        n_frames: samples per channel, where the container's structure or header tells; None where it does not.
        prefix: what states `n_frames` if it stands before the part; given where the file itself leaves it to guesses.
    """

    start: int
    end: int
    n_frames: int | None = None
    prefix: bytes = b""


@dataclass(slots=True)
class Layout:
    """What a file is made of.

    Attributes:
        parts: in order; more than one where files were joined.
        faults: what is damaged or missing, each with its place.
    """

    parts: list[Part] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class _Bytes:
    """Random access to a file through one block: walking headers forwards reads every block once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._start = 0
        self._block = b""

    def at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` (at most a block) from an offset; fewer at the end of the file."""
        if not self._start <= offset <= offset + n_bytes <= self._start + len(self._block):
            self._file.seek(offset)
            self._start, self._block = offset, self._file.read(max(_BLOCK_BYTES, n_bytes))
        first = offset - self._start
        return self._block[first : first + n_bytes]

    def find(self, wanted: bytes, offset: int) -> int:
        """Return where the bytes occur next, -1 for nowhere."""
        while offset < self.size:
            block = self.at(offset, _BLOCK_BYTES)
            found = block.find(wanted)
            if found >= 0:
                return offset + found
            if len(block) < _BLOCK_BYTES:
                return -1
            offset += len(block) - len(wanted) + 1
        return -1


def read_layout(file: BinaryIO) -> Layout:
    """Return the parts and faults of an audio file; one part and no faults for what is not known here.

    Args:
        file: seekable; left at its start.
    """
    data = _Bytes(file)
    head = data.at(0, 20)
    layout = Layout()
    read = next((reader for at, magic, reader in _READERS if head[at:].startswith(magic)), None)
    if read is None and _mpeg_frame(data, _after_id3(data, 0)) is not None:
        read = _read_mpeg
    if read is not None:
        read(data, layout)
    layout.parts = layout.parts or [Part(0, data.size)]
    file.seek(0)
    return layout


def _missing(layout: Layout, data: _Bytes, promised_end: int) -> None:
    if promised_end > data.size:
        missing = promised_end - data.size
        layout.faults.append(f"{missing} of the {promised_end} bytes that its header promises are missing")


# --- FLAC -------------------------------------------------------------------------------------------------------------

_FLAC_BEGINS = b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22"


def _read_flac(data: _Bytes, layout: Layout) -> None:
    starts = [0]
    while (found := min(_flac_begins(data, starts[-1] + 8), default=-1)) >= 0:
        starts.append(found)
    for start, end in zip(starts, [*starts[1:], data.size], strict=True):
        total = int.from_bytes(data.at(start + 21, 5), "big") & ((1 << 36) - 1)
        layout.parts.append(Part(start, end, total or None))


def _flac_begins(data: _Bytes, offset: int) -> list[int]:
    return [found for magic in _FLAC_BEGINS if (found := data.find(magic, offset)) >= 0]


# --- Ogg --------------------------------------------------------------------------------------------------------------

_OGG_BEGIN, _OGG_END = 2, 4
_OPUS_RATE = 48_000


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    length: int
    flags: int
    granule: int
    serial: int
    number: int
    packet: bytes
    """The first bytes of its body."""


def _ogg_pages(data: _Bytes, offset: int = 0) -> Iterator[_Page | int]:
    """Yield the pages of an Ogg file in order, and the number of bytes of whatever else lies between them."""
    while offset < data.size:
        head = data.at(offset, 27)
        if len(head) < 27 or head[:4] != b"OggS":
            following = data.find(b"OggS", offset + 1)
            following = data.size if following < 0 else following
            yield following - offset
            offset = following
            continue
        body = offset + 27 + head[26]
        length = 27 + head[26] + sum(data.at(offset + 27, head[26]))
        granule, serial, number = struct.unpack("<qII", head[6:22])
        yield _Page(offset, length, head[5], granule, serial, number, data.at(body, 16))
        offset += length


class _OggPart:
    """The part that is being walked: all its logical streams begin before any of them goes on."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.has_begun = False
        self.rate = self.granule = 0
        self.expected: dict[int, int] = {}
        self.ended: set[int] = set()

    @property
    def at(self) -> str:
        """Where the walk is, for messages."""
        return f"{self.granule / self.rate:.2f} s" if self.rate else "an unknown place"

    def take(self, page: _Page, faults: list[str]) -> None:
        if page.flags & _OGG_BEGIN:
            self.rate = _ogg_rate(page.packet) or self.rate
        else:
            self.has_begun = True
            if page.number != self.expected.get(page.serial, page.number):
                faults.append(f"pages are missing at {self.at}")
        self.expected[page.serial] = page.number + 1
        self.granule = max(self.granule, page.granule)
        if page.flags & _OGG_END:
            self.ended.add(page.serial)


def _read_ogg(data: _Bytes, layout: Layout) -> None:
    part = _OggPart(0)
    cut = False
    for page in _ogg_pages(data):
        if isinstance(page, int):
            layout.faults.append(f"{page} bytes at {part.at} are damaged")
            continue
        if page.flags & _OGG_BEGIN and part.has_begun:
            layout.parts.append(Part(part.start, page.start))
            part = _OggPart(page.start)
        part.take(page, layout.faults)
        cut = page.start + page.length > data.size
    if cut:
        layout.faults.append("its last page is cut")
    elif set(part.expected) - part.ended:
        layout.faults.append("the Ogg stream has no end mark, so it was cut or is still being written")
    layout.parts.append(Part(part.start, data.size))


def _ogg_rate(packet: bytes) -> int:
    if packet.startswith(b"OpusHead"):
        return _OPUS_RATE
    if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
        return int.from_bytes(packet[12:16], "little")
    return 0


# --- MPEG audio (MP3) -------------------------------------------------------------------------------------------------

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


@dataclass(frozen=True, slots=True)
class _Frame:
    length: int
    n_samples: int
    rate: int
    kind: int
    """The bits of the header that stay the same within a stream: version, layer, rate."""

    side_bytes: int


def _mpeg_frame(data: _Bytes, offset: int) -> _Frame | None:
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


def _after_id3(data: _Bytes, offset: int) -> int:
    head = data.at(offset, 10)
    if len(head) < 10 or head[:3] != b"ID3":
        return offset
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return offset + 10 + size + (10 if head[5] & 0x10 else 0)


def _after_tag(data: _Bytes, offset: int) -> int:
    """Return what lies behind a tag that begins here; the same offset if none does."""
    head = data.at(offset, 16)
    if head.startswith(b"TAG"):
        return offset + 128
    if head.startswith(b"APETAGEX") and len(head) == 16:
        return offset + 32 + int.from_bytes(head[12:16], "little")
    if head.startswith(b"LYRICSBEGIN"):
        ends = data.find(b"LYRICS200", offset)
        return ends + 9 if ends >= 0 else data.size
    return _after_id3(data, offset)


def _xing_frames(data: _Bytes, offset: int, frame: _Frame) -> int | None:
    """Return how many frames an information frame promises, 0 when it does not say; None for a frame of sound."""
    body = data.at(offset + 4 + frame.side_bytes, 12)
    if body[:4] in (b"Xing", b"Info") and len(body) == 12:
        return int.from_bytes(body[8:12], "big") if body[7] & _XING_FRAMES else 0
    body = data.at(offset + 36, 18)
    if body[:4] == b"VBRI" and len(body) == 18:
        return int.from_bytes(body[14:18], "big")
    return None


class _MpegPart:
    """The part that is being walked."""

    def __init__(self, start: int, promised: int | None, frame: _Frame) -> None:
        self.start = start
        self.promised = promised
        self.first = frame
        self.n_frames = 0

    @property
    def is_complete(self) -> bool:
        """Whether all frames that the information frame promises have come."""
        return bool(self.promised) and self.n_frames >= (self.promised or 0)

    def close(self, data: _Bytes, end: int) -> Part:
        n_samples = self.n_frames * self.first.n_samples
        if self.promised is None:
            return Part(self.start, end, n_samples, _information_frame(data, self.start, self.first, self.n_frames))
        return Part(self.start, end, self.promised * self.first.n_samples if self.promised else n_samples)


def _information_frame(data: _Bytes, offset: int, frame: _Frame, n_frames: int) -> bytes:
    """Return a frame without sound that states the number of frames, for a stream that has none."""
    head = bytearray(data.at(offset, 4))
    head[1] |= 1  # no checksum
    head[2] = head[2] & 0x0F | _ROOMY_BITRATE << 4
    body = bytes(frame.side_bytes) + b"Xing" + struct.pack(">II", _XING_FRAMES, n_frames)
    alone = _mpeg_frame(_Bytes(io.BytesIO(bytes(head))), 0)
    assert alone is not None
    return (bytes(head) + body).ljust(alone.length, b"\0")


def _read_mpeg(data: _Bytes, layout: Layout) -> None:
    offset = begin = 0
    part: _MpegPart | None = None
    played_s = 0.0
    while offset < data.size:
        behind = _after_tag(data, offset)
        if behind > offset:
            offset = behind
            continue
        frame = _mpeg_frame(data, offset)
        if frame is None or (part is not None and frame.kind != part.first.kind and not _goes_on(data, offset, frame)):
            following = _next_mpeg_frame(data, offset + 1)
            if data.at(offset, min(following - offset, _BLOCK_BYTES)).strip(b"\0"):  # zeros are padding
                layout.faults.append(f"{following - offset} bytes at {played_s:.2f} s are no MPEG audio")
            offset = following
            continue
        promised = _xing_frames(data, offset, frame)
        if part is None or promised is not None or part.is_complete:
            if part is not None and part.n_frames:
                layout.parts.append(part.close(data, offset))
                begin = offset
            part = _MpegPart(begin if part is None else offset, promised, frame)
            part.start = offset
        if promised is None:
            part.n_frames += 1
            played_s += frame.n_samples / frame.rate
        if offset + frame.length > data.size:
            layout.faults.append("its last frame is cut")
        offset += frame.length
    if part is not None:
        layout.parts.append(part.close(data, data.size))


def _goes_on(data: _Bytes, offset: int, frame: _Frame) -> bool:
    """Return whether another frame of the same kind follows, or the end: two headers in a row are no accident."""
    behind = offset + frame.length
    following = _mpeg_frame(data, behind)
    return behind >= data.size or (following is not None and following.kind == frame.kind)


def _next_mpeg_frame(data: _Bytes, offset: int) -> int:
    while (offset := data.find(b"\xff", offset)) >= 0:
        frame = _mpeg_frame(data, offset)
        if frame is not None and _goes_on(data, offset, frame):
            return offset
        offset += 1
    return data.size


# --- formats that state the size of their sound -----------------------------------------------------------------------


def _follows(data: _Bytes, layout: Layout, start: int, end: int) -> bool:
    """Put the part that ends here on record, and return whether a file of the same kind begins behind it."""
    goes_on = start < end < data.size and data.at(end, 4) == data.at(start, 4)
    layout.parts.append(Part(start, end if goes_on else data.size))
    return goes_on


def _chunks(data: _Bytes, offset: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the content and size of the chunks of an IFF or RIFF file."""
    while offset < end and len(head := data.at(offset, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        yield name, offset + 8, size
        offset += 8 + size + size % 2


def _read_iff(data: _Bytes, layout: Layout) -> None:
    end = 0
    while True:
        start = end
        size = int.from_bytes(data.at(start + 4, 4), "big")
        end = start + 8 + size + size % 2
        for name, offset, length in _chunks(data, start + 12, end, ">"):
            if name in (b"SSND", b"BODY"):
                _missing(layout, data, offset + length)
        if not _follows(data, layout, start, end):
            return


def _read_riff(data: _Bytes, layout: Layout) -> None:
    end = 0
    while True:
        start = end
        is_long = data.at(start, 4) != b"RIFF"  # RF64 states its sizes in its first chunk
        size, *_ = struct.unpack_from("<Q" if is_long else "<I", data.at(start + (20 if is_long else 4), 8).ljust(8))
        end = start + 8 + size + size % 2
        for name, offset, length in _chunks(data, start + 12, end, "<"):
            if name == b"data" and 0 < length < _UNKNOWN_FROM:
                _missing(layout, data, offset + length)
        if not _follows(data, layout, start, end):
            return


def _read_au(data: _Bytes, layout: Layout) -> None:
    end = 0
    while True:
        start = end
        order = ">" if data.at(start, 4) == b".snd" else "<"
        offset, size = struct.unpack(f"{order}II", data.at(start + 4, 8).ljust(8))
        end = start + offset + size
        if size == 0xFFFFFFFF or not _follows(data, layout, start, end):
            break
    if size != 0xFFFFFFFF:
        _missing(layout, data, end)


def _read_w64(data: _Bytes, layout: Layout) -> None:
    offset = 40
    while len(head := data.at(offset, 24)) == 24:
        size = int.from_bytes(head[16:24], "little")
        if head[:16] == _W64_DATA:
            _missing(layout, data, offset + size)
            return
        offset += max(24, (size + 7) // 8 * 8)


def _read_caf(data: _Bytes, layout: Layout) -> None:
    offset = 8
    while len(head := data.at(offset, 12)) == 12:
        size = int.from_bytes(head[4:12], "big", signed=True)
        if head[:4] == b"caff":
            layout.faults.append(f"another file begins at byte {offset}; it was not read")
        if size < 0 or head[:4] == b"caff":
            return
        if head[:4] == b"data":
            _missing(layout, data, offset + 12 + size)
        offset += 12 + size


def _read_mp4(data: _Bytes, layout: Layout) -> None:
    offset = 0
    while len(head := data.at(offset, 16)) >= 8:
        size, name = struct.unpack(">I4s", head[:8])
        if offset and name == b"ftyp":
            layout.faults.append(f"another file begins at byte {offset}; it was not read")
            return
        size = int.from_bytes(head[8:], "big") if size == 1 and len(head) == 16 else size
        if size < 8:  # 0: to the end of the file
            return
        offset += size


def _read_voc(data: _Bytes, layout: Layout) -> None:
    offset = int.from_bytes(data.at(20, 2), "little")
    while (head := data.at(offset, 4))[:1] not in (b"", b"\0"):
        size = int.from_bytes(head[1:4], "little")
        _missing(layout, data, offset + 4 + size)
        offset += 4 + size


def _read_sphere(data: _Bytes, layout: Layout) -> None:
    said = dict(re.findall(rb"(\w+) -i (\d+)", data.at(0, 1024)))
    lines = data.at(0, 16).split()
    try:
        size = int(said[b"sample_count"]) * int(said[b"channel_count"]) * int(said[b"sample_n_bytes"])
        header_bytes = int(lines[1])
    except (KeyError, IndexError, ValueError):
        return
    if b"shorten" not in data.at(0, 1024):
        _missing(layout, data, header_bytes + size)


def _read_avr(data: _Bytes, layout: Layout) -> None:
    head = data.at(0, 30)
    if len(head) == 30:
        is_stereo, n_bits, n_frames = struct.unpack(">12xHH10xI", head)
        _missing(layout, data, 128 + n_frames * (n_bits // 8) * (2 if is_stereo else 1))


_TS_PACKET_BYTES = 188


def _read_transport_stream(data: _Bytes, layout: Layout) -> None:
    if data.at(_TS_PACKET_BYTES, 1) == b"G" and data.size % _TS_PACKET_BYTES:
        layout.faults.append("its last packet is cut")


_READERS: tuple[tuple[int, bytes, Callable[[_Bytes, Layout], None]], ...] = (
    (0, b"fLaC", _read_flac),
    (0, b"OggS", _read_ogg),
    (0, b"FORM", _read_iff),
    (0, b"RIFF", _read_riff),
    (0, b"RF64", _read_riff),
    (0, b"BW64", _read_riff),
    (0, b".snd", _read_au),
    (0, b"dns.", _read_au),
    (0, b"riff\x2e\x91\xcf\x11", _read_w64),
    (0, b"caff", _read_caf),
    (4, b"ftyp", _read_mp4),
    (0, b"Creative Voice File", _read_voc),
    (0, b"NIST_1A", _read_sphere),
    (0, b"2BIT", _read_avr),
    (0, b"G", _read_transport_stream),
)
