"""Logits of a rounded head + final hidden states -> the same logits, the best few computed anew and exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .embeddings import EmbeddingTable

__all__ = ["rescore"]

Floats = npt.NDArray[np.float32]

BLOCK = 128
"""Logits that are looked at together: the best few lie in the blocks with the best few maxima, and nearly all others
need not be sorted. A tenth of the time of a partition of the whole row."""


def rescore(logits: Floats, hidden: Floats, table: EmbeddingTable, count: int) -> None:
    """Replace the largest `count` logits of each row, in place.

    Args:
        logits: (..., vocab) float32.
        hidden: (..., hidden) float32, of the same rows.
        table: the rows of the head, which shares them with the embeddings.
        count: how many per row.
    """
    for row, state in zip(logits.reshape(-1, logits.shape[-1]), hidden.reshape(-1, hidden.shape[-1]), strict=True):
        candidates = _largest(row, count)
        if np.isfinite(row[candidates]).all():  # otherwise what is damaged shall show
            row[candidates] = table.rows(candidates) @ state


def _largest(row: Floats, count: int) -> npt.NDArray[np.intp]:
    """Return where the largest `count` values of a row are, in any order; NaN is the largest of all."""
    n_blocks = len(row) // BLOCK
    if n_blocks <= count:
        return np.argpartition(row, -count)[-count:]
    maxima = row[: n_blocks * BLOCK].reshape(n_blocks, BLOCK).max(axis=1)
    blocks = np.argpartition(maxima, -count)[-count:]
    inside = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    places = np.concatenate([inside, np.arange(n_blocks * BLOCK, len(row))])
    return places[np.argpartition(row[places], -count)[-count:]]
