"""The log-mel features of Qwen3-ASR in numpy.

Flows in: a 16 kHz waveform. Flows out: (n_frames, 128) float32, frame-major so that clips concatenate in one file.
"""

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.fft

from mini.speech.voices import SAMPLE_RATE, Waveform

Mel: TypeAlias = npt.NDArray[np.float32]  # (n_frames, 128), 100 frames per second

N_FFT, HOP, N_MELS = 400, 160, 128
SHORTEST_SAMPLES = SAMPLE_RATE // 2  # the reference pads shorter clips with zeros


def _hz_to_mel(hz: float) -> float:
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * float(np.log(hz / 1000)) / float(np.log(6.4))


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@cache
def _filter_edges() -> npt.NDArray[np.float64]:
    """Return where the filters begin, peak and end, in Hz: (130,), filter k peaks at entry k + 1."""
    return _mel_to_hz(np.linspace(_hz_to_mel(0.0), _hz_to_mel(8000.0), N_MELS + 2))


@cache
def filter_bank() -> npt.NDArray[np.float32]:
    """Return the (201, 128) Slaney-scale, area-normalised triangular filters, 0 to 8000 Hz."""
    edges = _filter_edges()
    bins = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


def log_mel(waveform: Waveform) -> Mel:
    """Return the features of one clip, padded with zeros to half a second when shorter.

    Args:
        waveform: (n_samples,) float32, mono, 16 kHz, in [-1, 1].

    Returns:
        (n_frames, 128) float32, n_frames = n_samples // 160.
    """
    if len(waveform) < SHORTEST_SAMPLES:
        waveform = np.pad(waveform, (0, SHORTEST_SAMPLES - len(waveform)))
    padded = np.pad(waveform, N_FFT // 2, mode="reflect").astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][: len(waveform) // HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
    spectrum = scipy.fft.rfft(frames * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    log_power = np.log10(np.maximum(power @ filter_bank(), 1e-10))
    floored = np.maximum(log_power, log_power.max() - 8.0)
    return np.asarray((floored + 4.0) / 4.0, dtype=np.float32)


def stretch_spectrum(mel: Mel, factor: float) -> Mel:
    """Return the features with every frequency multiplied by `factor`: a longer or shorter vocal tract.

    Vocal tract length perturbation (Jaitly & Hinton, 2013), on the features instead of the spectrum: band k takes the
    value that lay at its peak frequency divided by `factor`, interpolated between neighbouring bands.

    Args:
        mel: (n_frames, 128) float32.
        factor: 1 changes nothing.
    """
    peaks = _filter_edges()[1:-1]
    position = np.interp(peaks / factor, peaks, np.arange(N_MELS))
    below = np.minimum(position.astype(int), N_MELS - 2)
    share = (position - below).astype(np.float32)
    return np.asarray(mel[:, below] * (1 - share) + mel[:, below + 1] * share, dtype=np.float32)
