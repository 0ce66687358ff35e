"""What every streaming policy is: how it is made, how it is fed, what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import StreamOptions

from .updates import StreamUpdate

__all__ = ["WAY_OUT", "PolicyFactory", "StreamPolicy"]

WAY_OUT = "finish the stream and start another"
"""What a user may do when a stream outgrows the model's positions."""


class StreamPolicy(Protocol):
    """One stream on its way: everything that is remembered between two pieces of audio."""

    def feed(self, samples: Waveform, *, hurried: bool = False) -> Iterator[StreamUpdate]:
        """Take in 16 kHz samples and yield what is newly known; the result does not depend on how they are portioned.

        `hurried` asks for fewer hypotheses, because more audio is waiting. All samples are taken in before the first
        update is computed, so an abandoned iterator loses no audio.
        """
        ...

    def finish(self) -> Iterator[StreamUpdate]:
        """Yield what the rest of the audio gives; the last update commits everything."""
        ...


PolicyFactory: TypeAlias = Callable[[Model, Prompter, StreamOptions], StreamPolicy]
"""Makes the policy of one stream, which has heard nothing yet."""
