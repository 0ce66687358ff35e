"""Token ids -> input embeddings inside a graph: from the float16 table, or from the head where it is that table."""

from __future__ import annotations

import onnx_ir as ir

from qwen3_asr_onnx.bundle.names import HEAD

from .nodes import CONTRIB, FLOAT, Nodes
from .source import LayoutSource

__all__ = ["embedded", "embedded_by_head"]

CODES, SCALES = f"{HEAD}.int8", f"{HEAD}.int8_scales"
ROTATION = "residual.rotation"


def embedded(nodes: Nodes, table: ir.ExternalTensor, ids: ir.Value) -> ir.Value:
    """Return the embeddings of ids (1, S) in float32: (1, S, hidden)."""
    return nodes.op("Cast", nodes.op("Gather", nodes.weight(table), ids, axis=0), to=FLOAT)


def embedded_by_head(nodes: Nodes, source: LayoutSource, ids: ir.Value) -> ir.Value | None:
    """Return the embeddings of ids from the codes of the head, which the graph then holds alone; None where it cannot.

    It can where the head is tied to the table, stands in the same basis, and has 8 bits around zero. Fewer may do to
    tell words apart; to begin a sum of 28 layers with they are too few.
    """
    graph = nodes.graph
    codes = graph.initializers[CODES].const_value if CODES in graph.initializers else None
    if not isinstance(codes, ir.ExternalTensor) or not source.bundle.manifest.source.get("tied_head"):
        return None
    product = next(use.node for use in graph.initializers[CODES].uses())
    if ROTATION in graph.initializers or len(product.inputs) > 3:  # a fourth would be zero points
        return None
    rows, blocks, block = (int(size) for size in codes.shape.numpy())
    # The same bytes in another shape: a second name for one place in the file.
    table = ir.ExternalTensor(
        codes.location,
        codes.offset,
        codes.nbytes,
        codes.dtype,
        shape=ir.Shape((rows, blocks * block)),
        name=f"{CODES}.rows",
        base_dir=codes.base_dir,
    )
    scales = nodes.op("Cast", nodes.reshape(graph.initializers[SCALES], rows, blocks), to=FLOAT)
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": block, "bits": 8}
    return nodes.op("GatherBlockQuantized", nodes.weight(table), ids, scales, domain=CONTRIB, **attributes)
