"""FP16 embedding table -> int8 codes and one float32 scale per token, streamed, in the form `bundle` describes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import FileRecord
from qwen3_asr_onnx.bundle.writing import HashedFile

__all__ = ["Embedding", "TableRows", "int8_table_bytes", "quantize_rows", "rows_of_file", "write_int8_table"]

Floats: TypeAlias = npt.NDArray[np.float32]

TableRows: TypeAlias = Callable[[int, int], npt.NDArray[np.float16]]
"""Gives rows [start, stop) of the FP16 table."""

ROWS_AT_ONCE = 4096
LARGEST_CODE = 127


@dataclass(frozen=True, slots=True)
class Embedding:
    """The table of input embeddings: "fp16", as exported and shared by variants, or "int8" with one scale per token."""

    scheme: Literal["fp16", "int8"] = "fp16"


def int8_table_bytes(vocab_size: int, hidden: int) -> int:
    """Return the size of the file that `write_int8_table` writes."""
    return vocab_size * (hidden + 4)


def quantize_rows(rows: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return codes (n, hidden) int8 and scales (n,) float32 of rows (n, hidden): row = codes x scale."""
    scales = np.abs(rows).max(axis=1) / np.float32(LARGEST_CODE)
    # A row of zeros has codes 0 under any scale.
    scales[scales < np.finfo(np.float32).tiny] = 1
    return np.rint(rows / scales[:, None]).astype(np.int8), scales


def rows_of_file(file: Path, vocab_size: int, hidden: int) -> TableRows:
    """Return what gives rows of the table in a file."""
    table = np.memmap(file, dtype="<f2", mode="r", shape=(vocab_size, hidden))
    return lambda start, stop: table[start:stop]


def write_int8_table(
    source: TableRows, target: Path, vocab_size: int, progress: Callable[[int], object] | None = None
) -> FileRecord:
    """Write the int8 form of an FP16 table.

    Args:
        source: gives rows of the table.
        target: the file to write.
        vocab_size: rows.
        progress: called with the bytes of the source just done.

    Returns:
        Size and sha256 of the new file.
    """
    all_scales = []
    with target.open("wb") as file:
        out = HashedFile(file)
        for start in range(0, vocab_size, ROWS_AT_ONCE):
            rows = source(start, min(start + ROWS_AT_ONCE, vocab_size))
            codes, scales = quantize_rows(rows.astype(np.float32))
            out.write(codes)
            all_scales.append(scales)
            if progress is not None:
                progress(rows.nbytes)
        out.write(np.concatenate(all_scales).astype("<f4"))
    return out.record()
