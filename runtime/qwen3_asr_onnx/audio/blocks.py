"""Audio as every decoder hands it on: blocks of mono float32 at a rate that was checked, and samples made into that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError

__all__ = [
    "BLOCK_FRAMES",
    "AudioStream",
    "Mix",
    "average",
    "block_frames",
    "channels_first",
    "check_rate",
    "in_frames",
    "to_float",
    "to_mono",
]

Mix: TypeAlias = Callable[[npt.NDArray[Any]], Waveform]
"""(n,) or (n, channels) floats or integers -> (n,) float32."""

BLOCK_FRAMES = 8_192
"""Frames decoded at once. A damaged FLAC loses at most one such block (0.5 s at 16 kHz) before the damage."""

_BLOCK_SAMPLES = 64 * BLOCK_FRAMES
"""Samples of all channels decoded at once: a WAV header may claim 65,535 channels, which would take gigabytes."""

_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000
"""Below 1 kHz no speech survives; 768 kHz is the highest rate of any converter on sale."""

_FULL_SCALE = {"i1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31, "u1": 2.0**7}
"""By numpy's codes, in either byte order."""

_MAX_CHANNELS = 8
"""An axis of an array that is longer than this counts frames, if the other one is not."""


@dataclass
class AudioStream:
    """Audio as a decoder hands it out.

    Attributes:
        sample_rate: Hz.
        promised_frames: length according to the container; None when it does not say.
        blocks: (n,) float32 mono blocks at `sample_rate`, channels averaged or one of them taken.
        faults: filled by `blocks` with what went wrong while decoding.
        n_channels: how many there are in the recording.
        skip: moves on by so many frames before the first block is read, and returns how many it passed over; None
            where only reading leads there exactly.
        reached: filled by who reads with the position behind the last block, in frames.
        is_whole: whether it was read to its end, as far as it was read.
    """

    sample_rate: int
    promised_frames: int | None
    blocks: Iterator[Waveform]
    faults: list[str] = field(default_factory=list)
    n_channels: int = 1
    skip: Callable[[int], int] | None = None
    reached: int = 0
    is_whole: bool = True


def check_rate(sample_rate: float, name: str) -> int:
    """Return the sampling rate as an integer number of Hz.

    Raises:
        AudioError: the rate is not a whole number of Hz from 1,000 to 768,000.
    """
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, float, np.integer, np.floating)):
        raise AudioError(f"{name}: the sampling rate is {sample_rate!r}; give a number of Hz")
    if not _MIN_RATE_HZ <= sample_rate <= _MAX_RATE_HZ or sample_rate != int(sample_rate):
        raise AudioError(
            f"{name}: the sampling rate is {sample_rate} Hz; {_MIN_RATE_HZ} to {_MAX_RATE_HZ} Hz in whole Hz are read. "
            "The header is probably damaged; export the audio again"
        )
    return int(sample_rate)


def block_frames(n_channels: int) -> int:
    """Return how many frames of so many channels to decode at once."""
    return min(BLOCK_FRAMES, max(1, _BLOCK_SAMPLES // n_channels))


def channels_first(samples: npt.NDArray[Any]) -> bool | None:
    """Return whether the first axis of an array counts its channels; None where that cannot be told from its shape.

    Of at most 8 channels and more frames than that, one axis tells. So short is no recording, but blocks of a live
    input may be: there the blocks before and behind tell.
    """
    if samples.ndim != 2 or not samples.size:
        return None
    rows, columns = map(int, samples.shape)
    if (rows <= _MAX_CHANNELS) != (columns <= _MAX_CHANNELS):
        return rows <= _MAX_CHANNELS
    return False if rows > columns > _MAX_CHANNELS else None


def in_frames(samples: npt.NDArray[Any], name: str, *, transposed: bool | None = None) -> npt.NDArray[Any]:
    """Return the samples as (n,) or (n, channels), as `to_mono` takes them; nothing is copied.

    Args:
        samples: (n,), (n, channels) or (channels <= 8, n); floats, or integers of 8, 16 or 32 bits.
        name: what to call them in errors.
        transposed: whether an array of two axes has its channels first; None reads it from the shape
            (`channels_first`), and where the shape does not tell, as (n, channels).

    Raises:
        AudioError: another type or shape.
    """
    if samples.dtype.kind != "f" and samples.dtype.str[1:] not in _FULL_SCALE:
        raise AudioError(f"{name}: samples of type {samples.dtype}; give float, int8, int16, int32 or uint8")
    if transposed is None:
        transposed = channels_first(samples)
        if transposed is None and samples.ndim == 2 and _MAX_CHANNELS < samples.shape[0] < samples.shape[1]:
            rows, columns = samples.shape
            raise AudioError(
                f"{name}: shape {samples.shape}; is that {rows} channels or {columns}? Give (n_samples, n_channels)"
            )
    if transposed and samples.ndim == 2:
        samples = samples.T
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] == 0):
        raise AudioError(f"{name}: shape {samples.shape}; give (n_samples,) or (n_samples, n_channels)")
    return samples


def to_float(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the samples as float32 in their own shape; integers are divided by the full scale of their type.

    Args:
        samples: floats of any range, or integers of 8, 16 or 32 bits.
    """
    code = samples.dtype.str[1:]
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is no number, which the caller reports
        scaled: npt.NDArray[np.float32] = samples.astype(np.float32)
        if code == "u1":
            scaled -= np.float32(128)
        if code in _FULL_SCALE:
            scaled /= np.float32(_FULL_SCALE[code])
    return scaled


def to_mono(samples: npt.NDArray[Any]) -> Waveform:
    """Return the mean over the channels, (n,) float32; integers are divided by the full scale of their type.

    Args:
        samples: (n,) or (n, channels) floats of any range, or integers of 8, 16 or 32 bits.
    """
    scaled = to_float(samples)
    return scaled if scaled.ndim == 1 else average(scaled)


def average(frames: npt.NDArray[np.float32]) -> Waveform:
    """Return the mean over the channels of (n, channels) float32, (n,) float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        if frames.shape[1] == 2:  # the same to the bit, at a tenth of the time
            return (frames[:, 0] + frames[:, 1]) / np.float32(2)
        mono: Waveform = frames.mean(axis=1, dtype=np.float32)
        return mono
