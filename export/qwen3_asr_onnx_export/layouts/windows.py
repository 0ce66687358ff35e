"""Audio of any length around the encoder of 8-second windows, for programs that hand over all of it at once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, MEL, N_FRAMES
from qwen3_asr_onnx_export.shapes import conv_output_bins

from .attention import counted
from .nodes import FLOAT, INT32, Nodes

__all__ = ["encoder_of_rows", "front_end", "whole_encoder"]

POSITIONS = "audio_tower.positions"


def whole_encoder(model: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph `mel` (1, n_mels, T) -> `audio_features` (1, N, hidden) of an encoder graph, which changes."""
    nodes, dims = Nodes(model), manifest.encoder
    inputs, outputs = nodes.take_inputs(), nodes.take_outputs()
    mel = nodes.input(MEL, FLOAT, 1, manifest.mel.n_mels, "frames")
    frames = nodes.size(mel, 2)
    blocks = _padded(nodes, mel, frames, nodes.ints(dims.block_frames), axis=2)
    length = nodes.op("Min", nodes.size(blocks, 2), nodes.ints(dims.window_frames))
    whole = _padded(nodes, blocks, nodes.size(blocks, 2), length, axis=2)
    shape = nodes.op("Concat", nodes.ints(manifest.mel.n_mels, -1), length, axis=0)
    windows = nodes.op("Transpose", nodes.op("Reshape", whole, shape), perm=[1, 0, 2])
    nodes.replace(inputs[MEL], windows)
    nodes.replace(inputs[N_FRAMES], _frames_of_windows(nodes, frames, length, nodes.size(windows, 0)))
    rows = nodes.reshape(outputs[AUDIO_FEATURES], 1, -1, dims.output_dim)
    outputs[AUDIO_FEATURES].name = "layout.windows"
    count = _tokens(nodes, frames, dims.block_frames)
    nodes.output(_first(nodes, rows, count), AUDIO_FEATURES, FLOAT, 1, "audio_tokens", dims.output_dim)
    return nodes.finish()


def front_end(model: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph `input_features` (1, T, n_mels) -> `conv_output` (1, n, d_model) of an encoder graph: its stem.

    There are as many rows as whole blocks have, T being padded to whole blocks.
    """
    nodes, dims = Nodes(model), manifest.encoder
    inputs = nodes.take_inputs()
    nodes.take_outputs()
    features = nodes.input("input_features", FLOAT, 1, "frames", manifest.mel.n_mels)
    mel = nodes.op("Transpose", features, perm=[0, 2, 1])
    nodes.replace(inputs[MEL], _padded(nodes, mel, nodes.size(features, 1), nodes.ints(dims.block_frames), axis=2))
    rows = nodes.reshape(_stem(nodes.graph).outputs[0], 1, -1, dims.d_model)
    nodes.output(rows, "conv_output", FLOAT, 1, "rows", dims.d_model)
    return nodes.finish()


def encoder_of_rows(model: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph from the rows of `front_end` and a mask of them to audio features: the encoder behind its stem.

    `input_features` (1, n, d_model), `feature_attention_mask` (1, n) bool -> `audio_features` (1, n, hidden), zero in
    rows where the mask is false; true ones come first.
    """
    nodes, dims = Nodes(model), manifest.encoder
    nodes.take_inputs()
    outputs = nodes.take_outputs()
    rows = nodes.input("input_features", FLOAT, 1, "rows", dims.d_model)
    mask = nodes.input("feature_attention_mask", ir.DataType.BOOL, 1, "rows")
    count = nodes.size(rows, 1)
    per_window = dims.window_frames // dims.block_frames * conv_output_bins(dims.block_frames)
    length = nodes.op("Min", count, nodes.ints(per_window))
    padded = _padded(nodes, rows, count, length, axis=1)
    shape = nodes.op("Concat", nodes.ints(-1), length, nodes.ints(dims.d_model), axis=0)
    stream = next(iter(_stem(nodes.graph).outputs[0].uses())).node
    assert stream.op_type == "Reshape", stream
    nodes.replace(stream.outputs[0], nodes.op("Reshape", padded, shape))
    heard = _padded(nodes, nodes.op("Cast", mask, to=INT32), count, length, axis=1)
    shape = nodes.op("Concat", nodes.ints(-1), length, axis=0)
    per_row = nodes.op("ReduceSum", nodes.op("Reshape", heard, shape), nodes.ints(1), keepdims=0)
    for node in [node for node in nodes.graph if node.op_type == "MultiHeadAttention"]:
        node.replace_input_with(4, per_row)
    outputs[AUDIO_FEATURES].name = "layout.windows"
    features = _first(nodes, nodes.reshape(outputs[AUDIO_FEATURES], 1, -1, dims.output_dim), count)
    zero = nodes.constant(np.zeros(1, np.float32), "layout.zero_row")
    kept = nodes.op("Where", nodes.op("Unsqueeze", mask, nodes.ints(2)), features, zero)
    nodes.output(kept, AUDIO_FEATURES, FLOAT, 1, "rows", dims.output_dim)
    return nodes.finish()


def _stem(graph: ir.Graph) -> ir.Node:
    """Return the node behind which the stem ends: it adds the positions of a block."""
    ((node, _),) = graph.initializers[POSITIONS].uses()
    return node


def _padded(nodes: Nodes, value: ir.Value, length: ir.Value, unit: ir.Value, *, axis: int) -> ir.Value:
    """Return a value of two or three axes with zeros behind one of them, up to whole units."""
    missing = nodes.op("Mod", nodes.op("Neg", length), unit)
    before = nodes.constant(np.zeros(1, np.int64), "layout.no_padding")
    return nodes.op("Pad", value, nodes.op("Concat", before, missing, axis=0), None, nodes.ints(axis))


def _first(nodes: Nodes, rows: ir.Value, count: ir.Value) -> ir.Value:
    """Return the first rows of (1, n, width)."""
    return nodes.op("Slice", rows, nodes.ints(0), count, nodes.ints(1))


def _frames_of_windows(nodes: Nodes, frames: ir.Value, length: ir.Value, windows: ir.Value) -> ir.Value:
    """Return the valid frames of each window: (windows,) int64."""
    starts = nodes.op("Mul", counted(nodes, windows), length)
    return nodes.op("Min", nodes.op("Sub", frames, starts), length)


def _tokens(nodes: Nodes, frames: ir.Value, block: int) -> ir.Value:
    """Return how many audio tokens there are of some frames: (1,) int64."""
    whole = nodes.op("Mul", nodes.op("Div", frames, nodes.ints(block)), nodes.ints(conv_output_bins(block)))
    rest = nodes.op("Add", nodes.op("Mod", frames, nodes.ints(block)), nodes.ints(7))
    return nodes.op("Add", whole, nodes.op("Div", rest, nodes.ints(8)))
