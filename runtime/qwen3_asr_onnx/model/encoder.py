"""Log-mel features -> audio embeddings, in windows of 8 seconds.

The encoder's attention never leaves a window, so windows of all inputs are grouped by length and run a few at a time:
memory depends on the group, never on the length of the audio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qwen3_asr_onnx.arrays import AudioFeatures, Mel
from qwen3_asr_onnx.bundle.manifest import EncoderDims
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, MEL, N_FRAMES

from .choosing import refuse_nan
from .features import n_audio_tokens
from .session import Session

__all__ = ["AudioEncoder"]

WINDOWS_PER_CALL = 1
"""The convolution stem needs about 100 MB per full window of the 0.6B and 1.7B models, and one window keeps the cores
busy: 4 at a time are no faster (20 ms per second of audio on two cores, either way)."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Frames [start, start + n_frames) of input `source`."""

    source: int
    start: int
    n_frames: int


class AudioEncoder:
    """Runs the encoder graph of a bundle."""

    def __init__(self, session: Session, dims: EncoderDims) -> None:
        self._session = session
        self._dims = dims

    def encode(self, mels: Sequence[Mel]) -> list[AudioFeatures]:
        """Encode any number of inputs of any length.

        Args:
            mels: each (n_mels, n_frames) float32.

        Returns:
            For each input (n_audio_tokens, output_dim) float32.

        Raises:
            BundleError: they are not numbers, because the weights are damaged.
        """
        features = self._empty(mels)
        for _ in self._by_calls(mels, features):
            pass
        return features

    def encode_in_turns(self, mel: Mel) -> Generator[None, None, AudioFeatures]:
        """Encode one input as `encode` does, one window at each turn; others may have the model in between.

        Yields:
            Behind every window.

        Returns:
            (n_audio_tokens, output_dim) float32.
        """
        features = self._empty([mel])
        yield from self._by_calls([mel], features)
        return features[0]

    def _empty(self, mels: Sequence[Mel]) -> list[AudioFeatures]:
        return [np.empty((self._n_tokens(m.shape[1]), self._dims.output_dim), dtype=np.float32) for m in mels]

    def _by_calls(self, mels: Sequence[Mel], features: Sequence[AudioFeatures]) -> Iterator[None]:
        """Fill in the features, and yield behind every call of the graph."""
        # Only windows of equal padded length share a call: a 1-second tail padded to 8 seconds costs 8 times its due.
        by_length: dict[int, list[_Window]] = defaultdict(list)
        for source, mel in enumerate(mels):
            for start in range(0, mel.shape[1], self._dims.window_frames):
                window = _Window(source, start, min(self._dims.window_frames, mel.shape[1] - start))
                by_length[self._padded(window.n_frames)].append(window)
        for length, windows in by_length.items():
            for first in range(0, len(windows), WINDOWS_PER_CALL):
                self._encode_windows(mels, windows[first : first + WINDOWS_PER_CALL], length, features)
                yield

    def _n_tokens(self, n_frames: int) -> int:
        return n_audio_tokens(n_frames, self._dims.block_frames)

    def _padded(self, n_frames: int) -> int:
        block = self._dims.block_frames
        return -(-n_frames // block) * block

    def _encode_windows(
        self, mels: Sequence[Mel], windows: Sequence[_Window], length: int, features: Sequence[AudioFeatures]
    ) -> None:
        """Run one batch of windows and put the valid rows where they belong in `features`."""
        batch = np.zeros((len(windows), mels[0].shape[0], length), dtype=np.float32)
        for row, window in enumerate(windows):
            stop = window.start + window.n_frames
            batch[row, :, : window.n_frames] = mels[window.source][:, window.start : stop]
        n_frames = np.array([window.n_frames for window in windows], dtype=np.int64)
        encoded = self._session.run(AUDIO_FEATURES, {MEL: batch, N_FRAMES: n_frames})
        refuse_nan(encoded, "audio features", self._session.path)
        for row, window in enumerate(windows):
            first = self._n_tokens(window.start)
            count = self._n_tokens(window.n_frames)
            features[window.source][first : first + count] = encoded[row, :count]
