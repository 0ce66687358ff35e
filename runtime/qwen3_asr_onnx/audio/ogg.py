"""The pages of an Ogg file: where logical streams follow each other, and which pages are missing or cut.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus), the Vorbis I specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .layout import HeaderBytes, Layout, Part

__all__ = ["read_ogg"]

_OGG_BEGIN, _OGG_END = 2, 4
_OPUS_RATE = 48_000

_LONGEST_PAGE_S = 60
"""255 packets of Opus are 31 s. A position further behind the last one is a damaged one."""


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


def _ogg_pages(data: HeaderBytes, offset: int = 0) -> Iterator[_Page | int]:
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
        n_pages = max(1, page.number + 1 - self.expected.get(page.serial, page.number))
        self.expected[page.serial] = page.number + 1
        if not self.granule or page.granule - self.granule <= n_pages * _LONGEST_PAGE_S * max(self.rate, 1):
            self.granule = max(self.granule, page.granule)
        if page.flags & _OGG_END:
            self.ended.add(page.serial)


def read_ogg(data: HeaderBytes, layout: Layout) -> None:
    """Walk all pages: a part ends where, after its first sound, another logical stream begins."""
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
