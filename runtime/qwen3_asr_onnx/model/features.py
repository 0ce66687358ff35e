"""Waveform in, log-mel features out: the front end the audio encoder was trained on, in numpy alone.

Transform: reflect-padded frames, periodic Hann window, 400-point FFT, 128 Slaney mel filters, log10, a floor 8 decades
below the loudest value of the whole utterance, and a fixed shift and scale. Also the two counts every later stage
needs: frames per sample and audio tokens per frame.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Mel, Waveform
from qwen3_asr_onnx.bundle.manifest import MelParams

__all__ = ["MIN_SAMPLES", "log_mel", "mel_filters", "n_audio_tokens", "n_frames"]

MIN_SAMPLES = 8_000
"""Shorter clips are zero-padded to this many samples (0.5 s), as the transformers front end does. The padding counts as
audio: masking it out gave more empty transcripts there. The original package fails at 200 samples and fewer."""

_FRAMES_PER_BATCH = 256
"""1.6 MB of windowed float64 frames: stays in a second-level cache. 64 to 512 measured alike, 1024 a tenth slower."""

_POWER_FLOOR = np.float32(1e-10)
_RANGE_DECADES = np.float32(8.0)
_LOG10_E = np.float32(1.0 / np.log(10.0))

_STEM_STRIDE = 2**3
"""The convolution stem halves a block of frames three times, rounding up: 100 -> 50 -> 25 -> 13 tokens."""

_DEFAULT_PARAMS = MelParams()


def log_mel(waveform: Waveform, params: MelParams = _DEFAULT_PARAMS) -> Mel:
    """Return the log-mel features the encoder was trained on.

    Clips shorter than 0.5 s, down to no samples at all, are zero-padded to 0.5 s first (see `MIN_SAMPLES`).
    The FFT runs in float64: it costs no more than float32 here and agrees with exact arithmetic to 3e-7, so what
    remains against the float32 reference is the rounding of the reference.

    Args:
        waveform: (n_samples,) float32, mono, 16 kHz, in [-1, 1], finite.
        params: sampling rate, window, hop and number of filters, from the bundle.

    Returns:
        (n_mels, n_frames) float32; one frame per 10 ms. Frame t is centred on sample t * hop_length.
    """
    if waveform.size < MIN_SAMPLES:
        waveform = np.pad(waveform, (0, MIN_SAMPLES - waveform.size))
    filters = mel_filters(params)
    window = _hann(params.n_fft)
    total = waveform.size // params.hop_length
    mel = np.empty((params.n_mels, total), dtype=np.float32)
    for first in range(0, total, _FRAMES_PER_BATCH):
        count = min(_FRAMES_PER_BATCH, total - first)
        spectrum = np.fft.rfft(_frames(waveform, first, count, params) * window)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        energy = power.astype(np.float32) @ filters
        # log(x) * log10(e) instead of log10(x): numpy has a vectorised float32 log, and no vectorised log10.
        mel[:, first : first + count] = np.log(np.maximum(energy, _POWER_FLOOR, out=energy), out=energy).T
    mel *= _LOG10_E
    np.maximum(mel, mel.max() - _RANGE_DECADES, out=mel)
    mel += np.float32(4.0)
    mel *= np.float32(0.25)
    return mel


def n_frames(n_samples: int, params: MelParams = _DEFAULT_PARAMS) -> int:
    """Return how many frames `log_mel` makes of a waveform of `n_samples` samples, short-clip padding included."""
    return max(n_samples, MIN_SAMPLES) // params.hop_length


def n_audio_tokens(n_frames: int, block_frames: int) -> int:
    """Return how many audio tokens some mel frames give: 13 per full block of 100, then one per started 80 ms.

    Args:
        n_frames: frames of one input.
        block_frames: frames per convolution block (`EncoderDims.block_frames`); none spans two blocks.
    """
    blocks, rest = divmod(n_frames, block_frames)
    return blocks * -(-block_frames // _STEM_STRIDE) + -(-rest // _STEM_STRIDE)


@lru_cache(maxsize=4)
def mel_filters(params: MelParams = _DEFAULT_PARAMS) -> npt.NDArray[np.float32]:
    """Return the Slaney filterbank: triangles equally spaced in mel from 0 Hz to half the rate, each of unit area.

    Args:
        params: sampling rate, FFT size and number of filters.

    Returns:
        (n_fft // 2 + 1, n_mels) float32, read-only, computed in float64. Some low filters are narrower than a bin; that
        is how the model was trained.
    """
    nyquist_hz = params.sample_rate / 2
    bins_hz = np.linspace(0.0, nyquist_hz, params.n_fft // 2 + 1)
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(nyquist_hz), params.n_mels + 2))
    widths_hz = np.diff(edges_hz)
    distance_hz = edges_hz[None, :] - bins_hz[:, None]
    rising = -distance_hz[:, :-2] / widths_hz[:-1]
    falling = distance_hz[:, 2:] / widths_hz[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    filters = (triangles * (2.0 / (edges_hz[2:] - edges_hz[:-2]))).astype(np.float32)
    filters.flags.writeable = False  # shared between threads through the cache
    return filters


def _frames(waveform: Waveform, first: int, count: int, params: MelParams) -> npt.NDArray[np.float32]:
    """Return frames `first` to `first + count` as a (count, n_fft) view, reflecting the ends of the waveform.

    Only the piece that these frames cover is ever copied, so memory does not grow with the length of the audio.
    """
    start = first * params.hop_length - params.n_fft // 2
    stop = start + (count - 1) * params.hop_length + params.n_fft
    piece = waveform[max(start, 0) : stop]
    before, after = max(-start, 0), max(stop - waveform.size, 0)
    if before or after:
        piece = np.pad(piece, (before, after), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(piece, params.n_fft)[:: params.hop_length]


@lru_cache(maxsize=4)
def _hann(n_fft: int) -> npt.NDArray[np.float64]:
    """Return the periodic Hann window: (n_fft,) float64, read-only."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    window.flags.writeable = False
    return window


_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0
"""Slaney's scale: linear below 1 kHz, logarithmic above (27 mel from 1 kHz to 6.4 kHz)."""


def _hz_to_mel(hz: float) -> float:
    if hz < _LOG_START_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _LOG_START_MEL + float(np.log(hz / _LOG_START_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _LOG_START_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _LOG_START_MEL) - _LOG_START_MEL))
    return np.where(mel < _LOG_START_MEL, mel * _LINEAR_HZ_PER_MEL, above)
