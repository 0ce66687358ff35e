"""Dimensions -> ONNX graphs whose weights are names, not numbers.

`torch.export` runs the wrappers on fake tensors, so tracing a 1.7B decoder costs no more memory than tracing a toy. The
dynamic dimensions, input names and operator sets of every graph are decided here and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import torch
from onnx_ir.passes import PassManager
from torch._subclasses import FakeTensorMode

from qwen3_asr_onnx.bundle import names
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims

from .passes.name_residuals import NameResidualsPass
from .wrappers.decoder import CausalDecoder, reshape_targets
from .wrappers.encoder import WindowedEncoder
from .wrappers.operators import ONNX_VERSION

__all__ = ["trace_decoder", "trace_encoder"]


def trace_encoder(dims: EncoderDims, n_mels: int) -> ir.Model:
    """Trace the windowed encoder: `mel`, `n_frames` -> `audio_features`."""
    # Two of everything dynamic while tracing: torch.export bakes in sizes of 0 and 1.
    windows = torch.export.Dim("windows", min=1, max=4096)
    blocks = torch.export.Dim("blocks", min=1, max=dims.window_frames // dims.block_frames)
    with _fake_tensors():
        module = WindowedEncoder(dims, n_mels).eval()
        mel = torch.empty(2, n_mels, 2 * dims.block_frames)
        n_frames = torch.empty(2, dtype=torch.int64)
        model = _export(
            module,
            (mel, n_frames),
            ({0: windows, 2: blocks * dims.block_frames}, {0: windows}),
            input_names=[names.MEL, names.N_FRAMES],
            output_names=[names.AUDIO_FEATURES],
        )
    _name_dimensions(model.graph.inputs, {names.MEL: ("windows", None, "frames"), names.N_FRAMES: ("windows",)})
    _name_dimensions(model.graph.outputs, {names.AUDIO_FEATURES: ("windows", "audio_tokens", None)})
    model.graph.name = "qwen3_asr_encoder"
    return model


def trace_decoder(dims: DecoderDims, head_rows: int) -> ir.Model:
    """Trace the decoder, prefill and step in one: embeddings and caches -> `logits` (of `head_rows`) and caches."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    sequence = torch.export.Dim("sequence", min=1, max=dims.max_positions)
    capacity = torch.export.Dim("capacity", min=1, max=dims.max_positions)
    asked = torch.export.Dim("asked", min=1, max=dims.max_positions)
    past, present = names.cache_names(names.past_name, dims.layers), names.cache_names(names.present_name, dims.layers)
    with _fake_tensors():
        module = CausalDecoder(dims, head_rows).eval()
        cache_shape = (2, dims.kv_heads, 7, dims.head_dim)
        arguments = (
            torch.empty(2, 3, dims.hidden),
            torch.empty(2, dtype=torch.int32),
            torch.empty((), dtype=torch.int32),
            torch.empty(2, 5, dtype=torch.int64),
            [(torch.empty(cache_shape), torch.empty(cache_shape)) for _ in range(dims.layers)],
        )
        cache_dims = {0: batch, 2: capacity}
        model = _export(
            module,
            arguments,
            (
                {0: batch, 1: sequence},
                {0: batch},
                {},
                {0: batch, 1: asked},
                [(cache_dims, cache_dims) for _ in range(dims.layers)],
            ),
            input_names=[names.EMBEDS, names.SEQLENS, names.TOTAL, names.POSITIONS, *past],
            output_names=[names.LOGITS, *present],
        )
    cache_axes = ("batch", None, "capacity", None)
    _name_dimensions(
        model.graph.inputs,
        {names.EMBEDS: ("batch", "sequence", None), names.SEQLENS: ("batch",), names.POSITIONS: ("batch", "asked")}
        | dict.fromkeys(past, cache_axes),
    )
    _name_dimensions(
        model.graph.outputs,
        {names.LOGITS: ("batch", "asked", None)} | dict.fromkeys(present, cache_axes),
    )
    for name, target in reshape_targets(dims).items():
        model.graph.initializers[name].const_value = ir.tensor(target, name=name)
    NameResidualsPass(dims.layers)(model)
    model.graph.name = "qwen3_asr_decoder"
    return model


@contextlib.contextmanager
def _fake_tensors() -> Iterator[None]:
    """Trace without storage, and without the exporter's chatter about packages it does not need here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with FakeTensorMode(), warnings.catch_warnings():
            # torch 2.13 copies its own deprecated tree specs while exporting; nothing of ours is meant.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _export(
    module: torch.nn.Module,
    arguments: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    *,
    input_names: list[str],
    output_names: list[str],
) -> ir.Model:
    program = torch.export.export(module, arguments, dynamic_shapes=dynamic_shapes, strict=False)
    exported = torch.onnx.export(
        program,
        dynamo=True,
        # The exporter's own optimiser reads weights, which fake tensors do not have; `_clean` does what is needed.
        optimize=False,
        verbose=False,
        external_data=False,
        opset_version=ONNX_VERSION[""],
        input_names=input_names,
        output_names=output_names,
    )
    assert exported is not None
    return _clean(exported.model)


def _clean(model: ir.Model) -> ir.Model:
    """Drop what tracing leaves behind: duplicate shape arithmetic, dead nodes, stack traces in the metadata."""
    result = PassManager(
        [
            common_passes.RemoveUnusedNodesPass(),
            common_passes.CommonSubexpressionEliminationPass(),
            common_passes.IdentityEliminationPass(),
            common_passes.RemoveUnusedNodesPass(),
            common_passes.RemoveUnusedFunctionsPass(),
            common_passes.ClearMetadataAndDocStringPass(),
            common_passes.TopologicalSortPass(),
        ]
    )(model)
    cleaned = result.model
    cleaned.producer_name = "qwen3-asr-onnx"
    cleaned.producer_version = None
    return cleaned


def _name_dimensions(values: Any, names: dict[str, tuple[str | None, ...]]) -> None:
    """Give the dynamic dimensions of graph inputs or outputs readable names; None leaves a dimension as it is."""
    for value in values:
        if value.name not in names:
            continue
        value.shape = ir.Shape(
            [old if name is None else name for old, name in zip(value.shape, names[value.name], strict=True)]
        )
