"""Any audio in, 16 kHz mono out: block by block, or as one waveform.

What it is (path, bytes, stream, URL, array) is settled once at the top; then everything takes one road: decoder -> mono
blocks -> resampler -> 16 kHz blocks. `open_audio` hands those out as they come, so that a recording of any length needs
the memory of one block; `load_audio` collects them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import AudioError, LimitError

from .blocks import AudioStream, block_frames, check_rate, in_frames
from .containers import read_layout
from .excerpts import WHOLE, CancelledMixWarning, Excerpt, Mixer, begins_too_late, cut_frames
from .formats import open_stream
from .libsndfile import open_part, promised_frames
from .resampling import make_resampler, n_resampled
from .sources import AudioLimits, AudioSource, open_source
from .wav import is_wav, read_wav_header

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioLimits",
    "AudioSource",
    "CancelledMixWarning",
    "Excerpt",
    "HeldAudio",
    "OpenAudio",
    "TruncatedAudioWarning",
    "hold_audio",
    "load_audio",
    "open_audio",
    "probe_duration",
]

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf", ".flac", ".flv",
    ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mpga", ".oga",
    ".ogg", ".ogv", ".opus", ".snd", ".sph", ".spx", ".ts", ".wav", ".wave", ".webm", ".wma", ".wmv", ".wv",
})
# fmt: on
"""Lower-case file name endings taken for audio or video when a folder is searched; others can be named."""

_ARRAY_NAME = "audio array"

_TOLERATED_LOSS_S = 0.1
"""MP3 headers count encoder padding that decoders trim: up to three frames of 26 ms. Shorter gaps are not reported."""


class TruncatedAudioWarning(UserWarning):
    """A file is damaged or cut short, and only its readable part was returned; the message gives the seconds."""


_DEFAULT_LIMITS = AudioLimits()


@dataclass(frozen=True, slots=True, eq=False)
class OpenAudio:
    """Audio that is being read.

    Attributes:
        duration_s: length according to the container, of the excerpt if one was asked for; None when it does not say.
        blocks: (n,) float32 mono blocks at 16 kHz, to be read once. Not scaled: a peak may exceed 1.
        n_channels: how many the recording has, whatever was made of them.
    """

    duration_s: float | None
    blocks: Iterator[Waveform]
    n_channels: int


class HeldAudio:
    """Audio that is open and can be read more than once, one reading after the other, even from a pipe."""

    def __init__(self, name: str, begin: Callable[[Mixer, int | None, ExitStack], AudioStream], limits: AudioLimits):
        """Remember how a reading begins; `hold_audio` makes these."""
        self._name, self._begin, self._limits = name, begin, limits
        self._has_told_loss = False

    @contextmanager
    def read(self, excerpt: Excerpt = WHOLE) -> Iterator[OpenAudio]:
        """Give it block by block while the context is open; raises and warns as `open_audio`."""
        name = self._name
        with ExitStack() as stack:
            mixer = Mixer(name, excerpt.channel)
            stream = self._begin(mixer, excerpt.track, stack)
            mixer.check(stream.n_channels)
            duration_s = None if stream.promised_frames is None else stream.promised_frames / stream.sample_rate
            if duration_s is not None:
                if excerpt.start_s and excerpt.start_s >= duration_s:
                    raise begins_too_late(name, excerpt)
                duration_s = min(duration_s, excerpt.end_s or math.inf) - excerpt.start_s
                if duration_s > self._limits.max_duration_s:
                    raise _too_long(name, duration_s, self._limits)
            blocks = mixer.watched(self._told(stream, excerpt), stream.sample_rate)
            yield OpenAudio(duration_s, blocks, stream.n_channels)

    def _told(self, stream: AudioStream, excerpt: Excerpt) -> Iterator[Waveform]:
        """Yield the blocks of a reading; what is missing of the recording is told by the first alone."""
        yield from _resampled(stream, self._name, self._limits, excerpt)
        if stream.is_whole and not self._has_told_loss:
            self._has_told_loss = True
            _report_loss(stream, stream.reached, self._name)


@contextmanager
def hold_audio(source: AudioSource, limits: AudioLimits = _DEFAULT_LIMITS) -> Iterator[HeldAudio]:
    """Give the audio, open for any number of readings while the context is.

    Raises:
        As `load_audio`, what concerns the source and not yet its format.
    """
    with ExitStack() as stack:
        if isinstance(source, np.ndarray):
            source = source, SAMPLE_RATE
        if isinstance(source, tuple):
            if len(source) != 2 or not isinstance(source[0], np.ndarray):
                raise AudioError("a tuple must be (samples, sample_rate): a numpy array first, then Hz")
            yield HeldAudio(_ARRAY_NAME, partial(_array_stream, *source), limits)
            return
        file, name, path = open_source(source, limits, stack)

        def begin(mixer: Mixer, track: int | None, stack: ExitStack) -> AudioStream:
            file.seek(0)
            return open_stream(file, name, path, limits.decode_timeout_s, stack, mixer, track)

        yield HeldAudio(name, begin, limits)


@contextmanager
def open_audio(
    source: AudioSource, limits: AudioLimits = _DEFAULT_LIMITS, excerpt: Excerpt = WHOLE
) -> Iterator[OpenAudio]:
    """Give the audio block by block while the context is open; joined, the blocks are what `load_audio` makes of it.

    Only the scaling of peaks above 1 is left to the caller, who alone sees the whole.

    Args:
        source: as for `load_audio`.
        limits: as for `load_audio`; the longest audio is that of the excerpt.
        excerpt: what of it to read; what lies before is passed over unread where the format lets it be.

    Raises:
        As `load_audio`: what is wrong with the file as a whole at once, what is wrong inside it while it is read.
        AudioError: it ends before the excerpt begins, or has no such track or channel.

    Warns:
        TruncatedAudioWarning: at its end, if the file is damaged or cut.
        CancelledMixWarning: mixed, its channels cancel each other.
    """
    with hold_audio(source, limits) as held, held.read(excerpt) as audio:
        yield audio


def probe_duration(path: Path) -> float | None:
    """Return the seconds of audio a file says it holds; None when it does not say, or says it only to a decoder.

    Reads headers only, never fails and never guesses: what is wrong with the file is told when it is opened.
    """
    try:
        if not path.is_file():  # what comes through a pipe can be read only once
            return None
        with path.open("rb") as file:
            if is_wav(file.read(12)):
                file.seek(0)
                header = read_wav_header(file, str(path))
                if not header.is_plain or header.n_frames is None:
                    return None
                return header.n_frames / header.sample_rate
            frames = 0
            for part in read_layout(file).parts:
                sound = open_part(file, part)
                if sound is None:
                    return None
                with sound:
                    promised, rate = promised_frames(sound, part), sound.samplerate
                if promised is None:
                    return None
                frames += promised
            return frames / check_rate(rate, str(path))
    except (OSError, ImportError, AudioError, RuntimeError):  # soundfile's own errors are RuntimeErrors
        return None


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
        limits: what to accept, and how much.
        allow_url: False refuses URLs, as `limits` with `allow_url=False` does.

    Returns:
        (n_samples,) float32. Empty for a file that is valid and holds no samples.

    Raises:
        AudioError: missing, unreadable, not audio, damaged beyond use, holding NaN, or of a type not listed above.
        LimitError: a limit is exceeded.
        MissingExtra: this format needs the [audio] extra.

    Warns:
        TruncatedAudioWarning: the file is damaged or cut and only the readable part is returned.
    """
    buffer = _GrowingBuffer()
    with open_audio(source, replace(limits, allow_url=limits.allow_url and allow_url)) as audio:
        for block in audio.blocks:
            buffer.append(block)
    return _normalise(buffer.take())


