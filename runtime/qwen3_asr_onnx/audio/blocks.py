"""Audio as every decoder hands it on: blocks of mono float32 at a rate that was checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError

__all__ = ["BLOCK_FRAMES", "AudioStream", "check_rate"]

BLOCK_FRAMES = 8_192
"""Frames decoded at once. A damaged FLAC loses at most one such block (0.5 s at 16 kHz) before the damage."""

_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000
"""Below 1 kHz no speech survives; 768 kHz is the highest rate of any converter on sale."""


@dataclass
class AudioStream:
    """Audio as a decoder hands it out.

    Attributes:
        sample_rate: Hz.
        promised_frames: length according to the container; None when it does not say.
        blocks: (n,) float32 mono blocks at `sample_rate`, channels averaged.
        faults: filled by `blocks` with what went wrong while decoding.
    """

    sample_rate: int
    promised_frames: int | None
    blocks: Iterator[Waveform]
    faults: list[str] = field(default_factory=list)


def check_rate(sample_rate: float, name: str) -> int:
    """Return the sampling rate as an integer number of Hz.

    Raises:
        AudioError: the rate is not a whole number of Hz from 1,000 to 768,000.
    """
    if not _MIN_RATE_HZ <= sample_rate <= _MAX_RATE_HZ or sample_rate != int(sample_rate):
        raise AudioError(
            f"{name}: the sampling rate is {sample_rate} Hz; {_MIN_RATE_HZ} to {_MAX_RATE_HZ} Hz in whole Hz are read. "
            "The header is probably damaged; export the audio again"
        )
    return int(sample_rate)
