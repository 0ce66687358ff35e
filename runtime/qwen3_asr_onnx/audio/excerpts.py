"""Which part of a recording is wanted: from when to when, which track of a film, which channel or all of them mixed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError

from .blocks import AudioStream, average, to_float

__all__ = ["WHOLE", "CancelledMixWarning", "Excerpt", "Mixer", "begins_too_late", "cut_frames"]

_CANCELLED = 0.1
"""One voice on one of n channels has 1/n² of its power in the mix, and voices on several have more. A tenth of that is
left where channels are opposite and at most a third apart in loudness."""

_AUDIBLE = 1e-8
"""Mean square of what may be speech; there is no use in a word about the mix of silence."""

_JUDGED_AFTER_S = 30.0


class CancelledMixWarning(UserWarning):
    """The channels of a recording are opposite, so that mixed they cancel each other; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a recording.

    Attributes:
        start_s: where it begins, in seconds.
        end_s: where it ends; None is the end of the recording, and so is what lies behind that.
        track: audio track of a container, counted from 1; None is the first.
        channel: counted from 1; None mixes all.
    """

    start_s: float = 0.0
    end_s: float | None = None
    track: int | None = None
    channel: int | None = None


WHOLE = Excerpt()


class Mixer:
    """Makes one channel of those of a recording, and notices where mixing leaves nothing of them."""

    def __init__(self, name: str, channel: int | None = None) -> None:
        """Begin a recording.

        Args:
            name: what to call it in errors.
            channel: the one to take, counted from 1; None takes the mean of all.
        """
        self._name, self._channel = name, channel
        self._n_frames = 0
        self._powers = np.zeros(1)
        self._mixed = 0.0

    def __call__(self, samples: npt.NDArray[Any]) -> Waveform:
        """Return the samples of one channel, as `to_mono` returns the mean of them.

        Raises:
            AudioError: there is no such channel.
        """
        frames = to_float(samples)
        n_channels = 1 if frames.ndim == 1 else frames.shape[1]
        if self._channel is not None:
            self.check(n_channels)
            one: Waveform = frames if frames.ndim == 1 else np.ascontiguousarray(frames[:, self._channel - 1])
            return one
        if n_channels == 1:
            return frames.reshape(-1)
        mixed = average(frames)
        with np.errstate(over="ignore", invalid="ignore"):
            self._powers = self._powers + np.array([np.dot(channel, channel) for channel in frames.T], dtype=np.float64)
            self._mixed += float(np.dot(mixed, mixed))
        self._n_frames += len(frames)
        return mixed

    def check(self, n_channels: int) -> None:
        """Raise AudioError if a recording of so many channels lacks the one that is wanted."""
        if self._channel is not None and self._channel > n_channels:
            has = "1 channel" if n_channels == 1 else f"{n_channels} channels"
            raise AudioError(f"{self._name}: the recording has {has}, and channel {self._channel} was asked for")

    def watched(self, blocks: Iterator[Waveform], sample_rate: int) -> Iterator[Waveform]:
        """Yield the blocks that come of the mixing, and warn once if it cancels them: after 30 s, or at their end."""
        judged = False
        for block in blocks:
            if not judged and self._n_frames >= _JUDGED_AFTER_S * sample_rate:
                judged = self._warned()
            yield block
        if not judged:
            self._warned()

    def _warned(self) -> bool:
        loudest = float(self._powers.max())
        n_channels = self._powers.size
        if loudest <= _AUDIBLE * self._n_frames or self._mixed >= _CANCELLED * loudest / n_channels**2:
            return False
        warnings.warn(
            f"{self._name}: the channels cancel each other when they are mixed, as if one were wired the wrong way "
            "round; take one of them (channels='left', --channels left)",
            CancelledMixWarning,
            stacklevel=5,
        )
        return True


def cut_frames(stream: AudioStream, excerpt: Excerpt, name: str) -> Iterator[Waveform]:
    """Yield the blocks of an excerpt, at the rate of the stream; nothing behind it is read.

    Raises:
        AudioError: the recording ends before the excerpt begins.
    """
    first = round(excerpt.start_s * stream.sample_rate)
    end = None if excerpt.end_s is None else max(first + 1, round(excerpt.end_s * stream.sample_rate))
    at = stream.skip(first) if first and stream.skip is not None else 0
    found = False
    for block in stream.blocks:
        piece = block[max(0, first - at) : None if end is None else end - at]
        at += len(block)
        stream.reached = at
        stream.is_whole = end is None or at < end
        if piece.size:
            found = True
            yield piece
        if not stream.is_whole:
            return
    if first and not found:
        raise begins_too_late(name, excerpt)


def begins_too_late(name: str, excerpt: Excerpt) -> AudioError:
    """Return the error of an excerpt that begins where the recording has ended, or later."""
    return AudioError(f"{name}: the recording ends before {excerpt.start_s:.2f} s, where the excerpt would begin")
