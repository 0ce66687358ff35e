"""safetensors files read by numpy: the numbers are those of safetensors itself, and no header is believed blindly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_export import stored_file
from qwen3_asr_onnx_export.stored_file import read_columns, read_rows, stored_tensors


def write(path: Path, header: dict[str, Any] | str, data: bytes) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_numbers_are_those_of_safetensors(tmp_path: Path, dtype: type) -> None:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {name: rng.standard_normal((7, 5)).astype(dtype) for name in "ab"}
    save_file({**arrays, "c": np.arange(3, dtype=np.int8)}, tmp_path / "file.safetensors", {"format": "pt"})
    refs = {ref.key: ref for ref in stored_tensors(tmp_path / "file.safetensors")}
    assert refs["c"].dtype == "I8"
    for name, array in arrays.items():
        expected = array.astype(np.float32)
        assert np.array_equal(read_rows(refs[name], 0, 7), expected)
        assert np.array_equal(read_rows(refs[name], 2, 6), expected[2:6])
        columns = read_columns(refs[name], 1, 4)
        assert np.array_equal(columns, expected.T[1:4])
        assert columns.flags.c_contiguous
        assert columns.dtype == np.float32


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.arange(0, 1 << 16, dtype=np.uint16).reshape(256, 256)  # every number there is
    file = write(tmp_path / "file", {"a": entry("BF16", [256, 256], 0, bits.nbytes)}, bits.tobytes())
    (ref,) = stored_tensors(file)
    expected = bits.astype(np.uint32) << 16
    assert np.array_equal(read_rows(ref, 0, 256).view(np.uint32), expected)
    monkeypatch.setattr(stored_file, "READ_BYTES", 3 * 512)  # three rows at once
    assert np.array_equal(read_columns(ref, 250, 256).view(np.uint32), expected.T[250:])


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("[1]", 8),
        ("{", 8),
        ('{"a": 5}', 8),
        ({"a": entry("F32", [2], 0, 8)}, 7),
        ({"a": entry("F32", [2], 0, 8)}, 9),
        ({"a": entry("F32", [3], 0, 8)}, 8),
        ({"a": entry("F32", [2], 8, 16)}, 16),
        ({"a": entry("F32", [-2], 8, 0)}, 8),
        ({"a": entry("F32", [1 << 50], 0, 1 << 52)}, 8),
        ({"a": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}}, 8),
        ({"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, 8),
        ({"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, 12),
        ({"a": entry("F99", [2], 0, 8)}, 8),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path: Path, header: Any, size: int) -> None:
    with pytest.raises(BundleError, match=r"file: (damaged or truncated|not valid JSON)"):
        stored_tensors(write(tmp_path / "file", header, bytes(size)))


@pytest.mark.parametrize("content", [b"", b"1234567", (1 << 60).to_bytes(8, "little") + b"{}", bytes(8)])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BundleError, match="file: damaged or truncated"):
        stored_tensors(tmp_path / "file")


def test_a_file_cut_short_later_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "file", {"a": entry("F32", [4, 2], 0, 32)}, bytes(32))
    (ref,) = stored_tensors(file)
    file.write_bytes(file.read_bytes()[:-4])
    assert read_rows(ref, 0, 3).shape == (3, 2)
    with pytest.raises(BundleError, match="a cannot be read"):
        read_rows(ref, 0, 4)
    file.unlink()
    with pytest.raises(BundleError, match="a cannot be read"):
        read_columns(ref, 0, 1)
