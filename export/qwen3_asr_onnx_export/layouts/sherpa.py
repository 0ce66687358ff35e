"""Layout `sherpa`: three graphs for sherpa-onnx, whose tensors have the names that daobidao looks up.

    conv_frontend.onnx      input_features (1, T, n_mels)                           -> conv_output (1, n, d_model)
    encoder.int8.onnx       input_features (1, n, d_model), feature_attention_mask  -> audio_features (1, n, hidden)
    decoder.int8.onnx       input_ids (1, S), audio_features (1, A, hidden), attention_mask (1, S), cache_position (S),
                            cache_key_0, cache_value_0, ... (1, M, kv_heads, head_dim)
                                              -> logits (1, S, vocab_size), key_delta_0, value_delta_0, ...
    tokenizer/              vocab.json, merges.txt, tokenizer_config.json

sherpa-onnx goes by the order and takes any file names; daobidao goes by names, and by these file names whatever is in
them. The caller keeps the cache: a graph reads its first rows, up to `cache_position`, and hands out what to put behind
them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, EMBEDS, LOGITS

from .attention import Past, attend, blocked, causal_bias, repeat_rows, seen
from .decoder import every_position
from .embeddings import embedded, embedded_by_head
from .nodes import FLOAT, HALF, INT64, Nodes
from .source import LayoutSource
from .weight_files import LayoutFiles
from .windows import encoder_of_rows, front_end

__all__ = ["write_sherpa"]

FRONT_END, ENCODER, DECODER = "conv_frontend.onnx", "encoder.int8.onnx", "decoder.int8.onnx"

TOKENIZER = "tokenizer"
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


def write_sherpa(source: LayoutSource, files: LayoutFiles, *, half_logits: bool = False) -> None:
    """Fill a folder with this layout.

    Args:
        source: the variant.
        files: the folder.
        half_logits: give logits in float16, which sherpa-onnx takes: half the memory of long prompts.

    Raises:
        BundleError: a file of the bundle is missing or damaged.
    """
    manifest = source.bundle.manifest
    _copy_tokenizer(source, files.folder)
    files.save(front_end(source.encoder(), manifest), FRONT_END)
    files.save(encoder_of_rows(source.encoder(), manifest), ENCODER)
    files.save(_decoder(source, manifest, half_logits), DECODER)


def _copy_tokenizer(source: LayoutSource, folder: Path) -> None:
    (folder / TOKENIZER).mkdir()
    for name in TOKENIZER_FILES:
        shutil.copyfile(source.small_file(name), folder / TOKENIZER / name)


def _decoder(source: LayoutSource, manifest: Manifest, half_logits: bool) -> ir.Model:
    dims = manifest.decoder
    nodes = Nodes(source.decoder())
    inputs, outputs = nodes.take_inputs(), nodes.take_outputs()
    ids = nodes.input("input_ids", INT64, 1, "sequence")
    audio = nodes.input(AUDIO_FEATURES, FLOAT, 1, "audio_tokens", dims.hidden)
    nodes.input("attention_mask", INT64, 1, "sequence")  # of ones: which positions are seen follows from the next
    position = nodes.input("cache_position", INT64, "sequence")
    cache = ("capacity", dims.kv_heads, dims.head_dim)
    caches = [
        tuple(nodes.input(f"cache_{kind}_{layer}", FLOAT, 1, *cache) for kind in ("key", "value"))
        for layer in range(dims.layers)
    ]
    embeds = embedded_by_head(nodes, source, ids) or embedded(nodes, source.table(), ids)
    nodes.replace(inputs[EMBEDS], _spliced(nodes, embeds, ids, audio, manifest))
    before = nodes.op("Slice", position, nodes.ints(0), nodes.ints(1))
    # An empty past is read as one row that nobody sees.
    read = nodes.op("Max", before, nodes.ints(1))
    new = nodes.size(ids, 1)
    unseen = nodes.op("Where", nodes.op("Greater", before, nodes.ints(0)), seen(nodes), blocked(nodes))
    past_bias = nodes.op("Expand", unseen, nodes.op("Concat", new, read, axis=0))
    bias = repeat_rows(nodes, dims, nodes.op("Concat", past_bias, causal_bias(nodes, new), axis=1))

    def past_of(layer: int) -> Past:
        keys, values = (
            nodes.reshape(
                nodes.op("Slice", whole, nodes.ints(0), read, nodes.ints(1)), -1, dims.kv_heads, dims.head_dim
            )
            for whole in caches[layer]
        )
        return Past(keys, values, by_row=True)

    deltas = attend(nodes, dims, nodes.op("Unsqueeze", position, nodes.ints(0)), bias, past_of)
    logits = every_position(nodes, outputs)
    if half_logits:
        logits = nodes.op("Cast", logits, to=HALF)
    nodes.output(logits, LOGITS, HALF if half_logits else FLOAT, 1, "sequence", dims.vocab_size)
    for layer, pair in enumerate(deltas):
        for kind, value in zip(("key", "value"), pair, strict=True):
            delta = nodes.reshape(value, 1, -1, dims.kv_heads, dims.head_dim)
            nodes.output(delta, f"{kind}_delta_{layer}", FLOAT, 1, "sequence", dims.kv_heads, dims.head_dim)
    return nodes.finish()


def _spliced(nodes: Nodes, embeds: ir.Value, ids: ir.Value, audio: ir.Value, manifest: Manifest) -> ir.Value:
    """Return embeddings with the audio rows, in their order, at the places of the audio token: (1, S, hidden)."""
    token = nodes.constant(np.array([manifest.tokens.audio], np.int64), "layout.audio_token")
    is_audio = nodes.op("Equal", ids, token)
    one, zero = nodes.ints(1), nodes.ints(0)
    counted = nodes.op("CumSum", nodes.op("Cast", is_audio, to=INT64), nodes.ints(1))
    last = nodes.op("Sub", nodes.size(audio, 1), one)
    place = nodes.op("Min", nodes.op("Max", nodes.op("Sub", counted, one), zero), last)
    rows = nodes.op("Gather", nodes.op("Squeeze", audio, zero), place, axis=0)
    return nodes.op("Where", nodes.op("Unsqueeze", is_audio, nodes.ints(2)), rows, embeds)
