"""Any audio in, one 16 kHz mono waveform out.

What it is (path, bytes, stream, URL, array) is settled once at the top; then every file takes one road: decoder -> mono
blocks -> resampler -> one growing buffer -> range check. Only the 16 kHz mono result is ever held whole, so three hours
of 48 kHz stereo need no more memory than three hours of speech at 16 kHz.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from .decoders import open_stream
from .errors import AudioError, LimitError
from .resample import make_resampler, n_resampled
from .sources import AudioLimits, AudioSource, open_source
from .types import SAMPLE_RATE, Waveform
from .wav import BLOCK_FRAMES, AudioStream, check_rate

__all__ = ["AUDIO_SUFFIXES", "AudioLimits", "AudioSource", "TruncatedAudioWarning", "load_audio"]

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".flv",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".oga",
    ".ogg", ".ogv", ".opus", ".snd", ".sph", ".spx", ".ts", ".wav", ".wave", ".webm", ".wma", ".wmv", ".wv",
})
# fmt: on
"""Lower-case file name endings taken for audio or video when a folder is searched; others can be named."""

_FULL_SCALE = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31, "uint8": 2.0**7}

_TOLERATED_LOSS_S = 0.1
"""MP3 headers count encoder padding that decoders trim: up to three frames of 26 ms. Shorter gaps are not reported."""


class TruncatedAudioWarning(UserWarning):
    """A file is damaged or cut short, and only its readable part was returned; the message gives the seconds."""


_DEFAULT_LIMITS = AudioLimits()


def load_audio(source: AudioSource, limits: AudioLimits = _DEFAULT_LIMITS, *, allow_url: bool = True) -> Waveform:
    """Return the audio as one mono waveform at 16 kHz, in [-1, 1].

    Channels are averaged, then the rate is converted, then a peak above 1 is scaled down to 1, in this order, as the
    official package does. Integer samples are divided by the full scale of their type. This differs from the official
    package on purpose: it scales an int16 array to peak 1, so that a quiet clip gets loud as an array and stays quiet
    as a file.

    WAV needs nothing but this package; FLAC, MP3, Ogg and others need the [audio] extra; the rest (M4A, WebM, video)
    needs the ffmpeg program.

    Args:
        source: see `AudioSource`. Arrays are (n_samples,), (n_samples, n_channels) or (n_channels <= 8, n_samples);
            integers of 8, 16 or 32 bits, or floats. A bare array is taken to be at 16 kHz.
        limits: how much to accept.
        allow_url: whether http(s) URLs are fetched; a server passes False.

    Returns:
        (n_samples,) float32. Empty for a file that is valid and holds no samples. May be `source` itself.

    Raises:
        AudioError: missing, unreadable, not audio, damaged beyond use, holding NaN, or of a type not listed above.
        LimitError: a limit is exceeded.
        MissingExtra: this format needs the [audio] extra.

    Warns:
        TruncatedAudioWarning: the file is damaged or cut and only the readable part is returned.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, SAMPLE_RATE, limits)
    if isinstance(source, tuple):
        if len(source) != 2 or not isinstance(source[0], np.ndarray):
            raise AudioError("a tuple must be (samples, sample_rate): a numpy array first, then Hz")
        return _from_array(source[0], source[1], limits)
    with ExitStack() as stack:
        file, name, path = open_source(source, limits, stack, allow_url)
        stream = open_stream(file, name, path, limits.decode_timeout_s, stack)
        return _collect(stream, name, limits)


