"""Layout `wyoming`: an encoder and one decoder for wyoming-faster-whisper, the speech recogniser of Home Assistant.

    encoder.int4.onnx           mel (1, n_mels, T) -> audio_features (1, N, hidden)
    decoder_merged.int4.onnx    input_embeds (1, S, hidden), position_ids (1, S), attention_mask (1, 1, S, P + S),
                                past_keys, past_values (layers, 1, kv_heads, P, head_dim)
                                          -> logits (1, 1, vocab_size), present_keys, present_values
    embed_tokens.bin            (vocab_size, hidden) float16
    tokenizer.json, config.json

The files have these names whatever is in them. The caller keeps all layers' caches in one array, adds its mask to the
scores, and looks at the second output for the shape of an empty cache.
"""

from __future__ import annotations

import shutil

import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, MANIFEST_FILE, TOKENIZER_FILE, Manifest
from qwen3_asr_onnx.bundle.names import EMBEDS

from .attention import attend, repeat_rows
from .config import config_text
from .decoder import last_logits
from .nodes import FLOAT, INT64, Nodes
from .source import LayoutSource
from .stacked_cache import past_inputs, past_of_layers, present_outputs
from .weight_files import LayoutFiles
from .windows import whole_encoder

__all__ = ["write_small_files", "write_wyoming"]

ENCODER, DECODER = "encoder.int4.onnx", "decoder_merged.int4.onnx"


def write_wyoming(source: LayoutSource, files: LayoutFiles) -> None:
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
    files.save(_decoder(source.decoder(), manifest), DECODER)


def write_small_files(source: LayoutSource, files: LayoutFiles) -> None:
    """Write the table, the tokenizer and what describes the model."""
    files.save_table(source.table(), EMBEDDINGS_FILE)
    shutil.copyfile(source.small_file(TOKENIZER_FILE), files.folder / TOKENIZER_FILE)
    (files.folder / MANIFEST_FILE).write_text(config_text(source), encoding="utf-8")


def _decoder(model: ir.Model, manifest: Manifest) -> ir.Model:
    nodes, dims = Nodes(model), manifest.decoder
    inputs, outputs = nodes.take_inputs(), nodes.take_outputs()
    embeds = nodes.input("input_embeds", FLOAT, 1, "sequence", dims.hidden)
    positions = nodes.input("position_ids", INT64, 1, "sequence")
    mask = nodes.input("attention_mask", FLOAT, 1, 1, "sequence", "total")
    past = past_inputs(nodes, dims)
    nodes.replace(inputs[EMBEDS], embeds)
    bias = repeat_rows(nodes, dims, nodes.op("Squeeze", mask, nodes.ints(0, 1)))
    new = attend(nodes, dims, positions, bias, past_of_layers(nodes, dims, past))
    last_logits(nodes, dims, inputs, outputs)
    present_outputs(nodes, dims, new, past)
    return nodes.finish()
