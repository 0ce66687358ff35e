"""What the bytes of a container say: where its parts lie, how much each promises, and what is missing.

libsndfile reads the first of several files that were joined, takes a file that was cut for a shorter one, and guesses
the length of an MP3 that does not state it. Headers are read here, with the standard library alone, so that what it
would leave out is read part by part, or named. Nothing here decodes, and no number of a header decides what is
allocated.

Sources: RFC 9639 (FLAC), Apple's AIFF and CAF, Sun's AU, Sony's Wave64, EA IFF 85, ISO 14496-12 (MP4), ISO 13818-1
(MPEG-TS, MPEG-PS), Microsoft's AVI and ASF, NIST SPHERE.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .layout import BLOCK_BYTES, HeaderBytes, Layout, Part
from .mpeg import after_id3, mpeg_frame, read_mpeg
from .ogg import read_ogg

__all__ = ["read_layout"]

_UNKNOWN_FROM = 0x7FFFF000
"""Sizes that programs leave in a WAV header when they write to a pipe."""

_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA_HEADER_BYTES = 50

_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def read_layout(file: BinaryIO) -> Layout:
    """Return the parts and faults of an audio file; one part and no faults for what is not known here.

    Args:
        file: seekable; left at its start.
    """
    data = HeaderBytes(file)
    head = data.at(0, 20)
    layout = Layout()
    read = next((reader for at, magic, reader in _READERS if head[at:].startswith(magic)), None)
    if read is None and mpeg_frame(data, after_id3(data, 0)) is not None:
        read = read_mpeg
    if read is not None:
        read(data, layout)
    layout.parts = layout.parts or [Part(0, data.size)]
    file.seek(0)
    return layout


def _missing(layout: Layout, data: HeaderBytes, promised_end: int) -> None:
    if promised_end > data.size:
        missing = promised_end - data.size
        layout.faults.append(f"{missing} of the {promised_end} bytes that its header promises are missing")


_FLAC_FIRST_BLOCK = (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22")
"""What follows the magic: the stream's own description, alone or before other blocks."""


def _read_flac(data: HeaderBytes, layout: Layout) -> None:
    starts = [0]
    found = 0
    while (found := data.find(b"fLaC", found + 4)) >= 0:
        if data.at(found + 4, 4) in _FLAC_FIRST_BLOCK:
            starts.append(found)
    for start, end in zip(starts, [*starts[1:], data.size], strict=True):
        total = int.from_bytes(data.at(start + 21, 5), "big") & ((1 << 36) - 1)
        layout.parts.append(Part(start, end, total or None))


def _follows(data: HeaderBytes, layout: Layout, start: int, end: int) -> bool:
    """Put the part that ends here on record, and return whether a file of the same kind begins behind it."""
    goes_on = start < end < data.size and data.at(end, 4) == data.at(start, 4)
    layout.parts.append(Part(start, end if goes_on else data.size))
    return goes_on


