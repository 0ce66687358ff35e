"""Exact logits for the best few tokens of each position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE
from qwen3_asr_onnx.model.embeddings import EmbeddingTable
from qwen3_asr_onnx.model.rescoring import rescore


@pytest.mark.parametrize("vocab", [500, 5000, 5120])  # a few blocks, many and a rest, many
def test_the_best_few_become_exact_and_all_others_stay(tmp_path: Path, vocab: int) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((vocab, 16)).astype("<f2")
    (tmp_path / EMBEDDINGS_FILE).write_bytes(table.tobytes())
    hidden = rng.standard_normal((2, 3, 16)).astype(np.float32)
    exact = hidden @ table.astype(np.float32).T
    rounded = exact + rng.standard_normal(exact.shape).astype(np.float32)
    logits = rounded.copy()

    rescore(logits, hidden, EmbeddingTable(tmp_path / EMBEDDINGS_FILE, vocab, 16), 4)

    best = np.argsort(rounded, axis=-1)[..., -4:]
    np.testing.assert_allclose(
        np.take_along_axis(logits, best, -1), np.take_along_axis(exact, best, -1), rtol=1e-4, atol=1e-5
    )
    changed = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(changed, best, True, -1)
    np.testing.assert_array_equal(logits[~changed], rounded[~changed])
