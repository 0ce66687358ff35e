"""The log-mel front end against upstream transformers: stored features always, live ones where torch is there."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qwen3_asr_onnx.bundle.manifest import MelParams
from qwen3_asr_onnx.model.features import MIN_SAMPLES, log_mel, mel_filters, n_audio_tokens, n_frames

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "goldens" / "log_mel.npz")
SAMPLES: npt.NDArray[np.float32] = (GOLDEN["pcm"] / 32_768).astype(np.float32)
START = int(GOLDEN["start"])
LENGTHS = sorted(int(key[4:]) for key in GOLDEN if key.startswith("mel_") and key[4:].isdigit())
TOLERANCE = 1e-4


def cut(length: int) -> npt.NDArray[np.float32]:
    return SAMPLES[START : START + length]


@pytest.mark.parametrize("length", LENGTHS)
def test_features_of_a_cut_equal_those_of_transformers(length: int) -> None:
    expected = GOLDEN[f"mel_{length}"]
    actual = log_mel(cut(length))
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape == (128, n_frames(length))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def test_features_of_the_whole_clip_equal_those_of_transformers() -> None:
    actual = log_mel(SAMPLES)[:, :: int(GOLDEN["stride"])]
    np.testing.assert_allclose(actual, GOLDEN["mel_whole_every_5th"], rtol=0, atol=TOLERANCE)


def test_filterbank_equals_that_of_transformers() -> None:
    filters = mel_filters()
    np.testing.assert_allclose(filters, GOLDEN["mel_filters"], rtol=0, atol=1e-8)
    assert np.count_nonzero(filters) == 394
    assert filters.sum() == pytest.approx(3.1909855, abs=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("n_samples", [1, 200, 8_000, 15_840, 127_840, 128_160, 480_000])
def test_features_equal_those_of_the_live_reference(n_samples: int) -> None:
    from transformers import Qwen3ASRFeatureExtractor

    rng = np.random.default_rng(n_samples)
    # Speech-like: coloured noise under a slow envelope, so that loud and quiet frames share one utterance.
    noise = np.convolve(rng.standard_normal(n_samples + 63), np.exp(-np.arange(64) / 8.0), "valid")
    waveform = (0.1 * noise * (0.05 + np.abs(np.sin(np.arange(n_samples) / 4_000)))).astype(np.float32)
    extractor: Any = Qwen3ASRFeatureExtractor
    batch = extractor()(waveform, sampling_rate=16_000, padding="longest", n_window=0, return_tensors="np")
    np.testing.assert_allclose(log_mel(waveform), batch["input_features"][0], rtol=0, atol=TOLERANCE)


def test_batches_of_frames_leave_no_seam() -> None:
    """Frames are computed in groups; each must be what the plain formula gives."""
    waveform = np.tile(SAMPLES, 2)[:123_456]
    padded = np.pad(waveform.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs([np.fft.rfft(padded[160 * t : 160 * t + 400] * window) for t in range(771)]) ** 2
    decades = np.log10(np.maximum(power @ mel_filters().astype(np.float64), 1e-10)).T
    expected = (np.maximum(decades, decades.max() - 8) + 4) / 4
    np.testing.assert_allclose(log_mel(waveform), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_samples", [0, 1, 7_999, 8_000, 16_159])
def test_silence_is_the_floor_everywhere(n_samples: int) -> None:
    features = log_mel(np.zeros(n_samples, dtype=np.float32))
    assert features.shape == (128, max(n_samples, MIN_SAMPLES) // 160)
    np.testing.assert_allclose(features, -1.5, atol=1e-6)


def test_input_is_left_alone() -> None:
    waveform = SAMPLES.copy()
    waveform.flags.writeable = False
    log_mel(waveform)
    np.testing.assert_array_equal(waveform, SAMPLES)


def test_many_threads_get_the_same_answer() -> None:
    expected = log_mel(SAMPLES)
    mel_filters.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        for features in pool.map(log_mel, [SAMPLES] * 16):
            np.testing.assert_array_equal(features, expected)


def test_memory_beyond_the_result_does_not_grow_with_length() -> None:
    waveform = np.tile(SAMPLES, 60)  # 300 s: 19 MB of samples, 15 MB of features
    log_mel(SAMPLES)
    tracemalloc.start()
    try:
        features = log_mel(waveform)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - features.nbytes < 8_000_000


def test_parameters_are_those_given() -> None:
    params = MelParams(n_mels=80)
    assert log_mel(SAMPLES, params).shape == (80, 500)
    assert n_frames(16_000, MelParams(hop_length=320)) == 50


# fmt: off
TOKENS_OF_FRAMES = {
    0: 0, 1: 1, 2: 1, 8: 1, 9: 2, 10: 2, 50: 7, 99: 13, 100: 13, 101: 14, 108: 14, 109: 15, 200: 26, 420: 55,
    799: 104, 800: 104, 801: 105, 1_100: 143, 1_505: 196, 120_000: 15_600,
}
# fmt: on


@pytest.mark.parametrize(("frames", "tokens"), TOKENS_OF_FRAMES.items())
def test_audio_tokens_follow_the_published_counts(frames: int, tokens: int) -> None:
    assert n_audio_tokens(frames, 100) == tokens


@pytest.mark.parametrize(("samples", "frames"), [(0, 50), (1, 50), (8_000, 50), (16_159, 100), (16_160, 101)])
def test_frames_follow_from_samples(samples: int, frames: int) -> None:
    assert n_frames(samples) == frames
