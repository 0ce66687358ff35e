"""The int8 table: rounding per row, the file's layout, sharing between variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, EMBEDDINGS_INT8_FILE
from qwen3_asr_onnx.model.embeddings import EmbeddingTable
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe
from qwen3_asr_onnx_quantize.schemes.embedding import int8_table_bytes, quantize_rows, rows_of_file, write_int8_table


def test_rows_are_rounded_to_their_own_scale() -> None:
    rows = np.array([[1.0, -127.0, 64.4], [0.001, 0.0, -0.002], [0, 0, 0]], dtype=np.float32)
    codes, scales = quantize_rows(rows)
    assert codes.tolist() == [[1, -127, 64], [64, 0, -127], [0, 0, 0]]
    np.testing.assert_allclose(scales, [1, 0.002 / 127, 1], rtol=1e-6)


def test_the_file_is_codes_then_scales(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((5000, 24)).astype("<f2")  # more rows than one piece
    source, target = tmp_path / EMBEDDINGS_FILE, tmp_path / EMBEDDINGS_INT8_FILE
    source.write_bytes(table.tobytes())
    done: list[int] = []
    record = write_int8_table(rows_of_file(source, 5000, 24), target, 5000, done.append)
    assert record == file_record(target)
    assert record.size == int8_table_bytes(*table.shape) == 5000 * 28
    assert sum(done) == table.nbytes
    codes, scales = quantize_rows(table.astype(np.float32))
    assert target.read_bytes() == codes.tobytes() + scales.tobytes()
    ids = np.array([4999, 0, 4096])
    expected = codes[ids].astype(np.float32) * scales[ids][:, None]
    np.testing.assert_array_equal(EmbeddingTable(target, *table.shape).rows(ids), expected)
    np.testing.assert_array_equal(EmbeddingTable(source, *table.shape).rows(ids), table[ids].astype(np.float32))


def test_compact_shares_everything_else_with_int4(bundle: Path) -> None:
    quantize_bundle(bundle, load_recipe("int4"))
    before = {path.name for path in bundle.iterdir()}
    variants = quantize_bundle(bundle, load_recipe("compact")).manifest.variants
    assert {path.name for path in bundle.iterdir()} - before == {EMBEDDINGS_INT8_FILE}
    assert set(variants["compact"].files) - set(variants["int4"].files) == {EMBEDDINGS_INT8_FILE}
    assert EMBEDDINGS_FILE not in variants["compact"].files


def test_replacing_a_variant_leaves_the_shared_table(bundle: Path) -> None:
    for name in ("compact", "int4"):
        quantize_bundle(bundle, load_recipe(name))
    made = quantize_bundle(bundle, load_recipe("compact"), force=True)
    assert made.verify() == []
    assert (bundle / EMBEDDINGS_FILE).is_file()
