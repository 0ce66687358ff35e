"""Where long audio is cut, against the official package, and what must hold for any audio."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from qwen3_asr_onnx.speech.quiet import Clip, SampleBuffer, halve_at_quiet, split_at_quiet

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 16_000


def in_blocks(signal: npt.NDArray[np.float32], size: int) -> Iterator[npt.NDArray[np.float32]]:
    for first in range(0, len(signal), size):
        yield signal[first : first + size]


def _end(clip: Clip) -> int:
    return clip.start_sample + clip.samples.size


def _assert_whole(clips: list[Clip], signal: npt.NDArray[np.float32]) -> None:
    assert clips[0].start_sample == 0
    assert all(_end(left) == right.start_sample for left, right in pairwise(clips))
    np.testing.assert_array_equal(np.concatenate([clip.samples for clip in clips]), signal)


def test_cuts_like_the_official_package_whatever_the_blocks(
    official_splits: dict[str, Any], make_signal: "Callable[..., npt.NDArray[np.float32]]"
) -> None:
    for case in official_splits["splits"]:
        signal = make_signal(**case["signal"])
        assert len(signal) == case["n_samples"]
        clips = list(split_at_quiet([signal], case["max_s"]))
        in_pieces = list(split_at_quiet(in_blocks(signal, 9_999), case["max_s"]))
        assert [(clip.start_sample, _end(clip)) for clip in clips] == [
            (clip.start_sample, _end(clip)) for clip in in_pieces
        ]
        if not len(signal):
            assert clips == []  # the official package makes one empty piece
            continue
        _assert_whole(in_pieces, signal)
        assert [clip.start_sample for clip in clips] == case["starts"], case["signal"]
        _assert_whole(clips, signal)
        # The official offsets add up rounding errors; ours are exact.
        assert [clip.start_s for clip in clips] == pytest.approx(case["offsets_s"], abs=1e-9)


def test_the_cut_falls_in_the_pause(make_signal: "Callable[..., npt.NDArray[np.float32]]") -> None:
    signal = make_signal("noise", 30.0, seed=1)
    signal[10 * RATE + 4000 : 10 * RATE + 7000] = 0
    first, *_ = split_at_quiet([signal], 10.0)
    assert 10 * RATE + 4000 <= _end(first) < 10 * RATE + 7000


@pytest.mark.parametrize("max_s", [1.0, 2.0, 5.0, 7.3, 10.0, 30.0])
@pytest.mark.parametrize("kind", ["zeros", "constant", "bursts", "quiet"])
def test_clips_are_whole_and_of_sensible_length(
    make_signal: "Callable[..., npt.NDArray[np.float32]]", kind: str, max_s: float
) -> None:
    signal = make_signal(kind, 95.0, seed=2)
    clips = list(split_at_quiet([signal], max_s))
    _assert_whole(clips, signal)
    limit, radius = int(max_s * RATE), int(min(5.0, max_s / 2) * RATE)
    for clip in clips[:-1]:
        assert limit - radius <= clip.samples.size <= limit + radius
    assert 0 < clips[-1].samples.size <= limit


@pytest.mark.parametrize("n_samples", [1, 1600, 16_000])
def test_short_audio_is_one_clip(n_samples: int) -> None:
    (clip,) = split_at_quiet([np.zeros(n_samples, np.float32)], 1.0)
    assert (clip.start_sample, clip.samples.size) == (0, n_samples)


def test_no_samples_are_no_clip() -> None:
    assert list(split_at_quiet([np.zeros(0, np.float32)], 1.0)) == []


def test_a_clip_is_out_before_the_rest_is_read() -> None:
    read = []

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        for second in range(100):
            read.append(second)
            yield np.zeros(RATE, np.float32)

    next(split_at_quiet(blocks(), 10.0))
    assert len(read) <= 16


def test_memory_does_not_grow_with_the_audio() -> None:
    block = np.zeros(RATE, np.float32)

    def peak_of(hours: int) -> int:
        tracemalloc.start()
        n_samples = sum(clip.samples.size for clip in split_at_quiet((block for _ in range(hours * 3600)), 30.0))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n_samples == hours * 3600 * RATE
        return peak

    assert peak_of(2) < 1.1 * peak_of(1) < 16_000_000


def test_halves_meet_in_the_pause() -> None:
    samples = np.ones(10 * RATE, np.float32) * 0.5
    samples[4 * RATE : 4 * RATE + 3000] = 0
    left, right = halve_at_quiet(Clip(700, samples))
    assert 700 + 4 * RATE <= _end(left) <= 700 + 4 * RATE + 3000
    assert right.start_sample == _end(left)
    np.testing.assert_array_equal(np.concatenate([left.samples, right.samples]), samples)


def test_peaks_above_one_are_scaled_by_the_loudest_so_far() -> None:
    buffer = SampleBuffer()
    buffer.append(np.array([0.5, -4.0], np.float32))
    np.testing.assert_allclose(buffer.clip(0, 2).samples, [0.125, -1.0])
    buffer.drop_before(1)
    buffer.append(np.array([2.0, 0.0], np.float32))
    np.testing.assert_allclose(buffer.clip(1, 4).samples, [-1.0, 0.5, 0.0])
