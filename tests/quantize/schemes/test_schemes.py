"""Each pass on a graph of one or two nodes: what it leaves, and that the result still computes the product."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes import InPlacePass
from tests.support.graphs import ONE_BIT, SATURATES, Array, op_types, product_graph, run

from qwen3_asr_onnx_quantize.schemes import Dynamic, Keep, Scheme, WeightOnly
from qwen3_asr_onnx_quantize.schemes.half_convolutions import HalfConvolutionsPass
from qwen3_asr_onnx_quantize.schemes.integer_convolutions import IntegerConvolutionsPass
from qwen3_asr_onnx_quantize.schemes.w8a8 import DynamicPerTensorPass, DynamicPerTokenPass
from qwen3_asr_onnx_quantize.schemes.weight_only import WeightOnlyPass

K = 96
TENSOR, TOKEN = (Dynamic(activations=kind, reduce_range=SATURATES) for kind in ("tensor", "token"))


def weight(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((K, n)).astype(np.float32)


def activations(seed: int = 5) -> Array:
    return np.random.default_rng(seed).standard_normal((2, 3, K)).astype(np.float32)


def apply(
    kind: type[WeightOnlyPass | DynamicPerTensorPass | DynamicPerTokenPass], part: Scheme, model: ir.Model
) -> bool:
    transformation: InPlacePass = kind(lambda name: part)
    return bool(transformation(model).modified)


def error(model: ir.Model, x: Array, *weights: Array) -> float:
    """Return the largest RMS error of any output, as a share of the output's RMS."""
    shares = []
    for got, w in zip(run(model, x=x), weights, strict=True):
        assert got.dtype == np.float32
        shares.append(float(np.sqrt(((got - x @ w) ** 2).mean() / ((x @ w) ** 2).mean())))
    return max(shares)


@pytest.mark.parametrize(
    ("part", "bound"),
    [
        (WeightOnly("int4", 32), 0.10),
        (WeightOnly("int4", 128, symmetric=False), 0.12),
        (WeightOnly("int8", 32, scales="fp32"), 0.012),
        (WeightOnly("int8", 128, symmetric=False, accuracy_level=1), 0.008),
    ],
)
def test_weight_only(part: WeightOnly, bound: float) -> None:
    model = product_graph(weight(40))
    assert apply(WeightOnlyPass, part, model)
    assert op_types(model) == (["Cast"] if part.scales == "fp16" else []) + ["MatMulNBits"]
    assert "w0" not in model.graph.initializers
    assert model.graph.outputs[0].name == "y0"
    assert error(model, activations(), weight(40)) < bound


def test_per_tensor_quantises_a_shared_input_once() -> None:
    weights = weight(40), weight(24, seed=1)
    model = product_graph(*weights)
    assert apply(DynamicPerTensorPass, TENSOR, model)
    assert op_types(model) == ["DynamicQuantizeLinear", "MatMulIntegerToFloat", "MatMulIntegerToFloat"]
    assert [value.name for value in model.graph.outputs] == ["y0", "y1"]
    assert error(model, activations(), *weights) < 0.015 * ONE_BIT


def test_per_token_quantises_a_shared_input_once() -> None:
    weights = weight(40), weight(24, seed=1)
    model = product_graph(*weights)
    assert apply(DynamicPerTokenPass, TOKEN, model)
    chain = ["Abs", "ReduceMax", "Max", "Div", "QuantizeLinear"]
    assert op_types(model) == [*chain, *(["MatMulIntegerToFloat", "Mul"] * 2)]
    assert [value.name for value in model.graph.outputs] == ["y0", "y1"]
    assert error(model, activations(), *weights) < 0.012 * ONE_BIT


def test_per_token_keeps_an_outlier_at_its_own_position() -> None:
    w, x = weight(40), activations()
    x[0, 0, 0] = 1000.0
    share = {}
    for kind, part in ((DynamicPerTensorPass, TENSOR), (DynamicPerTokenPass, TOKEN)):
        model = product_graph(w)
        apply(kind, part, model)
        others = run(model, x=x)[0].reshape(-1, 40)[1:]
        expected = (x @ w).reshape(-1, 40)[1:]
        share[part.activations] = np.sqrt(((others - expected) ** 2).mean() / (expected**2).mean())
    assert share["token"] < 0.012 * ONE_BIT
    assert share["tensor"] > 0.3


def test_a_position_of_zeros_gives_zeros() -> None:
    model = product_graph(weight(8))
    apply(DynamicPerTokenPass, TOKEN, model)
    x = activations()
    x[1, 2] = 0
    assert not run(model, x=x)[0][1, 2].any()


def test_seven_bit_weights_lose_one_bit() -> None:
    model = product_graph(weight(40))
    apply(DynamicPerTokenPass, Dynamic(reduce_range=True), model)
    codes = model.graph.initializers["w0.int8"].const_value
    assert codes is not None
    assert np.abs(codes.numpy().astype(int)).max() == 63
    assert error(model, activations(), weight(40)) < 0.02


