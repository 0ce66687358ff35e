"""Convolutions of the encoder's stem -> 8-bit integer products over gathered neighbourhoods, channels last.

Rule, for Conv(x, W, b) of 3 x 3 positions with stride 2 and padding 1, x a Gelu's output (N, C, H, W):
    largest = Max(ReduceMax(x) over a block, floor)        one scale per block of a second, so blocks stay independent
    codes = QuantizeLinear(x, largest / 223, 32)           Gelu is never below -0.17: 32 codes are enough for that
    patches = Concat of nine strided Slices of Pad(codes)  (N, H', W', 9 C) bytes
    y = MatMulIntegerToFloat(patches, W8, 1/223, scales of W8, 32) * largest + b
The Gelu behind it moves to channels last as well, so that the next convolution finds its input as it needs it.

onnxruntime's own ConvInteger is ten times slower, and QLinearConv wants the range of its output in advance
(INVESTIGATION.md, entries 040 and 055).

Requires: constant float32 weights; the first convolution, which reads the spectrogram, stays as it is.
Ensures: the codes are pending, nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from qwen3_asr_onnx_quantize.weights.derived import DerivedTensor
from qwen3_asr_onnx_quantize.weights.pending import Job

from .products import DOMAIN, constant
from .w8a8 import Dynamic

__all__ = ["IntegerConvolutionsPass"]

Floats = npt.NDArray[np.float32]

ZERO_CODE = 32
CODES = 255 - ZERO_CODE
GELU_MINIMUM = -0.17
"""-0.16997 at -0.7518; exactly computed, so no value lies below."""
FLOOR = -GELU_MINIMUM * CODES / ZERO_CODE
"""Smallest `largest` with which the codes reach down to the least value of Gelu."""

KERNEL = 3
LAST = np.iinfo(np.int64).max
TAP_ENDS = (-2, -1, LAST)
"""Where a tap's slice of the padded input ends, whatever the input's length."""

TO_CHANNELS_LAST, TO_CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class NeighbourhoodMatrix(DerivedTensor):
    """A convolution's weight (C', C, 3, 3) as the matrix (9 C, C') that multiplies gathered neighbourhoods."""

    def __init__(self, base: ir.TensorProtocol) -> None:
        outputs, inputs, *kernel = (int(size) for size in base.shape.numpy())
        super().__init__(base, (int(np.prod(kernel)) * inputs, outputs))

    @property
    def key(self) -> Hashable:
        """There is one way to do it."""
        return "neighbourhood"

    @property
    def columnwise(self) -> bool:
        """Columns of the matrix are rows of the weight."""
        return False

    def derive(self, values: Floats, columns: slice) -> Floats:  # noqa: ARG002 - there are no parts
        """Return the whole matrix, given the whole weight."""
        return np.ascontiguousarray(values.transpose(2, 3, 1, 0)).reshape(tuple(self.shape.numpy()))


class IntegerConvolutionsPass(InPlacePass):
    """See the module's docstring."""

    def __init__(self, *, reduce_range: bool = True) -> None:
        super().__init__()
        self.weights = Dynamic(reduce_range=reduce_range)

    def call(self, model: ir.Model) -> PassResult:
        """Replace every convolution that reads a Gelu."""
        graph = model.graph
        constants = _constants()
        channels_last: dict[ir.Value, ir.Value] = {}
        for conv in [node for node in graph if node.op_type == "Conv"]:
            x = conv.inputs[0]
            assert x is not None
            if not (x in channels_last or _is_gelu(x.producer())) or not _is_stride_two(conv):
                continue
            for name, value in constants.items():
                if name not in graph.initializers:
                    graph.register_initializer(value)
            _replace(graph, conv, x, self.weights, constants, channels_last)
        if channels_last:
            graph.opset_imports.setdefault(DOMAIN, 1)
        return PassResult(model, modified=bool(channels_last))


def _replace(
    graph: ir.Graph,
    conv: ir.Node,
    x: ir.Value,
    part: Dynamic,
    constants: dict[str, ir.Value],
    channels_last: dict[ir.Value, ir.Value],
) -> None:
    """Put the product and its Gelu where a convolution and its Gelu were."""
    weight, bias = conv.inputs[1], conv.inputs[2]
    (gelu,) = (use.node for use in conv.outputs[0].uses())
    assert weight is not None
    assert weight.const_value is not None
    assert gelu.op_type == "Gelu", gelu
    nodes: list[ir.Node] = []

    def node(op_type: str, inputs: list[ir.Value | None], what: str, domain: str = "", **attributes: Any) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes, domain=domain, name=f"{conv.name}_{what}"))
        nodes[-1].outputs[0].name = f"{conv.outputs[0].name}_{what}"
        return nodes[-1].outputs[0]

    if x not in channels_last:
        channels_last[x] = node("Transpose", [x], "channels_last", perm=TO_CHANNELS_LAST)
    patches, largest = _gather(channels_last[x], constants, node)
    codes, scales = Job(NeighbourhoodMatrix(weight.const_value), part).initializers()
    graph.register_initializer(codes)
    graph.register_initializer(scales)
    scale, zero = constants["stem.scale"], constants["stem.zero"]
    y = node("MatMulIntegerToFloat", [patches, codes, scale, scales, zero], "product", DOMAIN)
    y = node("Add", [node("Mul", [y, largest], "rescale"), bias], "shifted")
    y = node("Gelu", [y], "gelu", **{name: attribute.value for name, attribute in gelu.attributes.items()})
    back = node("Transpose", [y], "channels_first", perm=TO_CHANNELS_FIRST)
    channels_last[back] = y
    ir.convenience.replace_nodes_and_values(graph, conv, [gelu, conv], nodes, [gelu.outputs[0]], [back])
    del graph.initializers[str(weight.name)]


