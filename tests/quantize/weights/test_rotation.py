"""The rotation is exact: orthogonal in itself, and without effect on what a decoder computes in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tests.quantize.test_apply import logits, relative_rms
from tests.support.graphs import SATURATES, Array, run

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.passes.rotate_residual import ROTATION, UNIT_GAIN, RotateResidualPass
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe
from qwen3_asr_onnx_quantize.schemes import Dynamic, Keep, WeightOnly
from qwen3_asr_onnx_quantize.schemes.w8a8 import DynamicPerTokenPass
from qwen3_asr_onnx_quantize.weights.rotation import rotate, rotation_matrix

WIDTH = 64
DOMAIN = "com.microsoft"


@pytest.mark.parametrize("width", [1, 2, 32, 48, 64, 80, 448])
def test_the_matrix_is_orthogonal(width: int) -> None:
    matrix = rotation_matrix(width).astype(np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(width), atol=1e-6)


@pytest.mark.parametrize("width", [64, 96])
def test_rotating_is_multiplying_by_the_matrix(width: int) -> None:
    matrix = rotation_matrix(width)
    weight = np.random.default_rng(0).standard_normal((width, 7)).astype(np.float32)
    np.testing.assert_allclose(rotate(weight, axis=0), matrix.T @ weight, atol=1e-5)
    np.testing.assert_allclose(rotate(weight.T, axis=1), weight.T @ matrix, atol=1e-5)


def test_an_outlier_channel_is_spread_over_all() -> None:
    x = np.zeros((1, 1024), dtype=np.float32)
    x[0, 77] = 32.0
    np.testing.assert_allclose(np.abs(rotate(x, axis=1)), 1.0, rtol=1e-5)


def test_signs_are_the_same_forever() -> None:
    """A variant made today and one made by the next version must agree: these bits may never change."""
    assert "".join("+" if s > 0 else "-" for s in rotation_matrix(32)[:, 0]) == SIGNS_32


SIGNS_32 = "-++++---+++-+--+++++----++-+++++"


def initializer(name: str, values: Array) -> ir.Value:
    tensor = ir.tensor(values.astype(np.float32), name=name)
    return ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def residual_graph(outlier: float = 1.0) -> ir.Model:
    """Return seven nodes of a decoder: norm, two products and their product, sum and norm, head.

    `outlier` scales a few channels of the stream, and the norms' gains scale them back: what trained networks do.
    """
    rng = np.random.default_rng(0)
    spread = np.where(np.arange(WIDTH) % 16 == 3, outlier, 1.0)
    g0, g1 = (initializer(f"g{i}", rng.uniform(0.5, 1.5, WIDTH)) for i in range(2))
    a, b = (initializer(name, rng.standard_normal((WIDTH, 48)) / 8) for name in ("a", "b"))
    out = initializer("out", rng.standard_normal((48, WIDTH)) / 7 * spread)
    head = initializer("lm_head.weight", rng.standard_normal((WIDTH, 40)) / 8)
    x = ir.val("inputs_embeds", ir.DataType.FLOAT, ["batch", "sequence", WIDTH])
    norm = ir.node("SimplifiedLayerNormalization", [x, g0], {"axis": -1, "epsilon": 1e-6, "stash_type": 1})
    first, second = ir.node("MatMul", [norm.outputs[0], a]), ir.node("MatMul", [norm.outputs[0], b])
    gated = ir.node("Mul", [first.outputs[0], second.outputs[0]])
    down = ir.node("MatMul", [gated.outputs[0], out])
    skip = ir.node(
        "SkipSimplifiedLayerNormalization", [down.outputs[0], x, g1], {"epsilon": 1e-6}, domain=DOMAIN, num_outputs=4
    )
    y = ir.val("logits", ir.DataType.FLOAT, ["batch", "sequence", 40])
    last = ir.node("MatMul", [skip.outputs[0], head], outputs=[y])
    graph = ir.Graph(
        [x],
        [y],
        nodes=[norm, first, second, gated, down, skip, last],
        initializers=[g0, g1, a, b, out, head],
        opset_imports={"": 20, DOMAIN: 1},
        name="decoder",
    )
    return ir.Model(graph, ir_version=10)


def embeddings() -> Array:
    return np.random.default_rng(1).standard_normal((2, 5, WIDTH)).astype(np.float32)


def test_the_pass_leaves_the_function_as_it_is() -> None:
    model = residual_graph()
    expected = run(residual_graph(), inputs_embeds=embeddings())[0]
    assert RotateResidualPass()(model).modified
    assert {"g0", "g1"}.isdisjoint(model.graph.initializers)
    assert {ROTATION, UNIT_GAIN} <= set(model.graph.initializers)
    np.testing.assert_allclose(run(model, inputs_embeds=embeddings())[0], expected, atol=1e-5)


def test_outlier_channels_cost_8_bit_activations_less_in_the_rotated_basis() -> None:
    model, plain = residual_graph(outlier=100.0), residual_graph(outlier=100.0)
    expected = run(residual_graph(outlier=100.0), inputs_embeds=embeddings())[0]
    RotateResidualPass()(model)
    for graph in (model, plain):
        DynamicPerTokenPass(lambda name: Keep() if name == ROTATION else Dynamic(reduce_range=SATURATES))(graph)
    rotated = relative_rms(run(model, inputs_embeds=embeddings())[0], expected)
    unrotated = relative_rms(run(plain, inputs_embeds=embeddings())[0], expected)
    assert rotated < unrotated


def test_a_rotated_bundle_gives_the_same_logits_in_float32(bundle: Path) -> None:
    quantize_bundle(bundle, Recipe("rotated", Keep(), Keep(), Keep(), Keep(), rotation=True))
    assert relative_rms(logits(bundle, "rotated"), logits(bundle, "fp32")) < 1e-5
    assert Bundle.open(bundle).verify() == []


def test_a_rotated_variant_is_another_one(bundle: Path) -> None:
    int8 = WeightOnly("int8", 32, search=False)
    for name, rotation in (("plain", False), ("rotated", True), ("again", True)):
        quantize_bundle(bundle, Recipe(name, Keep(), Dynamic(reduce_range=SATURATES), int8, int8, rotation=rotation))
    variants = Bundle.open(bundle).manifest.variants
    assert variants["rotated"].decoder_step == "decoder_step.rotated.onnx"
    assert variants["again"].decoder_step == "decoder_step.rotated.onnx"
    assert relative_rms(logits(bundle, "rotated"), logits(bundle, "fp32")) < 0.15


@pytest.mark.parametrize("shape", [(1024, 150), (96, 700), (7, 3), (1, 4)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_rotation_is_additions_in_one_order_whatever_lies_where(shape: tuple[int, int], axis: int) -> None:
    """Bit for bit: by blocks or one vector at a time, and in both memory layouts, which it keeps."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    turned = rotate(values, axis)
    assert turned.flags.c_contiguous
    columns_first = rotate(np.asfortranarray(values), axis)
    assert columns_first.flags.f_contiguous
    alone = [rotate(np.ascontiguousarray(vector), 0) for vector in np.moveaxis(values, axis, -1)]
    for other in (columns_first, np.stack(alone, axis=1 - axis)):
        assert np.array_equal(turned.view(np.uint32), np.ascontiguousarray(other).view(np.uint32))
