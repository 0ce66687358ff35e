"""The encoder's rotation is exact, on a graph of a few nodes and on the checked-in encoder, at every length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tests.quantize.weights.test_rotation import initializer
from tests.support.graphs import SATURATES, Array, op_types, run

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.model.interface import encoder_interface
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.graphs import quantized_encoder
from qwen3_asr_onnx_quantize.passes.rotate_encoder import RotateEncoderPass
from qwen3_asr_onnx_quantize.recipes.recipe import parse_recipe
from qwen3_asr_onnx_quantize.schemes import Dynamic
from qwen3_asr_onnx_quantize.schemes.w8a8 import DynamicPerTensorPass
from qwen3_asr_onnx_quantize.weights.derived import DerivedTensor

WIDTH = 192  # 3 x 64: an odd factor
RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 7, 20)).astype(np.float32)


def encoder_graph(outlier: float = 1.0) -> ir.Model:
    """Return one layer: product plus table, norm, product plus bias, back into the stream, norm, product plus bias.

    One channel of the stream is `outlier` times larger; what reads the norms undoes that, as in trained networks.
    """
    large = np.where(np.arange(WIDTH) == 3, outlier, 1.0)
    stem = initializer("stem", RNG.standard_normal((20, WIDTH)) * large)
    table = initializer("positions", RNG.standard_normal((7, WIDTH)) * large)
    gains = [initializer(f"g{i}", RNG.uniform(0.5, 1.5, WIDTH)) for i in range(2)]
    shifts = [initializer(f"s{i}", RNG.standard_normal(WIDTH) / 30) for i in range(2)]
    first, second = (initializer(name, RNG.standard_normal((WIDTH, 32)) / large[:, None]) for name in ("fc1", "proj"))
    back = initializer("fc2", RNG.standard_normal((32, WIDTH)) / 6 * large)
    biases = [initializer(f"b{i}", RNG.standard_normal(size)) for i, size in enumerate((32, WIDTH, 32))]
    biases[1] = initializer("b1", RNG.standard_normal(WIDTH) * large)
    x = ir.val("x", ir.DataType.FLOAT, [1, 7, 20])
    nodes: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value, **attributes: float) -> ir.Value:
        nodes.append(ir.node(op, list(inputs), attributes))
        return nodes[-1].outputs[0]

    stream = add("Add", add("MatMul", x, stem), table)
    normed = add("LayerNormalization", stream, gains[0], shifts[0], axis=-1, epsilon=1e-5)
    inner = add("Gelu", add("Add", add("MatMul", normed, first), biases[0]))
    stream = add("Add", stream, add("Add", add("MatMul", inner, back), biases[1]))
    normed = add("LayerNormalization", stream, gains[1], shifts[1], axis=-1, epsilon=1e-5)
    y = add("Add", add("MatMul", normed, second), biases[2])
    y.name, y.dtype, y.shape = "y", ir.DataType.FLOAT, ir.Shape([1, 7, 32])
    initializers = [stem, table, *gains, *shifts, first, second, back, *biases]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=initializers, opset_imports={"": 20}, name="encoder")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize("outlier", [1.0, 30.0])
def test_a_layer_computes_the_same_without_its_mean(outlier: float) -> None:
    model = encoder_graph(outlier)
    (before,) = run(model, x=X)
    RotateEncoderPass()(model)
    (after,) = run(model, x=X)
    np.testing.assert_allclose(after, before, atol=2e-5 * np.abs(before).max())
    assert op_types(model).count("SimplifiedLayerNormalization") == 2
    assert "LayerNormalization" not in op_types(model)
    assert len(op_types(model)) == 12
    assert not {"g0", "s0", "b0", "b2"} & model.graph.initializers.keys()


def test_outlier_channels_of_the_stream_no_longer_cost_precision() -> None:
    errors = []
    for rotation in (False, True):
        model = encoder_graph(30.0)
        (exact,) = run(model, x=X)
        if rotation:
            RotateEncoderPass()(model)
        DynamicPerTensorPass(lambda _: Dynamic(activations="tensor", reduce_range=SATURATES))(model)
        (found,) = run(model, x=X)
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors[1] < (0.75 if SATURATES else 0.5) * errors[0], errors  # seven bits add an error of their own


@pytest.mark.parametrize("frames", [(100,), (800, 433), (37,)])
def test_the_exported_encoder_computes_the_same(bundle: Path, frames: tuple[int, ...]) -> None:
    recipe = parse_recipe('encoder_rotation = true\n[step]\nscheme = "fp32"\n', "turned", where="test")
    quantize_bundle(bundle, recipe)
    manifest = Bundle.open(bundle).manifest
    longest = -(-max(frames) // 100) * 100
    mel = np.random.default_rng(1).standard_normal((len(frames), 128, longest)).astype(np.float32)
    for row, n in enumerate(frames):
        mel[row, :, n:] = 0
    inputs: dict[str, Array] = {"mel": mel, "n_frames": np.array(frames, dtype=np.int64)}
    found = []
    for name in ("fp32", "turned"):
        graph = bundle / manifest.variants[name].encoder
        session = Session(graph, interface=encoder_interface(manifest), threads=1)
        found.append(session.run("audio_features", inputs))
    assert manifest.variants["turned"].decoder_init == manifest.variants["fp32"].decoder_init
    np.testing.assert_allclose(found[1], found[0], atol=3e-5 * np.abs(found[0]).max())


def test_every_weight_of_the_stream_is_turned(bundle: Path) -> None:
    graph = bundle / Bundle.open(bundle).manifest.variants["fp32"].encoder
    recipe = parse_recipe('encoder_rotation = true\n[step]\nscheme = "fp32"\n', "turned", where="test")
    model = quantized_encoder(ir.load(graph), recipe)
    turned = {name for name, value in model.graph.initializers.items() if isinstance(value.const_value, DerivedTensor)}
    products = {str(node.inputs[1].name) for node in model.graph if node.op_type == "MatMul" and node.inputs[1]}
    inner = {name for name in products if name.endswith(("proj2.weight",))}
    assert products - turned == inner
    assert "audio_tower.positions" in turned
