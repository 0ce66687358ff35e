"""Silences of a clip: where the voice is, whatever the room and the level."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.syllables import voiced

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.speech.silences import find_silences

SPOKEN = ((0.3, 1.2), (1.5, 2.8), (2.88, 4.0))
DURATION_S = 4.6


def noise(level_db: float) -> Waveform:
    values = np.random.default_rng(3).standard_normal(int(DURATION_S * SAMPLE_RATE))
    return (values * 10 ** (level_db / 20)).astype(np.float32)


@pytest.mark.parametrize("gain_db", [0.0, -40.0])
@pytest.mark.parametrize("room_db", [-100.0, -60.0, -35.0])
def test_silences_are_found_to_a_few_hundredths_whatever_the_level(gain_db: float, room_db: float) -> None:
    sound = (voiced(SPOKEN, DURATION_S) + noise(room_db)) * np.float32(10 ** (gain_db / 20))
    found = find_silences(sound.astype(np.float32))
    # 0.08 s are those of closed lips
    expected = ((0.0, 0.3), (1.2, 1.5), (4.0, DURATION_S))
    assert len(found) == len(expected)
    assert np.abs(np.array(found) - np.array(expected)).max() <= 0.04


def test_hum_and_an_offset_hide_no_silence() -> None:
    time_s = np.arange(int(DURATION_S * SAMPLE_RATE)) / SAMPLE_RATE
    sound = voiced(SPOKEN, DURATION_S) + 0.2 * np.sin(2 * np.pi * 50 * time_s) + 0.1
    assert len(find_silences(sound.astype(np.float32))) == 3


@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 170, SAMPLE_RATE])
def test_nothing_is_one_silence_or_too_short_for_one(n_samples: int) -> None:
    found = find_silences(np.zeros(n_samples, dtype=np.float32))
    assert found == (((0.0, n_samples / SAMPLE_RATE),) if n_samples >= 160 else ())


def test_steady_noise_is_one_silence() -> None:
    assert find_silences(noise(-20.0)) == ((0.0, DURATION_S),)
