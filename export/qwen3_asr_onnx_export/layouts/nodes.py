"""A graph, and one function to add nodes to it: what the layouts have around the bundle's graphs is written with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnx_ir.passes import PassManager

__all__ = ["CONTRIB", "FLOAT", "HALF", "INT32", "INT64", "Nodes"]

CONTRIB = "com.microsoft"
FLOAT, HALF, INT32, INT64 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT32, ir.DataType.INT64

Dim: TypeAlias = int | str


class Nodes:
    """Adds to a graph; `finish` puts everything in order and drops what nobody reads any more.

    Attributes:
        model: the model whose graph it is.
        graph: the graph.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.graph: ir.Graph = model.graph
        self.graph.opset_imports.setdefault(CONTRIB, 1)
        self._named = 0

    def op(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Add a node with one output."""
        return self.ops(op_type, *inputs, domain=domain, n_outputs=1, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: ir.Value | None, n_outputs: int, domain: str = "", **attributes: Any
    ) -> Sequence[ir.Value]:
        """Add a node with several outputs."""
        self._named += 1
        name = f"layout.{self._named}.{op_type}"
        node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=n_outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = name if n_outputs == 1 else f"{name}.{index}"
        self.graph.append(node)
        return node.outputs

    def constant(self, array: npt.NDArray[Any], name: str) -> ir.Value:
        """Return the initializer that holds a small array; the same for the same name."""
        if name not in self.graph.initializers:
            self.weight(ir.tensor(array, name=name))
        return self.graph.initializers[name]

    def ints(self, *numbers: int) -> ir.Value:
        """Return a constant of int64 numbers, one axis."""
        return self.constant(np.array(numbers, np.int64), f"layout.ints.{'.'.join(map(str, numbers))}")

    def weight(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return a new initializer."""
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=tensor.name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """Give a value another shape, where 0 keeps a dimension and -1 takes what is left."""
        return self.op("Reshape", value, self.ints(*shape))

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """Return the length of an axis: (1,) int64."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def input(self, name: str, dtype: ir.DataType, *shape: Dim) -> ir.Value:
        """Add an input to the graph, behind those that it has."""
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.graph.inputs.append(value)
        return value

    def output(self, value: ir.Value, name: str, dtype: ir.DataType, *shape: Dim) -> None:
        """Make a value an output of the graph, behind those that it has."""
        value.name, value.shape, value.type = name, ir.Shape(shape), ir.TensorType(dtype)
        self.graph.outputs.append(value)

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everybody who reads one value read another instead."""
        ir.convenience.replace_all_uses_with(old, new)

    def take_inputs(self) -> dict[str, ir.Value]:
        """Return the inputs of the graph by name, which then are none any more."""
        taken = {str(value.name): value for value in self.graph.inputs}
        self.graph.inputs.clear()
        return taken

    def take_outputs(self) -> dict[str, ir.Value]:
        """Return the outputs of the graph by name, which then are none any more."""
        taken = {str(value.name): value for value in self.graph.outputs}
        self.graph.outputs.clear()
        return taken

    def finish(self) -> ir.Model:
        """Return the model, its nodes in order and nothing in it that no output needs."""
        outputs = set(self.graph.outputs)
        for value in (value for node in self.graph for value in node.outputs if value not in outputs):
            value.shape = None  # as traced, of other inputs: onnxruntime infers the shapes of today
        passes = [
            common_passes.RemoveUnusedNodesPass(),
            common_passes.CommonSubexpressionEliminationPass(),
            common_passes.TopologicalSortPass(),
        ]
        model = PassManager(passes)(self.model).model
        for name in [name for name, value in model.graph.initializers.items() if not value.uses()]:
            del model.graph.initializers[name]
        return model
