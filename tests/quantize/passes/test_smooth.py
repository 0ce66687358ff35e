"""Smoothing: the same function to the last bit, and outliers that no rotation reaches are gone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from tests.quantize.weights.test_rotation import initializer
from tests.support.graphs import Array, run

from qwen3_asr_onnx_quantize.passes.smooth import SmoothPass
from qwen3_asr_onnx_quantize.schemes import WeightOnly
from qwen3_asr_onnx_quantize.schemes.weight_only import WeightOnlyPass
from qwen3_asr_onnx_quantize.weights.derived import ScaledTensor

RNG = np.random.default_rng(0)
WIDTH, INNER = 32, 64
X = RNG.standard_normal((1, 9, WIDTH)).astype(np.float32)


def mlp(outlier: float = 1.0) -> ir.Model:
    """Return five nodes: gate, up, their product, and down; some inner channels large in `up` and small in `down`."""
    spread = np.where(np.arange(INNER) % 16 == 3, outlier, 1.0)
    gate, up = (initializer(name, RNG.standard_normal((WIDTH, INNER))) for name in ("gate", "up"))
    assert up.const_value is not None
    up = initializer("up", up.const_value.numpy() * spread)
    down = initializer("down", RNG.standard_normal((INNER, 24)) / spread[:, None])
    x = ir.val("x", ir.DataType.FLOAT, [1, "tokens", WIDTH])
    gates = ir.node("MatMul", [x, gate])
    sigmoid = ir.node("Sigmoid", [gates.outputs[0]])
    silu = ir.node("Mul", [gates.outputs[0], sigmoid.outputs[0]])
    ups = ir.node("MatMul", [x, up])
    gated = ir.node("Mul", [silu.outputs[0], ups.outputs[0]])
    y = ir.val("y", ir.DataType.FLOAT, [1, "tokens", 24])
    downs = ir.node("MatMul", [gated.outputs[0], down], outputs=[y])
    nodes = [gates, sigmoid, silu, ups, gated, downs]
    graph = ir.Graph([x], [y], nodes=nodes, initializers=[gate, up, down], opset_imports={"": 20}, name="mlp")
    return ir.Model(graph, ir_version=10)


def attention() -> ir.Model:
    """Return v, grouped attention (4 query heads on 2 value heads) and o; queries and keys are inputs."""
    head, kv = 16, 2
    v = initializer("v", RNG.standard_normal((WIDTH, kv * head)) * np.exp2(RNG.integers(-6, 6, kv * head)))
    o = initializer("o", RNG.standard_normal((4 * head, 24)))
    x = ir.val("x", ir.DataType.FLOAT, [1, "tokens", WIDTH])
    query, key = ir.val("q", ir.DataType.FLOAT, [1, "tokens", 64]), ir.val("k", ir.DataType.FLOAT, [1, "tokens", 32])
    past = [ir.val(name, ir.DataType.FLOAT, [1, kv, "past", head]) for name in ("past_key", "past_value")]
    lengths = ir.val("seqlens_k", ir.DataType.INT32, [1]), ir.val("total", ir.DataType.INT32, [])
    values = ir.node("MatMul", [x, v])
    attend = ir.node(
        "GroupQueryAttention",
        [query, key, values.outputs[0], *past, *lengths],
        {"num_heads": 4, "kv_num_heads": kv},
        domain="com.microsoft",
        num_outputs=3,
    )
    y = ir.val("y", ir.DataType.FLOAT, [1, "tokens", 24])
    out = ir.node("MatMul", [attend.outputs[0], o], outputs=[y])
    graph = ir.Graph(
        [x, query, key, *past, *lengths],
        [y],
        nodes=[values, attend, out],
        initializers=[v, o],
        opset_imports={"": 20, "com.microsoft": 1},
        name="attention",
    )
    return ir.Model(graph, ir_version=10)


def attention_inputs() -> dict[str, Array]:
    rng = np.random.default_rng(3)
    past = np.zeros((1, 2, 9, 16), dtype=np.float32)
    return {
        "x": X,
        "q": rng.standard_normal((1, 9, 64)).astype(np.float32),
        "k": rng.standard_normal((1, 9, 32)).astype(np.float32),
        "past_key": past,
        "past_value": past,
        "seqlens_k": np.array([8], dtype=np.int32),
        "total": np.array(9, dtype=np.int32),
    }


def tensors(model: ir.Model) -> dict[str, Array]:
    return {str(name): np.asarray(value.const_value) for name, value in model.graph.initializers.items()}


def test_an_mlp_stays_the_same_to_the_last_bit() -> None:
    model = mlp(50.0)
    (before,) = run(model, x=X)
    SmoothPass()(model)
    changed = [name for name, value in model.graph.initializers.items() if isinstance(value.const_value, ScaledTensor)]
    assert sorted(changed) == ["down", "up"]
    np.testing.assert_array_equal(run(model, x=X)[0], before)


def test_attention_stays_the_same_to_the_last_bit() -> None:
    model = attention()
    (before,) = run(model, **attention_inputs())
    SmoothPass()(model)
    np.testing.assert_array_equal(run(model, **attention_inputs())[0], before)
    v = tensors(model)["v"]
    norms = np.linalg.norm(v, axis=0)
    assert norms.max() / norms.min() < 128  # 2^11 before, and half of that is left to the other side


def test_outlier_channels_no_longer_cost_precision() -> None:
    model = mlp(100.0)
    (exact,) = run(model, x=X)
    errors = []
    for smoothing in (False, True):
        one = ir.from_proto(ir.to_proto(model))
        if smoothing:
            SmoothPass()(one)
        WeightOnlyPass(lambda name: WeightOnly("int4", 32) if name == "down" else WeightOnly("int8", 32))(one)
        (found,) = run(one, x=X)
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert errors[1] < 0.5 * errors[0]


def test_dead_channels_are_left_alone() -> None:
    model = mlp()
    up = model.graph.initializers["up"]
    assert up.const_value is not None
    zeroed = up.const_value.numpy().copy()
    zeroed[:, 5] = 0
    up.const_value = ir.tensor(zeroed, name="up")
    SmoothPass()(model)
    assert all(np.isfinite(values).all() for values in tensors(model).values())


def test_moments_of_scaled_inputs() -> None:
    rows = np.array([2.0, 0.5, 4.0], dtype=np.float32)
    x = RNG.standard_normal((20, 3)).astype(np.float32)
    tensor = ScaledTensor(ir.tensor(np.ones((3, 2), dtype=np.float32)), rows, None)
    np.testing.assert_allclose(tensor.moments(x.T @ x), (x / rows).T @ (x / rows), rtol=1e-5)
