"""Token ids -> embedding rows, from the bundle's FP16 table, which is memory-mapped and never copied whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .types import AudioFeatures

__all__ = ["EmbeddingTable"]


class EmbeddingTable:
    """The rows of `embed_tokens.bin`, (vocab_size, hidden) FP16. Safe to use from several threads at once."""

    def __init__(self, path: Path, vocab_size: int, hidden: int) -> None:
        self._table = np.memmap(path, dtype=np.float16, mode="r", shape=(vocab_size, hidden))

    def rows(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return (n, hidden) float32 for n ids."""
        rows: npt.NDArray[np.float32] = self._table[ids].astype(np.float32)
        return rows

    def splice(
        self, ids: npt.NDArray[np.integer], features: AudioFeatures, audio_start: int
    ) -> npt.NDArray[np.float32]:
        """Return the embedded prompt with the audio in its place.

        Args:
            ids: (n,) token ids, with as many placeholders as there are features.
            features: (n_audio_tokens, hidden) float32.
            audio_start: index of the first placeholder.

        Returns:
            (n, hidden) float32.
        """
        embedded = self.rows(ids)
        embedded[audio_start : audio_start + len(features)] = features
        return embedded