def _from_array(samples: npt.NDArray[Any], sample_rate: int, limits: AudioLimits) -> Waveform:
    name = "audio array"
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, float, np.integer, np.floating)):
        raise AudioError(f"{name}: the sampling rate is {sample_rate!r}; give a number of Hz")
    rate = check_rate(sample_rate, name)
    scale = _FULL_SCALE.get(samples.dtype.name, 0.0)
    if not scale and samples.dtype.kind != "f":
        raise AudioError(f"{name}: samples of type {samples.dtype}; give float, int8, int16, int32 or uint8")
    if samples.ndim == 2 and samples.shape[0] <= 8 and samples.shape[1] > samples.shape[0]:
        samples = samples.T
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] == 0):
        raise AudioError(f"{name}: shape {samples.shape}; give (n_samples,) or (n_samples, n_channels)")

    def blocks() -> Iterator[Waveform]:
        for first in range(0, len(samples), BLOCK_FRAMES):
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is reported
                block: Waveform = samples[first : first + BLOCK_FRAMES].astype(np.float32)
            if samples.dtype.name == "uint8":
                block -= np.float32(scale)
            if scale:
                block /= np.float32(scale)
            yield block if block.ndim == 1 else block.mean(axis=1, dtype=np.float32)

    return _collect(AudioStream(rate, len(samples), blocks()), name, limits)


def _collect(stream: AudioStream, name: str, limits: AudioLimits) -> Waveform:
    """Run the blocks through the resampler into one buffer; check, scale, and report what is missing."""
    rate = stream.sample_rate
    max_frames = int(limits.max_duration_s * rate)
    if stream.promised_frames is not None and stream.promised_frames > max_frames:
        raise _too_long(name, stream.promised_frames / rate, limits)
    resampler = make_resampler(rate)
    buffer = _GrowingBuffer()
    n_read = 0
    for block in stream.blocks:
        if not np.isfinite(block).all():
            at_s = (n_read + int(np.argmin(np.isfinite(block)))) / rate
            raise AudioError(
                f"{name}: the sample at {at_s:.3f} s is not a finite number; repair or re-encode the audio"
            )
        n_read += len(block)
        if n_read > max_frames:
            raise _too_long(name, n_read / rate, limits)
        buffer.append(resampler.push(block))
    buffer.append(resampler.finish())
    _report_loss(stream, n_read, name)
    return _normalise(buffer.take(n_resampled(n_read, rate)))


def _too_long(name: str, duration_s: float, limits: AudioLimits) -> LimitError:
    return LimitError(
        f"{name}: {duration_s:.0f} s or more of audio, over the limit of {limits.max_duration_s:.0f} s; "
        "split it, or raise AudioLimits.max_duration_s"
    )


def _report_loss(stream: AudioStream, n_read: int, name: str) -> None:
    read_s = n_read / stream.sample_rate
    promised_s = None if stream.promised_frames is None else stream.promised_frames / stream.sample_rate
    is_short = promised_s is not None and (promised_s - read_s > _TOLERATED_LOSS_S or (promised_s > 0 and not n_read))
    if not stream.faults and not is_short:
        return
    why = f": {stream.faults[0]}" if stream.faults else ""
    if not n_read:
        raise AudioError(f"{name}: the file is cut or damaged, no audio could be read{why}. Get a complete copy")
    of_promised = "" if promised_s is None else f" of {promised_s:.2f} s"
    warnings.warn(
        f"{name}: the file is cut or damaged, {read_s:.2f} s{of_promised} could be read{why}",
        TruncatedAudioWarning,
        stacklevel=4,
    )


def _normalise(waveform: Waveform) -> Waveform:
    """Scale a peak above 1 down to 1, in place: resampling overshoots a little, float files may hold any range."""
    if not waveform.size:
        return waveform
    peak = max(float(waveform.max()), -float(waveform.min()))
    if peak > 1.0:
        waveform /= np.float32(peak)
        np.clip(waveform, -1.0, 1.0, out=waveform)  # the division may round to just above 1
    return waveform


class _GrowingBuffer:
    """A float32 array that grows by a quarter at a time: realloc moves pages, joining a list would hold all twice."""

    def __init__(self) -> None:
        self._samples: Waveform = np.empty(1 << 16, dtype=np.float32)
        self._size = 0

    def append(self, block: Waveform) -> None:
        end = self._size + block.size
        if end > self._samples.size:
            self._samples.resize(max(end, self._samples.size * 5 // 4), refcheck=False)
        self._samples[self._size : end] = block
        self._size = end

    def take(self, size: int) -> Waveform:
        """Return the first `size` samples, zeros where there are fewer: soxr rounds a length down, the reference up."""
        self._samples.resize(size, refcheck=False)
        self._samples[self._size :] = 0.0
        return self._samples
