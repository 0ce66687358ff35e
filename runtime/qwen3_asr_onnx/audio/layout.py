"""What a file is made of, and random access to its headers: what the readers of containers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["BLOCK_BYTES", "HeaderBytes", "Layout", "Part"]

BLOCK_BYTES = 1 << 20


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


class HeaderBytes:
    """Random access to a file through one block: walking headers forwards reads every block once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self._start = 0
        self._block = b""

    def at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` (at most a block) from an offset, a damaged one too; fewer at the end of the file."""
        if offset >= self.size:  # a header may name one that no file has, and that no system seeks to
            return b""
        if not self._start <= offset <= offset + n_bytes <= self._start + len(self._block):
            self._file.seek(offset)
            self._start, self._block = offset, self._file.read(max(BLOCK_BYTES, n_bytes))
        first = offset - self._start
        return self._block[first : first + n_bytes]

    def find(self, wanted: bytes, offset: int) -> int:
        """Return where the bytes occur next, -1 for nowhere."""
        while offset < self.size:
            block = self.at(offset, BLOCK_BYTES)
            found = block.find(wanted)
            if found >= 0:
                return offset + found
            if len(block) < BLOCK_BYTES:
                return -1
            offset += len(block) - len(wanted) + 1
        return -1
