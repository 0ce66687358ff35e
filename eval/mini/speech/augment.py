"""What happens to speech between mouth and model, and sounds that are no speech at all.

Flows in: a clean waveform (or nothing) and a random generator. Flows out: a waveform as a microphone might give it.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.signal

from mini.language.grammar import Rng, pick
from mini.speech.voices import SAMPLE_RATE, Waveform

Floats = npt.NDArray[np.float64]


def coloured_noise(rng: Rng, n_samples: int, exponent: float) -> Floats:
    """Return noise of unit power whose spectrum falls as 1/f**exponent (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    bins = np.maximum(np.arange(len(spectrum)), max(1.0, 40.0 * n_samples / SAMPLE_RATE))
    noise = np.fft.irfft(spectrum / bins ** (exponent / 2), n_samples)
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-12))


def reverberate(rng: Rng, wave: Floats) -> Floats:
    """Return the waveform with a synthetic room tail of 0.1 to 0.5 s mixed in."""
    n_tail = int(rng.uniform(0.1, 0.5) * SAMPLE_RATE)
    tail = rng.standard_normal(n_tail) * np.exp(-6.9 * np.arange(n_tail) / n_tail)
    tail[: int(0.004 * SAMPLE_RATE)] = 0.0
    wet = scipy.signal.fftconvolve(wave, tail)[: len(wave)]
    wet *= np.sqrt(np.mean(wave**2) / (np.mean(wet**2) + 1e-12))
    return np.asarray(wave + float(rng.uniform(0.1, 0.6)) * wet)


def tilt(rng: Rng, wave: Floats) -> Floats:
    """Return the waveform with a random first-order high or low shelf."""
    coefficient = float(rng.uniform(-0.6, 0.6))
    return np.asarray(scipy.signal.lfilter([1.0, coefficient], [1.0], wave))


def telephone(wave: Floats) -> Floats:
    """Return the waveform limited to the telephone band, 300 to 3400 Hz."""
    sections = scipy.signal.butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(scipy.signal.sosfilt(sections, wave))


def degrade(rng: Rng, wave: Waveform) -> Waveform:
    """Return speech as a random microphone in a random room gives it: reverberation, colour, noise, gain."""
    out = wave.astype(np.float64)
    speech_power = np.mean(out**2) + 1e-12
    if rng.random() < 0.15:
        out = reverberate(rng, out)
    if rng.random() < 0.30:
        out = tilt(rng, out)
    if rng.random() < 0.06:
        out = telephone(out)
    if rng.random() < 0.55:
        ratio_db = rng.uniform(8, 40)
        noise = coloured_noise(rng, len(out), pick(rng, (0.0, 0.5, 1.0, 1.5, 2.0)))
        out = out + noise * np.sqrt(speech_power / 10 ** (ratio_db / 10))
    peak = 10 ** rng.uniform(-1.5, -0.02)
    return np.asarray(out * (peak / (np.max(np.abs(out)) + 1e-9)), dtype=np.float32)


def _silence(rng: Rng, n_samples: int) -> Floats:
    return np.zeros(n_samples) if rng.random() < 0.5 else 1e-4 * rng.standard_normal(n_samples)


def _noise(rng: Rng, n_samples: int) -> Floats:
    noise = coloured_noise(rng, n_samples, float(rng.uniform(0, 2)))
    if rng.random() < 0.4:  # slow swells, as of wind or passing cars
        turns = np.arange(n_samples) * rng.uniform(0.2, 3.0) / SAMPLE_RATE
        noise = noise * (0.1 + np.abs(np.sin(2 * np.pi * turns + rng.uniform(0, 6))))
    return noise


def _hum(rng: Rng, n_samples: int) -> Floats:
    base = pick(rng, (50.0, 60.0, float(rng.uniform(80, 1500))))
    time = np.arange(n_samples) / SAMPLE_RATE
    tone = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) for k in range(1, 7))
    return np.asarray(tone + rng.uniform(0, 0.2) * coloured_noise(rng, n_samples, 1.0))


def _clicks(rng: Rng, n_samples: int) -> Floats:
    out = rng.uniform(0, 0.02) * coloured_noise(rng, n_samples, 1.0) if rng.random() < 0.6 else np.zeros(n_samples)
    for _ in range(max(1, int(rng.uniform(0.3, 6.0) * n_samples / SAMPLE_RATE))):
        length = int(10 ** rng.uniform(-4, -1.1) * SAMPLE_RATE) + 1  # from single samples to 80 ms bursts
        start = int(rng.integers(0, max(1, n_samples - length)))
        burst = rng.standard_normal(length) * np.exp(-5 * np.arange(length) / length) * rng.uniform(0.2, 1.0)
        out[start : start + length] += burst[: n_samples - start]
    return out


def _music(rng: Rng, n_samples: int) -> Floats:
    out = np.zeros(n_samples)
    note_s = float(rng.uniform(0.1, 0.8))
    for _ in range(int(rng.integers(1, 4))):
        position = int(rng.uniform(0, 0.3) * SAMPLE_RATE)
        while position < n_samples:
            length = min(int(note_s * pick(rng, (1, 1, 2, 3)) * SAMPLE_RATE), n_samples - position)
            time = np.arange(length) / SAMPLE_RATE
            base = 110.0 * 2 ** (int(rng.integers(0, 36)) / 12)
            harmonics = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * base * k * time) for k in range(1, 6))
            out[position : position + length] += harmonics * np.exp(-rng.uniform(0.5, 6) * time)
            position += length
    return out + rng.uniform(0, 0.05) * coloured_noise(rng, n_samples, 1.0)


def _sweep(rng: Rng, n_samples: int) -> Floats:
    time = np.arange(n_samples) / SAMPLE_RATE
    start, end = 10 ** rng.uniform(2, 3.7, 2)
    return np.asarray(scipy.signal.chirp(time, start, max(time[-1], 0.1), end, method="logarithmic"))


NON_SPEECH: dict[str, Callable[[Rng, int], Floats]] = {
    "silence": _silence,
    "noise": _noise,
    "hum": _hum,
    "clicks": _clicks,
    "music": _music,
    "sweep": _sweep,
}


def non_speech(rng: Rng, kind: str, duration_s: float) -> Waveform:
    """Return a clip without any speech; `kind` is a key of `NON_SPEECH`."""
    n_samples = max(400, int(duration_s * SAMPLE_RATE))
    wave = NON_SPEECH[kind](rng, n_samples)
    if kind != "silence":
        wave = wave * (10 ** rng.uniform(-2.5, -0.02) / (np.max(np.abs(wave)) + 1e-9))
    return wave.astype(np.float32)
