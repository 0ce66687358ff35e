"""fp16: a whole graph in half precision, for GPUs: weights, activations and key/value cache.

Rule: every float32 value becomes float16, except the angles of the rotary embedding, which half precision cannot tell
apart from position 2,048 on: their cosines and sines are computed in float32 and then narrowed. Inputs that are no
cache pass through a `Cast`, and so do outputs: callers keep handing over and getting float32. The cache itself is
float16, because it is updated in place.

Requires: float32 initializers whose numbers can be read in slices.
Ensures: no float32 weight is left beside the rotary frequencies; nothing is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx.bundle.manifest import CacheDtype
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_quantize.weights.pending import Array, Factor, Job, Stored

from .base import Scheme
from .products import Choose

__all__ = ["Half", "HalfGraphPass"]

CACHE_PREFIXES = ("past_", "present_")
FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16


@dataclass(frozen=True, slots=True)
class Half(Scheme):
    """The whole graph in float16, for CUDA; a decoder's layers and head only together."""

    whole_graph: ClassVar[bool] = True
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    cache_dtype: ClassVar[CacheDtype] = "float16"

    scheme: Literal["fp16"] = "fp16"

    @property
    def error(self) -> float:
        """A unit in the last place, for products that are sums in half precision too."""
        return 2**-10

    def outputs(self, name: str, shape: tuple[int, ...]) -> tuple[Stored, ...]:
        """Return one tensor of the same shape."""
        return (Stored(f"{name}.fp16", np.dtype(np.float16), shape),)

    def compute(self, name: str, values: Array, factor: Factor | None) -> tuple[Array, ...]:  # noqa: ARG002
        """Return the share of some rows.

        Raises:
            BundleError: a value is too large.
        """
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise BundleError(f'{name} exceeds FP16; set scheme = "fp32" in [stem] of the recipe')
        return (values.astype(np.float16),)

    @classmethod
    def passes(cls, choose: Choose) -> Sequence[InPlacePass]:  # noqa: ARG003 - all or nothing
        """Return the pass of this file."""
        return [HalfGraphPass()]


class HalfGraphPass(InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> PassResult:
        """Convert the graph."""
        graph = model.graph
        kept = _rotary_nodes(graph)
        for value in list(graph.initializers.values()):
            if value.dtype == FLOAT and not any(use.node in kept for use in value.uses()):
                _narrow_weight(graph, value)
        for node in list(graph):
            if node not in kept:
                _narrow_results(node)
            elif node.op_type in ("Cos", "Sin"):
                _cast_after(graph, node.outputs[0], node)
        for value in graph.inputs:
            if value.dtype == FLOAT:
                _narrow_input(graph, value)
        for index, value in enumerate(graph.outputs):
            if value.dtype == HALF and not str(value.name).startswith(CACHE_PREFIXES):
                graph.outputs[index] = _widened(graph, value)
        return PassResult(model, modified=True)


def _rotary_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that give the cosines and sines of the rotary embedding, and all that they are computed from."""
    waiting = [node for node in graph if node.op_type in ("Cos", "Sin")]
    found: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [producer for value in node.inputs if value and (producer := value.producer())]
    return found


def _narrow_weight(graph: ir.Graph, value: ir.Value) -> None:
    assert value.const_value is not None
    (half,) = Job(value.const_value, Half()).initializers()
    graph.register_initializer(half)
    ir.convenience.replace_all_uses_with(value, half)
    assert value.name is not None
    del graph.initializers[value.name]


def _narrow_results(node: ir.Node) -> None:
    for value in node.outputs:
        if value.dtype == FLOAT:
            # Means and variances of norms, which nobody reads, stay what the operator makes them.
            read = bool(value.uses()) or value.is_graph_output()
            value.type, value.shape = (ir.TensorType(HALF), value.shape) if read else (None, None)


def _narrow_input(graph: ir.Graph, value: ir.Value) -> None:
    if str(value.name).startswith(CACHE_PREFIXES):
        value.dtype = HALF
        return
    cast = ir.node("Cast", [value], {"to": HALF}, name=f"{value.name}_half")
    cast.outputs[0].name = f"{value.name}.fp16"
    cast.outputs[0].dtype = HALF
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    cast.replace_input_with(0, value)
    graph.insert_before(graph[0], cast)


def _cast_after(graph: ir.Graph, value: ir.Value, node: ir.Node) -> None:
    """Narrow a value for all who read it."""
    cast = ir.node("Cast", [value], {"to": HALF}, name=f"{value.name}_half")
    cast.outputs[0].name = f"{value.name}.fp16"
    cast.outputs[0].dtype = HALF
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    cast.replace_input_with(0, value)
    graph.insert_after(node, cast)


def _widened(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return the float32 form of an output, under the output's name."""
    name, producer = value.name, value.producer()
    assert producer is not None
    value.name = f"{name}.fp16"
    cast = ir.node("Cast", [value], {"to": FLOAT}, name=f"{name}_widen")
    wide = cast.outputs[0]
    wide.name, wide.dtype, wide.shape = name, FLOAT, value.shape
    graph.insert_after(producer, cast)
    return wide
