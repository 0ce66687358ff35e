"""Dimensions -> graphs without weights: a template where the package brings one of that shape, a new trace otherwise.

Both are the same graph, byte for byte. Only tracing needs torch, which is imported when a trace is made and not before.
"""

from __future__ import annotations

import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx.errors import import_errors_named

from . import templates

__all__ = ["decoder_graph", "encoder_graph"]

ONLY_RELEASED = "only graphs of the released shapes come with the package, and tracing"
FIX = "pip install 'qwen3-asr-onnx[export]'"


def encoder_graph(dims: EncoderDims, n_mels: int, *, trace: bool = False) -> ir.Model:
    """Return the encoder graph of a shape; its float32 weights have names, types and shapes, and no values.

    Args:
        dims: the encoder's shape.
        n_mels: mel bins of its input.
        trace: trace it even if there is a template.

    Raises:
        MissingExtra: the graph must be traced, and torch or onnxscript is not installed.
        BundleError: the template cannot be read.
    """
    template = None if trace else templates.find_encoder(dims, n_mels)
    if template is not None:
        return template
    with import_errors_named(f"{ONLY_RELEASED} an encoder of {dims.layers} layers and width {dims.d_model}", FIX):
        from .trace import trace_encoder

        return trace_encoder(dims, n_mels)


def decoder_graph(dims: DecoderDims, head_rows: int, *, trace: bool = False) -> ir.Model:
    """Return the decoder graph of a shape, prefill and step in one; otherwise as `encoder_graph`.

    Args:
        dims: the decoder's shape.
        head_rows: width of the logits: the vocabulary, or an aligner's time classes.
        trace: trace it even if there is a template.

    Raises:
        MissingExtra, BundleError: as `encoder_graph`.
    """
    template = None if trace else templates.find_decoder(dims, head_rows)
    if template is not None:
        return template
    with import_errors_named(f"{ONLY_RELEASED} a decoder of {dims.layers} layers and width {dims.hidden}", FIX):
        from .trace import trace_decoder

        return trace_decoder(dims, head_rows)
