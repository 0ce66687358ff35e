"""Graphs of a few nodes for the passes, and onnxruntime to run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qwen3_asr_onnx.model.saturation import int8_products_saturate
from qwen3_asr_onnx.model.session import import_onnxruntime

__all__ = ["ONE_BIT", "SATURATES", "Array", "op_types", "product_graph", "run", "run_operator"]

SATURATES = int8_products_saturate()
"""Whether this processor (x86 without VNNI) needs 7-bit weights to multiply rightly; what is tested with the widest
weights that it multiplies rightly loses one bit there."""

ONE_BIT = 2.0 if SATURATES else 1.0

Array = npt.NDArray[Any]


def product_graph(*weights: Array, names: Sequence[str] | None = None) -> ir.Model:
    """Return a graph that multiplies one input `x` (rows, tokens, K) by each weight (K, N_i) into `y0`, `y1`..."""
    x = ir.val("x", ir.DataType.FLOAT, ["rows", "tokens", weights[0].shape[0]])
    nodes, outputs, initializers = [], [], []
    for index, weight in enumerate(weights):
        name = names[index] if names else f"w{index}"
        tensor = ir.tensor(weight, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(weight.shape), type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor
        )
        y = ir.val(f"y{index}", ir.DataType.FLOAT, ["rows", "tokens", weight.shape[1]])
        nodes.append(ir.node("MatMul", [x, value], outputs=[y], name=f"product{index}"))
        outputs.append(y)
        initializers.append(value)
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=initializers, opset_imports={"": 20}, name="test")
    return ir.Model(graph, ir_version=10)


def op_types(model: ir.Model) -> list[str]:
    """Return the operators of a graph, in order."""
    return [node.op_type for node in model.graph]


def run(model: ir.Model, **inputs: Array) -> list[Array]:
    """Run a graph whose weights are in memory or pending."""
    return _session(ir.to_proto(model).SerializeToString(), None, inputs)


def run_operator(op: str, inputs: dict[str, Array], attributes: dict[str, int]) -> Array:
    """Run one `com.microsoft` operator; every input but the first is a constant."""
    names = list(inputs)
    first = inputs[names[0]]
    x = ir.val(names[0], ir.DataType.from_numpy(first.dtype), first.shape)
    constants = [
        ir.Value(
            name=name,
            shape=ir.Shape(inputs[name].shape),
            type=ir.TensorType(ir.DataType.from_numpy(inputs[name].dtype)),
            const_value=ir.tensor(inputs[name], name=name),
        )
        for name in names[1:]
    ]
    y = ir.val("y", ir.DataType.FLOAT, [None] * first.ndim)
    node = ir.node(op, [x, *constants], attributes, domain="com.microsoft", outputs=[y])
    graph = ir.Graph(
        [x], [y], nodes=[node], initializers=constants, opset_imports={"": 20, "com.microsoft": 1}, name="operator"
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    result: Array = _session(proto.SerializeToString(), ["y"], {names[0]: first})[0]
    return result


def _session(model: bytes, outputs: list[str] | None, inputs: dict[str, Array]) -> list[Array]:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(outputs, inputs)]
