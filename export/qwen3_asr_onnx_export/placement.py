"""A graph -> where each of its weights lies in a file, and the graph that points there. Needs no torch.

A graph's initializers keep their checkpoint names and come in the order of the file. Graphs that share a plan share the
file.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qwen3_asr_onnx.bundle.writing import aligned

__all__ = ["Placement", "WeightPlan", "attach", "plan"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one initializer lies in a weight file, in bytes, and its shape as stored."""

    name: str
    shape: tuple[int, ...]
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """The layout of one weight file.

    Attributes:
        file: its name inside the bundle.
        placements: the initializers in file order.
        transposed: names stored transposed with respect to the checkpoint.
    """

    file: str
    placements: tuple[Placement, ...]
    transposed: frozenset[str]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.placements[-1].offset + self.placements[-1].length


def plan(model: ir.Model, file: str) -> WeightPlan:
    """Lay out the float32 initializers of a graph, of which names and shapes are enough, one after the other.

    Args:
        model: a graph as traced or from a template.
        file: name of the weight file inside the bundle.
    """
    placements = []
    offset = 0
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None, name
        if tensor.dtype != ir.DataType.FLOAT:
            continue
        offset = aligned(offset, tensor.nbytes)
        placements.append(Placement(name, tuple(tensor.shape.numpy()), offset, tensor.nbytes))
        offset += tensor.nbytes
    return WeightPlan(file, tuple(placements), _factors(model))


def attach(model: ir.Model, weights: WeightPlan) -> None:
    """Make the initializers of a graph point into the weight file."""
    for place in weights.placements:
        model.graph.initializers[place.name].const_value = ir.ExternalTensor(
            weights.file, place.offset, place.length, ir.DataType.FLOAT, shape=ir.Shape(place.shape), name=place.name
        )


def _factors(model: ir.Model) -> frozenset[str]:
    """Return the weights of products: ONNX wants (in, out) where checkpoints store (out, in)."""
    initializers = model.graph.initializers
    return frozenset(
        name for name, value in initializers.items() if any(use.node.op_type == "MatMul" for use in value.uses())
    )
