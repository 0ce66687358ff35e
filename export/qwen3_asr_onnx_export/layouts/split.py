"""Layout `split`: prefill and step in two graphs over one file of weights, as the first export scripts wrote them.

    encoder.int4.onnx           mel (1, n_mels, T) -> audio_features (1, N, hidden)
    decoder_init.int4.onnx      input_ids (1, S), position_ids (1, S), audio_features (1, N, hidden), audio_offset (1)
    decoder_step.int4.onnx      input_embeds (1, 1, hidden), position_ids (1, 1), past_keys, past_values
                                          both -> logits (1, 1, vocab_size), present_keys, present_values
    decoder_weights.int4.data   the weights of both
    embed_tokens.bin            (vocab_size, hidden) float16, which the first graph reads too
    tokenizer.json, config.json

Caches are (layers, 1, kv_heads, positions, head_dim). The files have these names whatever is in them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, EMBEDS

from .attention import attend, causal_bias, repeat_rows
from .decoder import last_logits
from .embeddings import embedded
from .nodes import FLOAT, INT64, Nodes
from .source import LayoutSource
from .stacked_cache import past_inputs, past_of_layers, present_outputs
from .weight_files import LayoutFiles
from .windows import whole_encoder
from .wyoming import ENCODER, write_small_files

__all__ = ["write_split"]

INIT, STEP, WEIGHTS = "decoder_init.int4.onnx", "decoder_step.int4.onnx", "decoder_weights.int4.data"


def write_split(source: LayoutSource, files: LayoutFiles) -> None:
    """Fill a folder with this layout.

    Args:
        source: the variant.
        files: the folder.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    manifest = source.bundle.manifest
    write_small_files(source, files)
    files.save(whole_encoder(source.encoder(), manifest), ENCODER)
    files.save(_init(source, manifest), INIT, WEIGHTS)
    files.save(_step(source.decoder(), manifest), STEP, WEIGHTS)


def _init(source: LayoutSource, manifest: Manifest) -> ir.Model:
    nodes, dims = Nodes(source.decoder()), manifest.decoder
    inputs, outputs = nodes.take_inputs(), nodes.take_outputs()
    ids = nodes.input("input_ids", INT64, 1, "sequence")
    positions = nodes.input("position_ids", INT64, 1, "sequence")
    audio = nodes.input(AUDIO_FEATURES, FLOAT, 1, "audio_tokens", dims.hidden)
    offset = nodes.input("audio_offset", INT64, 1)
    length, axis = nodes.size(ids, 1), nodes.ints(1)
    embeds = embedded(nodes, source.table(), ids)
    before = nodes.op("Slice", embeds, nodes.ints(0), offset, axis)
    behind = nodes.op("Slice", embeds, nodes.op("Add", offset, nodes.size(audio, 1)), length, axis)
    nodes.replace(inputs[EMBEDS], nodes.op("Concat", before, audio, behind, axis=1))
    bias = repeat_rows(nodes, dims, causal_bias(nodes, length))
    new = attend(nodes, dims, positions, bias, lambda _: None)
    last_logits(nodes, dims, inputs, outputs)
    present_outputs(nodes, dims, new, None)
    return nodes.finish()


def _step(model: ir.Model, manifest: Manifest) -> ir.Model:
    nodes, dims = Nodes(model), manifest.decoder
    inputs, outputs = nodes.take_inputs(), nodes.take_outputs()
    embeds = nodes.input("input_embeds", FLOAT, 1, 1, dims.hidden)
    positions = nodes.input("position_ids", INT64, 1, 1)
    past = past_inputs(nodes, dims)
    nodes.replace(inputs[EMBEDS], embeds)
    seen = nodes.constant(np.zeros((1, 1, 1), np.float32), "layout.all_seen")
    new = attend(nodes, dims, positions, seen, past_of_layers(nodes, dims, past))
    last_logits(nodes, dims, inputs, outputs)
    present_outputs(nodes, dims, new, past)
    return nodes.finish()
