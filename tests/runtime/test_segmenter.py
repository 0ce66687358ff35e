"""Where long audio is cut, against the official package, and what must hold for any audio."""

import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from qwen3_asr_onnx.segmenter import Piece, split_at_quiet

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 16_000


def _assert_whole(pieces: list[Piece], n_samples: int) -> None:
    assert pieces[0].start_sample == 0
    assert pieces[-1].end_sample == n_samples
    assert all(left.end_sample == right.start_sample for left, right in pairwise(pieces))


def test_cuts_like_the_official_package(
    official_splits: dict[str, Any], make_signal: "Callable[..., npt.NDArray[np.float32]]"
) -> None:
    for case in official_splits["splits"]:
        signal = make_signal(**case["signal"])
        assert len(signal) == case["n_samples"]
        pieces = split_at_quiet(signal, case["max_s"])
        assert [piece.start_sample for piece in pieces] == case["starts"], case["signal"]
        _assert_whole(pieces, len(signal))
        # The official offsets add up rounding errors; ours are exact.
        assert [piece.start_s for piece in pieces] == pytest.approx(case["offsets_s"], abs=1e-9)


def test_the_cut_falls_in_the_pause(make_signal: "Callable[..., npt.NDArray[np.float32]]") -> None:
    signal = make_signal("noise", 30.0, seed=1)
    signal[10 * RATE + 4000 : 10 * RATE + 7000] = 0
    first, *_ = split_at_quiet(signal, 10.0)
    assert 10 * RATE + 4000 <= first.end_sample < 10 * RATE + 7000


@pytest.mark.parametrize("max_s", [1.0, 2.0, 5.0, 7.3, 10.0, 30.0])
@pytest.mark.parametrize("kind", ["zeros", "constant", "bursts", "quiet"])
def test_pieces_are_whole_and_of_sensible_length(
    make_signal: "Callable[..., npt.NDArray[np.float32]]", kind: str, max_s: float
) -> None:
    signal = make_signal(kind, 95.0, seed=2)
    pieces = split_at_quiet(signal, max_s)
    _assert_whole(pieces, len(signal))
    limit, radius = int(max_s * RATE), int(min(5.0, max_s / 2) * RATE)
    for piece in pieces[:-1]:
        assert limit - radius <= piece.end_sample - piece.start_sample <= limit + radius
    assert 0 < pieces[-1].end_sample - pieces[-1].start_sample <= limit


@pytest.mark.parametrize("n_samples", [0, 1, 1600, 16_000])
def test_short_audio_is_one_piece(n_samples: int) -> None:
    assert split_at_quiet(np.zeros(n_samples, np.float32), 1.0) == [Piece(0, n_samples)]


def test_memory_does_not_grow_with_the_audio() -> None:
    three_hours = np.zeros(3 * 3600 * RATE, np.float32)
    tracemalloc.start()
    pieces = split_at_quiet(three_hours)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    _assert_whole(pieces, len(three_hours))
    assert peak < 16_000_000
