"""Token ids -> embedding rows, from the bundle's FP16 or int8 table, which is memory-mapped and never copied whole."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import AudioFeatures
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_INT8_FILE
from qwen3_asr_onnx.errors import BundleError

__all__ = ["Embedded", "EmbeddingTable"]

Embedded: TypeAlias = npt.NDArray[np.float32]
"""(n_tokens, hidden) float32, what the decoder reads."""


class EmbeddingTable:
    """The rows of `embed_tokens.bin` or `embed_tokens.int8.bin`. Safe to use from several threads at once."""

    def __init__(self, path: Path, vocab_size: int, hidden: int) -> None:
        """Map a table; its name tells its form, see `bundle`.

        Raises:
            BundleError: it is missing, or has not the size that these dimensions give.
        """
        shape = (vocab_size, hidden)
        expected = vocab_size * (hidden + 4 if path.name == EMBEDDINGS_INT8_FILE else 2 * hidden)
        try:
            found = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error}); export or download the bundle again") from error
        if found != expected:
            raise BundleError(
                f"{path}: {found} bytes, but decoder.vocab_size {vocab_size} and decoder.hidden {hidden} give "
                f"{expected}; export or download the bundle again"
            )
        self._scales: npt.NDArray[np.float32] | None = None
        if path.name == EMBEDDINGS_INT8_FILE:
            self._table: npt.NDArray[np.generic] = np.memmap(path, dtype=np.int8, mode="r", shape=shape)
            self._scales = np.memmap(path, dtype="<f4", mode="r", offset=vocab_size * hidden, shape=(vocab_size, 1))
        else:
            self._table = np.memmap(path, dtype="<f2", mode="r", shape=shape)

    def rows(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return (n, hidden) float32 for n ids.

        Raises:
            BundleError: the table has no such row; the tokenizer is of another model.
        """
        try:
            rows: npt.NDArray[np.float32] = self._table[ids].astype(np.float32)
        except IndexError as error:
            raise BundleError(
                f"the table of embeddings has {len(self._table)} rows, and a token has the id {int(ids.max())}; the "
                "bundle is damaged, export or download it again"
            ) from error
        if self._scales is not None:
            rows *= self._scales[ids]
        return rows

    def splice(self, ids: npt.NDArray[np.integer], features: AudioFeatures, audio_start: int) -> Embedded:
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