def _array_stream(
    samples: npt.NDArray[Any], sample_rate: int, mixer: Mixer, track: int | None, _: ExitStack
) -> AudioStream:
    if track is not None:
        raise AudioError(f"{_ARRAY_NAME}: audio track {track} was asked for, and an array has no tracks")
    rate = check_rate(sample_rate, _ARRAY_NAME)
    frames = in_frames(samples, _ARRAY_NAME)
    n_channels = 1 if frames.ndim == 1 else int(frames.shape[1])
    step = block_frames(n_channels)
    blocks = (mixer(frames[first : first + step]) for first in range(0, len(frames), step))
    return AudioStream(rate, len(frames), blocks, n_channels=n_channels)


def _resampled(stream: AudioStream, name: str, limits: AudioLimits, excerpt: Excerpt) -> Iterator[Waveform]:
    """Yield the blocks at 16 kHz, checked, to exactly the length that belongs to what was read.

    The resampler rounds a length down where the reference rounds up: the difference, a sample, is made up with zeros.
    """
    rate = stream.sample_rate
    max_frames = int(limits.max_duration_s * rate)
    resampler = make_resampler(rate)
    n_read = n_given = 0
    for block in cut_frames(stream, excerpt, name):
        if not np.isfinite(block).all():
            at_s = excerpt.start_s + (n_read + int(np.argmin(np.isfinite(block)))) / rate
            raise AudioError(
                f"{name}: the sample at {at_s:.3f} s is not a finite number; repair or re-encode the audio"
            )
        n_read += len(block)
        if n_read > max_frames:
            raise _too_long(name, n_read / rate, limits)
        converted = resampler.push(block)
        n_given += len(converted)
        yield converted
    rest = resampler.finish()
    missing = n_resampled(n_read, rate) - n_given
    yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))


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

    def take(self) -> Waveform:
        """Return what was appended."""
        self._samples.resize(self._size, refcheck=False)
        return self._samples
