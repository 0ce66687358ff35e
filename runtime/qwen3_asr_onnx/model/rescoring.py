"""Logits of a rounded head + final hidden states -> the same logits, the best few computed anew and exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .embeddings import EmbeddingTable

__all__ = ["rescore"]

Floats = npt.NDArray[np.float32]


def rescore(logits: Floats, hidden: Floats, table: EmbeddingTable, count: int) -> None:
    """Replace the largest `count` logits of each row, in place.

    Args:
        logits: (..., vocab) float32.
        hidden: (..., hidden) float32, of the same rows.
        table: the rows of the head, which shares them with the embeddings.
        count: how many per row.
    """
    for row, state in zip(logits.reshape(-1, logits.shape[-1]), hidden.reshape(-1, hidden.shape[-1]), strict=True):
        candidates = np.argpartition(row, -count)[-count:]  # NaN is the largest of all
        if np.isfinite(row[candidates]).all():  # otherwise what is damaged shall show
            row[candidates] = table.rows(candidates) @ state
