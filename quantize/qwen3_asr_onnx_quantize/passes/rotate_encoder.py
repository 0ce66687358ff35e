"""Turn the residual stream of the encoder into another orthogonal basis, after taking the mean out of it.

Rule, with x the residual stream, C = I - 11^T / width (which subtracts a vector's mean) and R orthogonal:
    LayerNorm(x; g, b)                -> RMSNorm(x C R), gain one: the variance of x is the mean square of x C R
    MatMul by W, Add of c, after it   -> MatMul by R^T diag(g) W, Add of b W + c
    MatMul by W, Add of c, into x     -> MatMul by W C R, Add of c C R; likewise the table of positions
All of it happens in the weights (Ashkboos et al., SliceGPT, arXiv 2401.15024, section 3.2): no operator is added, and
a norm becomes a little cheaper.

Requires: an encoder graph as exported: pre-norm layers, the last norm included, each read by products by constants that
a constant is added to; what is added to the stream comes from products by constants with or without a constant added.
Ensures: outputs are the same up to rounding; turned weights are `RotatedTensor`s, computed when they are written.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.weights.pending import copied
from qwen3_asr_onnx_quantize.weights.rotation import RotatedTensor

__all__ = ["RotateEncoderPass"]

UNIT_GAIN = "audio_tower.unit_gain"
NORM = "LayerNormalization"


class RotateEncoderPass(InPlacePass):
    """See the module's docstring."""

    def call(self, model: ir.Model) -> PassResult:
        """Turn the stream that the layer norms read."""
        graph = model.graph
        norms = [node for node in graph if node.op_type == NORM]
        for value in dict.fromkeys(node.inputs[0] for node in norms):
            _turn_writers(value)
        width = _numbers(norms[0].inputs[1]).size
        unit_gain = copied(np.ones(width), UNIT_GAIN)
        graph.register_initializer(unit_gain)
        for norm in norms:
            _turn_readers(norm)
            _replace_norm(norm, unit_gain)
        unused = [name for name, value in graph.initializers.items() if not value.uses()]
        for name in unused:
            del graph.initializers[name]
        return PassResult(model, modified=True)


def _turn_writers(value: ir.Value | None) -> None:
    """Turn whatever constant adds to the stream, back to where a stream that is turned already is read."""
    assert value is not None
    if value.is_initializer():
        assert value.const_value is not None
        if not isinstance(value.const_value, RotatedTensor):
            value.const_value = RotatedTensor(value.const_value, None, "centred_out")
        return
    node = value.producer()
    assert node is not None, f"{value.name} feeds the residual stream and is no constant's product"
    if node.op_type == "Add":
        for part in node.inputs:
            _turn_writers(part)
    elif node.op_type == "MatMul":
        _turn_writers(node.inputs[1])
    else:
        assert node.op_type == "Reshape", f"{node.op_type} writes to the residual stream"
        _turn_writers(node.inputs[0])


def _turn_readers(norm: ir.Node) -> None:
    """Fold a norm's gain and shift into the products that read it, and turn them."""
    gain, shift = _numbers(norm.inputs[1]), _numbers(norm.inputs[2])
    for product in {use.node: None for use in norm.outputs[0].uses()}:
        weight = product.inputs[1]
        assert product.op_type == "MatMul", f"{product.op_type} reads a norm of the residual stream"
        assert weight is not None
        assert weight.const_value is not None
        (add,) = (use.node for use in product.outputs[0].uses())
        assert add.op_type == "Add", f"{add.op_type} reads {product.name}"
        place = 1 - list(add.inputs).index(product.outputs[0])
        bias = add.inputs[place]
        # Sums in a fixed order and in float64, not a product: the same bits with any library.
        moved = np.einsum("k,kn->n", shift, _numbers(weight), dtype=np.float64) + _numbers(bias)
        name = f"{bias.name}.shifted" if bias is not None else ""
        new = copied(moved, name)
        assert isinstance(norm.graph, ir.Graph)
        norm.graph.register_initializer(new)
        add.replace_input_with(place, new)
        weight.const_value = RotatedTensor(weight.const_value, gain, "in")


def _replace_norm(norm: ir.Node, unit_gain: ir.Value) -> None:
    graph = norm.graph
    assert isinstance(graph, ir.Graph)
    attributes = {name: norm.attributes[name] for name in ("axis", "epsilon", "stash_type") if name in norm.attributes}
    simple = ir.Node(
        "", "SimplifiedLayerNormalization", [norm.inputs[0], unit_gain], attributes.values(), name=norm.name
    )
    ir.convenience.replace_nodes_and_values(graph, norm, [norm], [simple], [norm.outputs[0]], [simple.outputs[0]])


def _numbers(value: ir.Value | None) -> npt.NDArray[np.float32]:
    assert value is not None
    assert value.const_value is not None
    return np.array(value.const_value.numpy(), dtype=np.float32)
