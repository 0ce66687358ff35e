"""Packed weights that a prepared graph points to: moved to where the kernels can use them in place.

onnxruntime writes packed weights of less than 1 MB one behind the other, and gives kernels the address in the mapped
file as it is. The kernel of 4-bit weights looks for its data on the next cache line from there, and computes nonsense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from qwen3_asr_onnx.bundle.writing import LINE_BYTES, aligned

__all__ = ["placed_weights", "relocate_packed"]

ENTRIES = (7, 5, 13)
"""Fields of an ONNX file that lead to what is said of external data: graph, initializer, external_data."""

KEY, VALUE = 1, 2
BYTES = 2
"""The wire type of what has a length; the others of protobuf are 0 (varint), 1 (8 bytes) and 5 (4 bytes)."""


def relocate_packed(graph: Path, weights: Path) -> None:
    """Move what is not on a cache line to the end of the file of weights, and let the graph point there.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the graph is not what onnxruntime writes.
    """
    with weights.open("r+b") as file:

        def relocated(entry: bytes) -> bytes:
            fields = {number: entry[start:end] for number, _, _, start, end in _fields(entry)}
            if not fields.get(KEY, b"").startswith(b"prepacked_"):
                return entry
            key, *blobs = fields[VALUE].decode().split("|")
            value = "|".join([key, *(_moved(file, blob) for blob in blobs)])
            return _field(KEY, fields[KEY]) + _field(VALUE, value.encode())

        body = _rewritten(graph.read_bytes(), ENTRIES, relocated)
    graph.write_bytes(body)


def placed_weights(graph: Path) -> dict[tuple[str, str], int]:
    """Return the file and offset -> bytes of the weights that a graph has outside: where they are packed, as such.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no graph.
    """
    found = {}
    for tensor in _inner(graph.read_bytes(), ENTRIES[:2]):
        entries: dict[str, str] = {}
        for entry in _inner(tensor, ENTRIES[2:]):
            fields = {number: entry[start:end].decode() for number, _, _, start, end in _fields(entry)}
            entries[fields[KEY]] = fields.get(VALUE, "")
        packed = [value.split("|")[1:] for key, value in entries.items() if key.startswith("prepacked_")]
        if "location" in entries:
            blobs = [blob.split(";") for value in packed for blob in value] or [
                [entries.get("offset", "0"), entries.get("length", "0")]
            ]
            found.update({(entries["location"], blob[0]): int(blob[1]) for blob in blobs})
    return found


def _inner(message: bytes, path: tuple[int, ...]) -> Iterator[bytes]:
    """Yield what lies at a path of fields."""
    for number, wire, _, start, end in _fields(message):
        if wire == BYTES and number == path[0]:
            inner = message[start:end]
            yield from _inner(inner, path[1:]) if len(path) > 1 else [inner]


def _moved(file: BinaryIO, blob: str) -> str:
    """Return "offset;length;..." of a blob that lies on a cache line now."""
    offset, length, *rest = blob.split(";")
    if not int(offset) % LINE_BYTES:
        return blob
    file.seek(int(offset))
    content = file.read(int(length))
    end = file.seek(0, 2)
    place = aligned(end, len(content))
    file.write(bytes(place - end) + content)
    return ";".join([str(place), length, *rest])


def _rewritten(message: bytes, path: tuple[int, ...], change: Callable[[bytes], bytes]) -> bytes:
    """Return a message with what lies at a path of fields changed."""
    parts = []
    for number, wire, begin, start, end in _fields(message):
        if wire != BYTES or number != path[0]:
            parts.append(message[begin:end])
            continue
        inner = message[start:end]
        parts.append(_field(number, _rewritten(inner, path[1:], change) if len(path) > 1 else change(inner)))
    return b"".join(parts)


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, begin, start of the value and end of every field.

    Raises:
        ValueError: this is no message.
    """
    begin = 0
    while begin < len(message):
        tag, start = _varint(message, begin)
        wire = tag & 7
        if wire == BYTES:
            length, start = _varint(message, start)
            end = start + length
        elif wire == 0:
            end = _varint(message, start)[1]
        elif wire in (1, 5):
            end = start + (8 if wire == 1 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if end > len(message):
            raise ValueError("a field is cut off")
        yield tag >> 3, wire, begin, start, end
        begin = end


def _field(number: int, value: bytes) -> bytes:
    return _encoded(number << 3 | BYTES) + _encoded(len(value)) + value


def _varint(message: bytes, start: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(start, min(start + 10, len(message))):
        value |= (message[place] & 0x7F) << shift
        if message[place] < 0x80:
            return value, place + 1
        shift += 7
    raise ValueError("a number is cut off")


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
