"""Which nodes schemes are about: matrix products whose second input is a constant float32 matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.weights.pending import Job, Storage

__all__ = ["DOMAIN", "Choose", "ProductPass", "constant", "constant_products", "replace_product"]

DOMAIN = "com.microsoft"

Choose: TypeAlias = Callable[[str], Storage]
"""Name of a weight -> what its recipe says."""


class ProductPass(InPlacePass):
    """Replace every product of one graph that the recipe gives to one scheme, in graph order.

    Requires: weights are float32 initializers (K, N) whose numbers can be read in slices.
    Ensures: no product that is to be replaced is left; the codes are pending, nothing is computed.
    """

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self.choose = choose

    def call(self, model: ir.Model) -> PassResult:
        """Replace the products."""
        products = [(node, tensor, self.choose(str(weight.name))) for node, weight, tensor in constant_products(model)]
        products = [product for product in products if self.covers(product[2])]
        for node, tensor, spec in products:
            known = model.graph.initializers
            stored = [known.get(str(value.name), value) for value in Job(tensor, spec).initializers()]
            nodes, constants = self.nodes(node, tensor, spec, stored)
            replace_product(model, node, nodes, [*stored, *constants])
        return PassResult(model, modified=bool(products))

    def covers(self, spec: Storage) -> bool:
        """Return whether a product with this scheme is to be replaced."""
        raise NotImplementedError

    def nodes(
        self, product: ir.Node, weight: ir.TensorProtocol, spec: Any, stored: Sequence[ir.Value]
    ) -> tuple[Sequence[ir.Node], Sequence[ir.Value]]:
        """Return what to put in a product's place, the result last, and the constants that takes besides `stored`."""
        raise NotImplementedError


def constant(name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Return an initializer that holds a small array."""
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def constant_products(model: ir.Model) -> list[tuple[ir.Node, ir.Value, ir.TensorProtocol]]:
    """Return every `MatMul` by a constant matrix, with the weight's value and tensor, in graph order."""
    found = []
    for node in model.graph:
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        weight = node.inputs[1]
        if weight is None or weight.const_value is None or not weight.is_initializer():
            continue
        tensor = weight.const_value
        if tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) == 2:
            found.append((node, weight, tensor))
    return found


def replace_product(
    model: ir.Model, product: ir.Node, nodes: Sequence[ir.Node], new_initializers: Sequence[ir.Value]
) -> None:
    """Put `nodes`, the last of which gives the result, where a product was; drop its weight once nobody reads it."""
    graph = model.graph
    weight = product.inputs[1]
    assert weight is not None
    for value in new_initializers:
        assert value.name is not None
        if value.name not in graph.initializers:
            graph.register_initializer(value)
    ir.convenience.replace_nodes_and_values(
        graph, product, [product], nodes, [product.outputs[0]], [nodes[-1].outputs[0]]
    )
    if not weight.uses() and weight.name is not None:
        del graph.initializers[weight.name]
    graph.opset_imports.setdefault(DOMAIN, 1)
