from __future__ import annotations

import numpy as np
import pytest

from qwen3_asr_onnx_quantize.weights.channelwise import FULL_RANGE, REDUCED_RANGE, quantize_channels


@pytest.mark.parametrize("largest", [FULL_RANGE, REDUCED_RANGE])
def test_every_weight_is_within_half_a_code(largest: int) -> None:
    weight = np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32)
    codes, scales = quantize_channels(weight, largest)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() == largest
    assert (np.abs(codes * scales - weight) <= 0.5001 * scales).all()


def test_a_column_of_zeros_stays_zero() -> None:
    codes, scales = quantize_channels(np.zeros((8, 3), dtype=np.float32), FULL_RANGE)
    assert not codes.any()
    assert np.isfinite(scales).all()


def test_seven_bits_cannot_saturate_sixteen() -> None:
    assert 2 * 255 * REDUCED_RANGE < 2**15 <= 2 * 255 * FULL_RANGE
