"""What the benchmark drives: a recogniser that runs a clip stage by stage and times each, ours or upstream's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from qwen3_asr_onnx.arrays import Waveform

__all__ = ["Recognizer", "StageTimes", "timed"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall-clock times of one clip, in milliseconds.

    Attributes:
        mel_ms: waveform to log-mel features.
        encoder_ms: features to audio tokens.
        prefill_ms: prompt through the decoder, up to and including the first token.
        token_ms: each further token.
        n_prompt: positions in the cache before the first of them.
        n_written: tokens that were written, where that is not in the recogniser's hand; their mean is every `token_ms`.
        n_passes: how often a judge looked at what was drafted; None where none is. Every `token_ms` is the mean then.
        judged: its share of the time behind the first token.
    """

    mel_ms: float
    encoder_ms: float
    prefill_ms: float
    token_ms: tuple[float, ...]
    n_prompt: int
    n_written: int | None = None
    n_passes: int | None = None
    judged: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists for JSON."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return {**fields, "token_ms": list(self.token_ms)}


class Recognizer(Protocol):
    """Ours and upstream's, with the model loaded."""

    def run(self, waveform: Waveform, n_tokens: int) -> StageTimes:
        """Time one clip with exactly `n_tokens` greedy tokens, whatever the model wants to stop at."""

    def step_times(self, capacities: tuple[int, ...], n_tokens: int) -> dict[int, list[float]] | None:
        """Return milliseconds per token for caches of several capacities; None where there is no such thing."""


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Return what `call` returns and how many milliseconds it took."""
    start = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - start) * 1e3
