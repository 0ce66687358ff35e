"""Samples without a header, from a pipe: bytes in, mono float32 blocks out as they arrive."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import AudioError

from .blocks import AudioStream, check_rate, to_mono
from .wav import is_wav, read_wav_blocks, read_wav_header

__all__ = ["PCM_FORMATS", "open_pcm"]

PCM_FORMATS = {"s16le": "<i2", "s16be": ">i2", "s32le": "<i4", "f32le": "<f4", "u8": "u1", "s8": "i1"}
"""Sample formats by the names that ffmpeg and sox users know, and as numpy types."""

_NAME = "standard input"


def open_pcm(file: io.BufferedReader, sample_format: str, sample_rate: int, n_channels: int) -> AudioStream:
    """Return what comes through a pipe, in blocks of at most 0.1 s, each as soon as it is there.

    A pipe that begins with a WAV header is read as its header says, whatever is declared.

    Args:
        file: read forwards only.
        sample_format: one of `PCM_FORMATS`.
        sample_rate: Hz.
        n_channels: samples per frame, at least 1; they are averaged.

    Returns:
        Blocks that end with the pipe; `faults` then tells of a last frame cut short, which is left out.

    Raises:
        AudioError: the rate is out of range, or there is a WAV header that is damaged or of compressed sound.
    """
    if is_wav(file.peek(12)[:12]):
        header = read_wav_header(file, _NAME)
        if not header.is_plain:
            raise AudioError(f"{_NAME}: compressed sound in WAV (codec {header.tag}); pipe PCM, as `ffmpeg -f s16le`")
        return AudioStream(header.sample_rate, None, read_wav_blocks(file, header))
    rate = check_rate(sample_rate, _NAME)
    faults: list[str] = []
    dtype = np.dtype(PCM_FORMATS[sample_format])
    return AudioStream(rate, None, _blocks(file, dtype, rate, n_channels, faults), faults)


def _blocks(
    file: io.BufferedReader, dtype: np.dtype[np.generic], rate: int, n_channels: int, faults: list[str]
) -> Iterator[Waveform]:
    frame_bytes = dtype.itemsize * n_channels
    wanted = max(1, rate // 10) * frame_bytes
    rest = b""
    while data := file.read1(wanted):
        data = rest + data
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        if whole:
            yield to_mono(np.frombuffer(data[:whole], dtype=dtype).reshape(-1, n_channels))
    if rest:
        faults.append(
            f"the input ended inside a frame; its last {len(rest)} of {frame_bytes} bytes are left out "
            "(are the sample format and the number of channels right?)"
        )
