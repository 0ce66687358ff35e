"""Walking the frames of MPEG audio in leaps finds what walking them one by one does."""

from __future__ import annotations

import io
import random
import struct

import pytest

from qwen3_asr_onnx.audio import mpeg
from qwen3_asr_onnx.audio.layout import HeaderBytes, Layout


def frame(rng: random.Random, bitrate: int, information: bytes = b"", *, rate: int = 1) -> bytes:
    head = bytes([0xFF, 0xF3, bitrate << 4 | rate << 2 | rng.choice([0, 0, 2]), rng.choice([0x00, 0x40, 0x50, 0xC0])])
    known = mpeg.mpeg_frame(HeaderBytes(io.BytesIO(head)), 0)
    assert known is not None
    return (head + bytes(known.side_bytes) + information).ljust(known.length, b"\x55")[: known.length]


def piece(rng: random.Random) -> bytes:
    kind = rng.randrange(12)
    if kind == 0:
        return frame(rng, 9, b"Xing" + struct.pack(">II", 1, rng.choice([0, 3, 40, 300])))
    if kind == 1:
        return frame(rng, 9, b"Info" + struct.pack(">II", 0, 0))
    if kind == 2:
        return frame(rng, 5, rate=rng.choice([0, 2]))
    if kind == 3:
        return rng.choice([bytes(rng.randrange(300)), rng.randbytes(rng.randrange(300)), b"TAG".ljust(128, b"x")])
    if kind == 4:
        return frame(rng, 5)[: rng.randrange(100)]
    return b"".join(frame(rng, rng.choice([5, 5, 5, 1, 9])) for _ in range(rng.choice([1, 5, 60])))


@pytest.mark.parametrize("seed", range(40))
def test_leaps_find_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    content = frame(rng, 5) + b"".join(piece(rng) for _ in range(20))
    content = content[: len(content) - rng.randrange(3) * 7]
    layouts = []
    for chunk_bytes in (0, 50, 1000, 1 << 16):
        monkeypatch.setattr(mpeg, "_CHUNK_BYTES", chunk_bytes)
        layout = Layout()
        mpeg.read_mpeg(HeaderBytes(io.BytesIO(content)), layout)
        layouts.append(layout)
    assert layouts[0].parts
    assert layouts[1:] == layouts[:1] * 3


def test_most_frames_are_leapt_over(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    content = b"".join(frame(rng, 5) for _ in range(5000))
    looked: list[int] = []
    look = mpeg.mpeg_frame

    def counted(data: HeaderBytes, offset: int) -> mpeg._Frame | None:
        looked.append(offset)
        return look(data, offset)

    monkeypatch.setattr(mpeg, "mpeg_frame", counted)
    layout = Layout()
    mpeg.read_mpeg(HeaderBytes(io.BytesIO(content)), layout)
    assert [part.n_frames for part in layout.parts] == [5000 * 576]
    assert len(looked) < 50
