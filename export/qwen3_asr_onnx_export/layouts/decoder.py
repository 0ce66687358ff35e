"""Around the decoder's layers, for several layouts: which logits are wanted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims
from qwen3_asr_onnx.bundle.names import LOGITS, POSITIONS

from .nodes import FLOAT, Nodes

__all__ = ["every_position", "last_logits"]


def every_position(nodes: Nodes, outputs: Mapping[str, ir.Value]) -> ir.Value:
    """Return logits of all positions: (1, S, vocab_size)."""
    for node in [node for node in nodes.graph if node.op_type == "GatherND"]:
        state = node.inputs[0]
        assert state is not None
        nodes.replace(node.outputs[0], state)
    return _unnamed(outputs)


def last_logits(
    nodes: Nodes, dims: DecoderDims, inputs: Mapping[str, ir.Value], outputs: Mapping[str, ir.Value]
) -> None:
    """Add the output `logits` of the last position alone: (1, 1, vocab_size)."""
    nodes.replace(inputs[POSITIONS], nodes.constant(np.array([[-1]], np.int64), "layout.last"))
    nodes.output(_unnamed(outputs), LOGITS, FLOAT, 1, 1, dims.vocab_size)


def _unnamed(outputs: Mapping[str, ir.Value]) -> ir.Value:
    """Return the logits without the name, which the output of the layout shall have."""
    logits = outputs[LOGITS]
    logits.name = "layout.logits"
    return logits
