"""What a prepared graph says of its packed weights, and where they are moved to; byte by byte, without onnx."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwen3_asr_onnx.model.relocating import placed_weights, relocate_packed


def field(number: int, value: bytes | int) -> bytes:
    """Return a field of protobuf whose number and length fit into a byte each, or a length into two."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    length = bytes([len(value)]) if len(value) < 0x80 else bytes([len(value) & 0x7F | 0x80, len(value) >> 7])
    return bytes([number << 3 | 2]) + length + value


def tensor(**entries: str) -> bytes:
    said = b"".join(field(13, field(1, key.encode()) + field(2, value.encode())) for key, value in entries.items())
    return field(5, field(2, 1) + field(8, b"w") + said)


def graph(*tensors: bytes) -> bytes:
    return field(1, 10) + field(7, field(2, b"main graph") + b"".join(tensors)) + b"\x4d\x00\x00\x00\x00"  # 4 bytes


def test_what_is_off_its_line_moves_to_the_end_and_the_rest_stays(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(range(200)) + bytes(50))
    before = graph(
        tensor(location="weights.bin", offset="0", length="64", prepacked_0="MatMul+1|128;8;0|130;5;0"),
        tensor(location="weights.bin", offset="70", length="6"),
        tensor(offset="70"),
    )
    (tmp_path / "graph.onnx").write_bytes(before)
    relocate_packed(tmp_path / "graph.onnx", weights)
    after = (tmp_path / "graph.onnx").read_bytes()
    assert after == graph(
        tensor(location="weights.bin", offset="0", length="64", prepacked_0="MatMul+1|128;8;0|256;5;0"),
        tensor(location="weights.bin", offset="70", length="6"),
        tensor(offset="70"),
    )
    assert weights.read_bytes() == bytes(range(200)) + bytes(56) + bytes(range(130, 135))
    relocate_packed(tmp_path / "graph.onnx", weights)  # nothing is left to move
    assert (tmp_path / "graph.onnx").read_bytes() == after
    assert placed_weights(tmp_path / "graph.onnx") == {
        ("weights.bin", "128"): 8,
        ("weights.bin", "256"): 5,
        ("weights.bin", "70"): 6,
    }


@pytest.mark.parametrize("damaged", [b"\x3a\xff", b"\x3a\x05ab", b"\x3b", b"\x80" * 11])
def test_what_is_no_graph_is_told(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(damaged)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cut off|wire type"):
        relocate_packed(tmp_path / "graph.onnx", tmp_path / "weights.bin")