@pytest.mark.parametrize(
    ("kind", "part"),
    [(WeightOnlyPass, TOKEN), (DynamicPerTensorPass, TOKEN), (DynamicPerTokenPass, TENSOR), (WeightOnlyPass, Keep())],
)
def test_a_pass_leaves_other_schemes_alone(
    kind: type[WeightOnlyPass | DynamicPerTensorPass | DynamicPerTokenPass], part: Scheme
) -> None:
    model = product_graph(weight(8))
    assert not apply(kind, part, model)
    assert op_types(model) == ["MatMul"]
    assert list(model.graph.initializers) == ["w0"]


def test_convolution_weights_are_stored_in_half_precision() -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float16).astype(np.float32)
    value = ir.Value(
        name="k",
        shape=ir.Shape(kernel.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(kernel, name="k"),
    )
    x, y = ir.val("x", ir.DataType.FLOAT, [1, 2, 8, 8]), ir.val("y", ir.DataType.FLOAT, [1, 4, 6, 6])
    node = ir.node("Conv", [x, value], outputs=[y], name="conv")
    graph = ir.Graph([x], [y], nodes=[node], initializers=[value], opset_imports={"": 20}, name="test")
    model = ir.Model(graph, ir_version=10)
    image = np.random.default_rng(1).standard_normal((1, 2, 8, 8)).astype(np.float32)
    expected = run(model, x=image)[0]
    assert HalfConvolutionsPass()(model).modified
    assert op_types(model) == ["Cast", "Conv"]
    assert list(model.graph.initializers) == ["k.fp16"]
    np.testing.assert_array_equal(run(model, x=image)[0], expected)
    assert not HalfConvolutionsPass()(model).modified


def convolution_graph(channels: int, n_bins: int, n_frames: int) -> ir.Model:
    """Return three convolutions of stride 2, each with its Gelu, from `x` (blocks, 1, bins, frames) to `y`."""
    rng = np.random.default_rng(3)
    x = ir.val("x", ir.DataType.FLOAT, ["blocks", 1, n_bins, n_frames])
    nodes: list[ir.Node] = []
    initializers: list[ir.Value] = []
    value = x
    for index, depth in enumerate((1, channels, channels)):
        kernel = rng.standard_normal((channels, depth, 3, 3)) / np.sqrt(9 * depth) * 2
        parts = []
        for name, array in ((f"k{index}", kernel), (f"b{index}", rng.standard_normal(channels) / 4)):
            tensor = ir.tensor(array.astype(np.float32), name=name)
            parts.append(
                ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
            )
        attributes = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
        nodes.append(ir.node("Conv", [value, *parts], attributes, name=f"conv{index}"))
        nodes[-1].outputs[0].name = f"conv{index}"
        nodes.append(ir.node("Gelu", [nodes[-1].outputs[0]], {"approximate": "none"}, name=f"gelu{index}"))
        nodes[-1].outputs[0].name = f"gelu{index}"
        value = nodes[-1].outputs[0]
        initializers += parts
    value.name = "y"
    value.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [value], nodes=nodes, initializers=initializers, opset_imports={"": 20}, name="test")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(("n_bins", "n_frames"), [(16, 12), (13, 9), (128, 100)])
def test_convolutions_become_integer_products(n_bins: int, n_frames: int) -> None:
    image = np.random.default_rng(1).standard_normal((3, 1, n_bins, n_frames)).astype(np.float32)
    expected = run(convolution_graph(24, n_bins, n_frames), x=image)[0]
    model = convolution_graph(24, n_bins, n_frames)
    assert IntegerConvolutionsPass()(model).modified
    assert [op for op in op_types(model) if op in ("Conv", "MatMulIntegerToFloat")] == [
        "Conv",
        *["MatMulIntegerToFloat"] * 2,
    ]
    assert {"k0", "k1.int8", "k2.int8"} < set(model.graph.initializers)
    got = run(model, x=image)[0]
    assert got.shape == expected.shape
    assert np.sqrt(((got - expected) ** 2).mean() / (expected**2).mean()) < 0.03
    assert not IntegerConvolutionsPass()(model).modified


def test_a_loud_block_does_not_disturb_its_neighbour() -> None:
    image = np.random.default_rng(1).standard_normal((2, 1, 16, 12)).astype(np.float32)
    model = convolution_graph(24, 16, 12)
    IntegerConvolutionsPass()(model)
    alone = run(model, x=image[:1])[0]
    image[1] *= 100
    np.testing.assert_array_equal(run(model, x=image)[0][:1], alone)


def test_a_block_of_silence_stays_within_a_few_codes() -> None:
    model, plain = convolution_graph(24, 16, 12), convolution_graph(24, 16, 12)
    IntegerConvolutionsPass()(model)
    image = np.zeros((1, 1, 16, 12), dtype=np.float32)
    np.testing.assert_allclose(run(model, x=image)[0], run(plain, x=image)[0], atol=0.03)


def test_a_product_of_two_inputs_is_left_alone() -> None:
    a, b = ir.val("a", ir.DataType.FLOAT, [2, 2]), ir.val("b", ir.DataType.FLOAT, [2, 2])
    node = ir.node("MatMul", [a, b])
    graph = ir.Graph([a, b], node.outputs, nodes=[node], opset_imports={"": 20})
    assert not apply(WeightOnlyPass, WeightOnly(), ir.Model(graph, ir_version=10))
