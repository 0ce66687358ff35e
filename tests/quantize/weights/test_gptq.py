"""Calibrated rounding against plain rounding, and against the sum it is meant to minimise, written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.support.graphs import Array

from qwen3_asr_onnx_quantize.schemes import WeightOnly
from qwen3_asr_onnx_quantize.weights.blockwise import dequantize_blocks, packed_shapes, quantize_blocks
from qwen3_asr_onnx_quantize.weights.gptq import factor, quantize_calibrated

K, N = 96, 24
RNG = np.random.default_rng(0)
INPUTS = (RNG.standard_normal((400, 12)) @ RNG.standard_normal((12, K)) + 0.3 * RNG.standard_normal((400, K))).astype(
    np.float32
)
WEIGHT = RNG.standard_normal((K, N)).astype(np.float32)
LOWER = factor(INPUTS.T @ INPUTS)

SPECS = [
    WeightOnly("int4", 32),
    WeightOnly("int4", 128),  # K does not fill the block
    WeightOnly("int4", 16, symmetric=False),
    WeightOnly("int8", 64, search=False),
    WeightOnly("int4", 64, scales="fp32"),
]


def output_error(found: Array) -> float:
    return float(np.linalg.norm(INPUTS @ (found - WEIGHT)) / np.linalg.norm(INPUTS @ WEIGHT))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.scheme}-{s.block}-{s.symmetric}-{s.search}-{s.scales}")
def test_outputs_on_the_inputs_shown_are_much_nearer(spec: WeightOnly) -> None:
    plain, calibrated = quantize_blocks(WEIGHT, spec), quantize_calibrated(WEIGHT, LOWER, spec)
    codes, scales, zeros = packed_shapes(K, N, spec)
    assert (calibrated.codes.shape, calibrated.scales.shape) == (codes, scales)
    assert (calibrated.zero_points is None) is spec.symmetric
    if calibrated.zero_points is not None:
        assert calibrated.zero_points.shape == zeros
    assert calibrated.scales.dtype == plain.scales.dtype
    errors = [output_error(dequantize_blocks(blocks, K, spec)) for blocks in (plain, calibrated)]
    assert errors[1] < 0.6 * errors[0]


def test_the_factor_is_that_of_the_damped_moments() -> None:
    moments = INPUTS.T @ INPUTS
    damped = moments + 0.01 * np.trace(moments) / K * np.eye(K)
    np.testing.assert_allclose(LOWER @ LOWER.T, damped, rtol=1e-4, atol=1e-2)
    assert np.array_equal(np.tril(LOWER), LOWER)
    np.testing.assert_array_equal(factor(np.zeros((3, 3), dtype=np.float32)), np.eye(3))


def test_without_correlations_it_is_rounding_to_nearest() -> None:
    spec = WeightOnly("int4", 32)
    plain, calibrated = quantize_blocks(WEIGHT, spec), quantize_calibrated(WEIGHT, np.eye(K, dtype=np.float32), spec)
    errors = [np.linalg.norm(dequantize_blocks(blocks, K, spec) - WEIGHT) for blocks in (plain, calibrated)]
    assert errors[1] == pytest.approx(errors[0], rel=0.005)  # scales are fitted to the codes once more
    assert np.mean(calibrated.codes != plain.codes) < 0.1


def test_two_rows_are_rounded_as_by_hand() -> None:
    """Last row first, then the other with what the last one owes it: the recursion of the module's docstring."""
    lower = np.array([[2.0, 0.0], [1.5, 0.8]], dtype=np.float32)
    weight = np.array([[0.33, 2.6, -4.4], [7.0, 7.0, -8.0]], dtype=np.float32)
    spec = WeightOnly("int4", 16, search=False, scales="fp32")
    blocks = quantize_calibrated(weight, lower, spec)
    scales = blocks.scales[:, 0]
    for column, scale in enumerate(scales):
        last = np.clip(np.rint(weight[1, column] / scale), -8, 7)
        owed = 1.5 * (weight[1, column] - last * scale) / 2.0
        first = np.clip(np.rint((weight[0, column] + owed) / scale), -8, 7)
        found = dequantize_blocks(blocks, 2, spec)[:, column]
        np.testing.assert_allclose(found, [first * scale, last * scale], rtol=1e-6)


def test_it_is_near_the_best_of_all_codes() -> None:
    """Three weights and all 16^3 codes: never worse than plain rounding, and close to the optimum."""
    rng = np.random.default_rng(1)
    inputs = (rng.standard_normal((50, 1)) + 0.4 * rng.standard_normal((50, 3))).astype(np.float32)
    spec = WeightOnly("int4", 16, search=False, scales="fp32")
    weight = rng.standard_normal((3, 40)).astype(np.float32)
    blocks = quantize_calibrated(weight, factor(inputs.T @ inputs), spec)
    plain = dequantize_blocks(quantize_blocks(weight, spec), 3, spec)
    found = dequantize_blocks(blocks, 3, spec)
    every = np.array(list(itertools.product(range(-8, 8), repeat=3)), dtype=np.float32)
    best = []
    for column, scale in enumerate(blocks.scales[:, 0]):
        best.append(min(np.linalg.norm((every * scale - weight[:, column]) @ inputs.T, axis=1)))
    errors, naive = (np.linalg.norm(inputs @ (one - weight), axis=0) for one in (found, plain))
    assert errors.sum() < 1.3 * sum(best)
    assert errors.sum() < 0.9 * naive.sum()


def test_columns_do_not_depend_on_each_other() -> None:
    spec = WeightOnly("int4", 32)
    whole = quantize_calibrated(WEIGHT, LOWER, spec)
    parts = [quantize_calibrated(WEIGHT[:, piece], LOWER, spec) for piece in (slice(0, 8), slice(8, N))]
    np.testing.assert_array_equal(whole.codes, np.concatenate([part.codes for part in parts]))
    np.testing.assert_array_equal(whole.scales, np.concatenate([part.scales for part in parts]))


def test_weights_and_inputs_of_zeros() -> None:
    spec = WeightOnly("int4", 32)
    none = quantize_calibrated(np.zeros((K, 3), dtype=np.float32), LOWER, spec)
    assert not dequantize_blocks(none, K, spec).any()
    unseen = quantize_calibrated(WEIGHT, factor(np.zeros((K, K), dtype=np.float32)), spec)
    assert np.linalg.norm(dequantize_blocks(unseen, K, spec) - WEIGHT) < 0.12 * np.linalg.norm(WEIGHT)