def _chunks(data: HeaderBytes, offset: int, end: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the content and size of the chunks of an IFF or RIFF file."""
    while offset < end and len(head := data.at(offset, 8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        yield name, offset + 8, size
        offset += 8 + size + size % 2


def _read_iff(data: HeaderBytes, layout: Layout) -> None:
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


def _read_riff(data: HeaderBytes, layout: Layout) -> None:
    end = 0
    while True:
        start = end
        is_long = data.at(start, 4) != b"RIFF"  # RF64 states its sizes in its first chunk
        size, *_ = struct.unpack_from("<Q" if is_long else "<I", data.at(start + (20 if is_long else 4), 8).ljust(8))
        end = start + 8 + size + size % 2
        for name, offset, length in _chunks(data, start + 12, end, "<"):
            is_audio = name == b"data" or (name == b"LIST" and data.at(offset, 4) == b"movi")  # the latter in AVI
            if is_audio and 0 < length < _UNKNOWN_FROM:
                _missing(layout, data, offset + length)
        if not _follows(data, layout, start, end):
            return


def _read_au(data: HeaderBytes, layout: Layout) -> None:
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


def _read_w64(data: HeaderBytes, layout: Layout) -> None:
    offset = 40
    while len(head := data.at(offset, 24)) == 24:
        size = int.from_bytes(head[16:24], "little")
        if head[:16] == _W64_DATA:
            _missing(layout, data, offset + size)
            return
        offset += max(24, (size + 7) // 8 * 8)


def _read_caf(data: HeaderBytes, layout: Layout) -> None:
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


def _read_mp4(data: HeaderBytes, layout: Layout) -> None:
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


def _read_asf(data: HeaderBytes, layout: Layout) -> None:
    offset = 0
    while len(head := data.at(offset, 24)) == 24:
        size = int.from_bytes(head[16:], "little")
        if head[:16] == _ASF_DATA and size >= _ASF_DATA_HEADER_BYTES:  # a broadcast states less
            _missing(layout, data, offset + size)
        if size < 24:
            return
        offset += size


def _read_voc(data: HeaderBytes, layout: Layout) -> None:
    offset = int.from_bytes(data.at(20, 2), "little")
    while (head := data.at(offset, 4))[:1] not in (b"", b"\0"):
        size = int.from_bytes(head[1:4], "little")
        _missing(layout, data, offset + 4 + size)
        offset += 4 + size


def _read_sphere(data: HeaderBytes, layout: Layout) -> None:
    said = dict(re.findall(rb"(\w+) -i (\d+)", data.at(0, 1024)))
    lines = data.at(0, 16).split()
    try:
        size = int(said[b"sample_count"]) * int(said[b"channel_count"]) * int(said[b"sample_n_bytes"])
        header_bytes = int(lines[1])
    except (KeyError, IndexError, ValueError):
        return
    if b"shorten" not in data.at(0, 1024):
        _missing(layout, data, header_bytes + size)


def _read_avr(data: HeaderBytes, layout: Layout) -> None:
    head = data.at(0, 30)
    if len(head) == 30:
        is_stereo, n_bits, n_frames = struct.unpack(">12xHH10xI", head)
        _missing(layout, data, 128 + n_frames * (n_bits // 8) * (2 if is_stereo else 1))


_TS_PACKET_BYTES = 188


def _read_transport_stream(data: HeaderBytes, layout: Layout) -> None:
    if data.at(_TS_PACKET_BYTES, 1) == b"G" and data.size % _TS_PACKET_BYTES:
        layout.faults.append("its last packet is cut")


_PACK, _PROGRAM_END = b"\0\0\1\xba", b"\0\0\1\xb9"


def _read_program_stream(data: HeaderBytes, layout: Layout) -> None:
    """Walk the packets from the last pack on: a stream of them promises no length, but each packet does."""
    start = max(0, data.size - BLOCK_BYTES)
    offset = start + data.at(start, BLOCK_BYTES).rfind(_PACK)
    while (head := data.at(offset, 14))[:4] != _PROGRAM_END and (head[:3] == b"\0\0\1" or 0 < len(head) < 6):
        if head[:4] == _PACK:
            is_mpeg_1 = len(head) > 4 and head[4] >> 4 == 2
            offset += 12 if is_mpeg_1 else 14 + (head[-1] & 7)
        else:
            offset += 6 + int.from_bytes(head[4:6], "big")
    if offset > data.size:
        layout.faults.append("its last packet is cut")


_READERS: tuple[tuple[int, bytes, Callable[[HeaderBytes, Layout], None]], ...] = (
    (0, b"fLaC", _read_flac),
    (0, b"OggS", read_ogg),
    (0, b"FORM", _read_iff),
    (0, b"RIFF", _read_riff),
    (0, b"RF64", _read_riff),
    (0, b"BW64", _read_riff),
    (0, b".snd", _read_au),
    (0, b"dns.", _read_au),
    (0, b"riff\x2e\x91\xcf\x11", _read_w64),
    (0, b"caff", _read_caf),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _read_asf),
    (4, b"ftyp", _read_mp4),
    (0, b"Creative Voice File", _read_voc),
    (0, b"NIST_1A", _read_sphere),
    (0, b"2BIT", _read_avr),
    (0, b"G", _read_transport_stream),
    (0, _PACK, _read_program_stream),
)
