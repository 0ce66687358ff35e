"""A safetensors file -> where its tensors lie, and runs of their rows in float32: by numpy alone.

The format is a length of 8 bytes, a JSON object of that length and the numbers, one tensor after the other. What the
header says is believed only where it accounts for every byte of the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.json_text import parse_json, require_regular
from qwen3_asr_onnx.errors import BundleError

__all__ = ["NUMPY_DTYPES", "Floats", "TensorRef", "read_columns", "read_rows", "stored_tensors"]

Floats: TypeAlias = npt.NDArray[np.float32]

MAX_HEADER_BYTES = 100_000_000
"""As in safetensors itself."""

READ_BYTES = 8 << 20
"""Largest piece that is read to take some of its columns."""

NUMPY_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""How weights may be stored, as safetensors spells it, and what numpy reads them as: it knows no bfloat16."""

STORED_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
}
"""Bits of an element of every dtype of the format: what a file holds beside weights must be counted too."""


@dataclass(frozen=True, slots=True)
class TensorRef:
    """Where one tensor lies.

    Attributes:
        file: the safetensors file.
        key: its name there.
        shape: its shape.
        dtype: as safetensors spells it ("BF16").
        offset: its first byte in the file.
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    offset: int


def stored_tensors(file: Path) -> list[TensorRef]:
    """Return every tensor of a safetensors file, in the order of its header.

    Raises:
        BundleError: the file is damaged or truncated, or no safetensors file.
    """
    try:
        size = require_regular(file).st_size
        with file.open("rb") as stream:
            n_bytes = int.from_bytes(stream.read(8), "little")
            if not 2 <= n_bytes <= min(MAX_HEADER_BYTES, size - 8):
                raise _damaged(file, f"a header of {n_bytes} bytes in a file of {size}")
            header = parse_json(stream.read(n_bytes).decode("utf-8"), file)
        start = 8 + n_bytes
        entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
        tensors = [_tensor(file, key, entry, start) for key, entry in entries.items()]
    except (OSError, UnicodeDecodeError, AttributeError) as error:
        raise _damaged(file, str(error)) from error
    ends = sorted((ref.offset, ref.offset + _n_bytes(ref)) for ref in tensors)
    if any(end != following for (_, end), (following, _) in pairwise([(start, start), *ends, (size, size)])):
        raise _damaged(file, "its tensors do not fill it")
    return tensors


def _tensor(file: Path, key: str, entry: Any, start: int) -> TensorRef:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = [begin, end, *shape]
        if not all(type(number) is int and 0 <= number < 1 << 48 for number in whole) or dtype not in STORED_BITS:
            raise ValueError("no such dtype, shape or place")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file, f"{key[:80]!r}: {error}") from error
    ref = TensorRef(file, key, tuple(shape), dtype, start + begin)
    if end - begin != _n_bytes(ref):
        raise _damaged(file, f"{key[:80]!r} has {end - begin} bytes for its shape {list(shape)}")
    return ref


def _n_bytes(ref: TensorRef) -> int:
    return -(-math.prod(ref.shape) * STORED_BITS[ref.dtype] // 8)


def _damaged(file: Path, why: str) -> BundleError:
    return BundleError(f"{file}: damaged or truncated ({why}); download it again")


def read_rows(ref: TensorRef, start: int, stop: int) -> Floats:
    """Return rows [start, stop) of a tensor of weights along its first axis, in float32.

    Raises:
        BundleError: the file has been cut short or cannot be read.
    """
    return _float32(_raw_rows(ref, start, stop), ref.dtype)


def read_columns(ref: TensorRef, start: int, stop: int) -> Floats:
    """Return columns [start, stop) of a matrix as rows of its transpose, in float32 and C order.

    Raises:
        BundleError: as `read_rows`.
    """
    rows, columns = ref.shape
    result = np.empty((stop - start, rows), NUMPY_DTYPES[ref.dtype])
    step = max(1, READ_BYTES // (result.itemsize * columns))
    for first in range(0, rows, step):
        last = min(first + step, rows)
        result[:, first:last] = _raw_rows(ref, first, last)[:, start:stop].T
    return _float32(result, ref.dtype)


def _raw_rows(ref: TensorRef, start: int, stop: int) -> npt.NDArray[Any]:
    """Return rows as stored. The file is read anew, not mapped: mapped pages count as this process's memory."""
    assert 0 <= start <= stop <= ref.shape[0], (ref, start, stop)
    dtype = np.dtype(NUMPY_DTYPES[ref.dtype])
    shape = (stop - start, *ref.shape[1:])
    count, row_bytes = math.prod(shape), math.prod(ref.shape[1:]) * dtype.itemsize
    try:
        raw = np.fromfile(ref.file, dtype, count, offset=ref.offset + start * row_bytes)
    except OSError as error:
        raise BundleError(f"{ref.file}: {ref.key} cannot be read ({error}); download the file again") from error
    if raw.size != count:
        raise BundleError(f"{ref.file}: {ref.key} cannot be read (the file was cut short); download the file again")
    return raw.reshape(shape)


def _float32(raw: npt.NDArray[Any], dtype: str) -> Floats:
    if dtype == "BF16":  # the upper half of a float32
        widened: Floats = np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
        return widened
    with np.errstate(over="ignore"):  # infinity is looked for where the numbers are used
        values: Floats = raw.astype(np.float32, copy=False)
    return values
