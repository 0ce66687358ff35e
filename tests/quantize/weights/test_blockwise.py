"""The packing against onnxruntime's operator, and the error against what the arithmetic allows."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.graphs import Array, run_operator

from qwen3_asr_onnx_quantize.schemes import WeightOnly
from qwen3_asr_onnx_quantize.weights.blockwise import (
    Blocks,
    dequantize_blocks,
    n_blocks,
    packed_shapes,
    quantize_blocks,
)

SHAPES = [(32, 48, 128), (48, 33, 32), (17, 5, 16), (300, 17, 64), (256, 8, 256)]
"""(K, N, block): K below one block, K that fills no block, odd numbers of blocks and columns."""

SPECS = [
    WeightOnly(scheme, symmetric=symmetric, scales="fp32") for scheme in ("int4", "int8") for symmetric in (True, False)
]


def with_block(spec: WeightOnly, block: int) -> WeightOnly:
    return WeightOnly(spec.scheme, block, spec.symmetric, scales=spec.scales, search=spec.search)


def gaussian(k: int, n: int, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal((k, n)) * 0.02).astype(np.float32)


def operator(x: Array, blocks: Blocks, k: int, spec: WeightOnly, accuracy_level: int) -> Array:
    inputs = {"x": x, "codes": blocks.codes, "scales": blocks.scales.reshape(-1).astype(np.float32)}
    if blocks.zero_points is not None:
        inputs["zeros"] = blocks.zero_points.reshape(-1)
    attributes = {
        "K": k,
        "N": len(blocks.codes),
        "bits": spec.bits,
        "block_size": spec.block,
        "accuracy_level": accuracy_level,
    }
    return run_operator("MatMulNBits", inputs, attributes)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.scheme}-{'sym' if s.symmetric else 'asym'}")
@pytest.mark.parametrize(("k", "n", "block"), SHAPES)
def test_the_operator_reads_back_what_was_packed(k: int, n: int, block: int, spec: WeightOnly) -> None:
    spec = with_block(spec, block)
    blocks = quantize_blocks(gaussian(k, n), spec)
    unpacked = operator(np.eye(k, dtype=np.float32), blocks, k, spec, accuracy_level=1)
    np.testing.assert_allclose(unpacked, dequantize_blocks(blocks, k, spec), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.scheme}-{'sym' if s.symmetric else 'asym'}")
def test_integer_arithmetic_is_within_its_activation_error(spec: WeightOnly) -> None:
    spec = with_block(spec, 64)
    blocks = quantize_blocks(gaussian(300, 17), spec)
    x = np.random.default_rng(1).standard_normal((5, 300)).astype(np.float32)
    exact = operator(x, blocks, 300, spec, accuracy_level=1)
    rounded = operator(x, blocks, 300, spec, accuracy_level=4)
    assert np.sqrt(((rounded - exact) ** 2).mean()) < 0.01 * exact.std()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.scheme}-{'sym' if s.symmetric else 'asym'}")
@pytest.mark.parametrize(("k", "n", "block"), SHAPES)
def test_shapes_are_foretold(k: int, n: int, block: int, spec: WeightOnly) -> None:
    spec = with_block(spec, block)
    blocks = quantize_blocks(gaussian(k, n), spec)
    codes, scales, zeros = packed_shapes(k, n, spec)
    assert blocks.codes.shape == codes
    assert blocks.scales.shape == scales == (n, n_blocks(k, spec))
    assert (blocks.zero_points is None) == spec.symmetric
    if blocks.zero_points is not None:
        assert blocks.zero_points.shape == zeros


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.scheme}-{'sym' if s.symmetric else 'asym'}")
def test_no_weight_moves_by_more_than_its_range_allows(spec: WeightOnly) -> None:
    """Without a search nothing is clipped (but by half a code), so the error is half a code at most."""
    spec = WeightOnly(spec.scheme, 32, spec.symmetric, scales="fp32", search=False)
    weight = gaussian(64, 40)
    error = np.abs(dequantize_blocks(quantize_blocks(weight, spec), 64, spec) - weight)
    # One code spans at most the block's range over 2^bits - 1; symmetric ranges reach to twice the largest magnitude.
    widest = 2 * np.abs(weight).max() / ((1 << spec.bits) - 1)
    assert error.max() <= 1.001 * widest


def test_a_search_beats_the_largest_weight_and_more_bits_beat_fewer() -> None:
    weight = gaussian(512, 64)

    def rms(scheme: str, **changes: bool | int | str) -> float:
        spec = WeightOnly(scheme, **changes)  # type: ignore[arg-type]
        error = dequantize_blocks(quantize_blocks(weight, spec), 512, spec) - weight
        return float(np.sqrt((error**2).mean()) / weight.std())

    # Bounds for Gaussian weights, block 128: measured 0.097 and 0.103 with and without a search, 0.0064 in 8 bits.
    assert rms("int4") < 0.100 < rms("int4", search=False) < 0.107
    assert rms("int8", search=False) < 0.007
    assert rms("int4", block=32) < 0.085
    assert rms("int4", symmetric=False) < rms("int4")
    assert abs(rms("int4", scales="fp16") - rms("int4", scales="fp32")) < 1e-4


def test_zeros_outliers_and_one_sided_blocks() -> None:
    weight = np.zeros((64, 4), dtype=np.float32)
    weight[:, 1] = 3.0
    weight[:, 2] = np.linspace(1.0, 2.0, 64)
    weight[5, 3] = -1000.0
    for spec in SPECS:
        spec = with_block(spec, 32)
        values = dequantize_blocks(quantize_blocks(weight, spec), 64, spec)
        assert (values[:, 0] == 0).all()
        np.testing.assert_allclose(values[:, 1], 3.0, rtol=1e-5)
        assert np.abs(values[:, 2] - weight[:, 2]).max() < 0.15
        assert values[5, 3] == pytest.approx(-1000.0)
        assert (np.delete(values[:, 3], 5) == 0).all()


def test_weights_too_small_for_half_precision_scales_become_zero_not_nan() -> None:
    spec = WeightOnly("int4", 32)
    values = dequantize_blocks(quantize_blocks(gaussian(64, 4) * np.float32(1e-9), spec), 64, spec)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 1e-7


def test_columns_do_not_depend_on_each_other() -> None:
    weight = gaussian(100, 12)
    spec = WeightOnly("int4", 32, symmetric=False)
    whole, left = quantize_blocks(weight, spec), quantize_blocks(weight[:, :5], spec)
    np.testing.assert_array_equal(whole.codes[:5], left.codes)
    np.testing.assert_array_equal(whole.scales[:5], left.scales)