def _gather(x: ir.Value, constants: dict[str, ir.Value], node: Callable[..., ir.Value]) -> tuple[ir.Value, ir.Value]:
    """Return (N, H', W', 9 C) codes of every neighbourhood, and the magnitude (N, 1, 1, 1) they are shares of."""
    c = constants
    peak = node("ReduceMax", [x, c["stem.block_axes"]], "peak", keepdims=1)
    largest = node("Max", [peak, c["stem.floor"]], "largest")
    # One operator with a scale per block: a division before it would need a second array as large as x.
    scale = node("Reshape", [node("Mul", [largest, c["stem.scale"]], "step"), c["stem.flat"]], "scale")
    zeros = node("Expand", [c["stem.zero"], node("Shape", [scale], "blocks")], "zeros")
    codes = node("QuantizeLinear", [x, scale, zeros], "quantize", axis=0)
    padded = node("Pad", [codes, c["stem.padding"], c["stem.zero"]], "padded")
    taps = []
    for row, column in product(range(KERNEL), repeat=2):
        begin, end = c[f"stem.begin{row}{column}"], c[f"stem.end{row}{column}"]
        taps.append(node("Slice", [padded, begin, end, c["stem.axes"], c["stem.steps"]], f"tap{row}{column}"))
    return node("Concat", taps, "patches", axis=3), largest


def _is_gelu(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Gelu"


def _is_stride_two(conv: ir.Node) -> bool:
    wanted = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    return all(tuple(conv.attributes[name].as_ints()) == value for name, value in wanted.items())


def _constants() -> dict[str, ir.Value]:
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "stem.block_axes": np.array([1, 2, 3], np.int64),
        "stem.floor": np.array(FLOOR, np.float32),
        "stem.scale": np.array(1 / CODES, np.float32),
        "stem.zero": np.array(ZERO_CODE, np.uint8),
        "stem.flat": np.array([-1], np.int64),
        "stem.padding": np.array([0, 1, 1, 0, 0, 1, 1, 0], np.int64),
        "stem.axes": np.array([1, 2], np.int64),
        "stem.steps": np.array([2, 2], np.int64),
    }
    for row, column in product(range(KERNEL), repeat=2):
        arrays[f"stem.begin{row}{column}"] = np.array([row, column], np.int64)
        arrays[f"stem.end{row}{column}"] = np.array([TAP_ENDS[row], TAP_ENDS[column]], np.int64)
    return {name: constant(name, array) for name, array in arrays.items()}
