"""Bundle graphs against transformers' own layers on random inputs, in bounded memory.

The decoder graph is cut at its layer boundaries and run layer by layer beside upstream's layer with the same weights,
so a 1.7B check needs the memory of one layer. The expected side is upstream code on tensors that safetensors reads: no
wrapper is involved, nor what the export reads the checkpoint with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx_ir.convenience import extract
from torch import nn

from qwen3_asr_onnx.bundle import names
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.model.session import import_onnxruntime

from .checkpoint import EMBED, Checkpoint
from .stored import StoredTensors

__all__ = ["TOLERANCE", "check_decoder", "check_encoder"]

TOLERANCE = 2e-4
"""Largest difference allowed, relative to the largest reference value: float32 rounding over one layer and its head."""

PROMPT_LENGTH = 24
HEAD_ROWS = 16_384

Floats = npt.NDArray[np.float32]


def check_encoder(graph: Path, checkpoint: Checkpoint) -> None:
    """Compare the encoder graph with upstream's encoder on a short window and on a full beside a ragged one.

    Raises:
        BundleError: the outputs differ by more than the tolerance.
    """
    dims = checkpoint.encoder
    rng = np.random.default_rng(0)
    session = _session(graph.read_bytes(), graph.parent)
    block = dims.block_frames
    for n_frames in ((block - 37,), (3 * block, 2 * block + 1)):
        frames = -(-max(n_frames) // block) * block
        mel = rng.normal(0, 0.5, (len(n_frames), checkpoint.mel.n_mels, frames)).astype(np.float32)
        for row, valid in enumerate(n_frames):
            mel[row, :, valid:] = 0
        (found,) = session.run(None, {names.MEL: mel, names.N_FRAMES: np.array(n_frames, dtype=np.int64)})
        expected = _upstream_encoder(checkpoint, mel, n_frames)
        for row, rows in enumerate(expected):
            _compare(f"{graph.name}, window of {n_frames[row]} frames", found[row, : len(rows)], rows)


def check_decoder(graph: Path, checkpoint: Checkpoint, progress: Callable[[], object] = lambda: None) -> None:
    """Compare the decoder graph, prefill then one step, with upstream's layers and head.

    Args:
        graph: the graph file, its weights beside it.
        checkpoint: what it was made from.
        progress: called after each layer and after the head.

    Raises:
        BundleError: a layer's output differs by more than the tolerance.
    """
    dims = checkpoint.decoder
    length = PROMPT_LENGTH + 1
    start = int(np.random.default_rng(0).integers(0, dims.vocab_size - length))
    stored = StoredTensors(checkpoint.path)
    embeds = stored.rows(EMBED, start, start + length)[None]
    model = ir.load(graph)
    expected = _upstream_layers(dims, stored, embeds)
    state: tuple[Floats, ...] = (embeds.numpy(),)
    for layer in range(dims.layers):
        session = _session(_layer_graph(model, layer), graph.parent)
        state = _run_layer(session, dims, layer, state)
        _compare(f"{graph.name}, layer {layer}", state[0] + state[1], next(expected).numpy())
        progress()
    hidden = next(expected)
    values = dict(zip(names.layer_boundary(dims.layers - 1), state, strict=True))
    session = _session(_head_graph(model, dims), graph.parent)
    (logits,) = _run(session, {**values, names.POSITIONS: np.array([[0, length - 1]])})
    del session  # the head is the largest tensor: unmap it before upstream's copy is read
    wanted = _upstream_logits(checkpoint, stored, hidden[0, [0, -1]]).numpy()
    _compare(f"{graph.name}, logits", logits[0], wanted)
    progress()


def _session(model: bytes, folder: Path) -> Any:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Without prepacking the weights are used where the file is mapped, so the check needs no second copy of them.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _part(model: ir.Model, inputs: list[str], outputs: list[str]) -> bytes:
    graph = extract(model.graph, inputs=inputs, outputs=outputs)
    part = ir.Model(graph, ir_version=model.ir_version)
    data: bytes = ir.to_proto(part).SerializeToString()
    return data


def _layer_graph(model: ir.Model, layer: int) -> bytes:
    entry = [names.EMBEDS] if layer == 0 else list(names.layer_boundary(layer - 1))
    caches = [names.past_name("key", layer), names.past_name("value", layer)]
    presents = [names.present_name("key", layer), names.present_name("value", layer)]
    return _part(model, [*entry, names.SEQLENS, names.TOTAL, *caches], [*names.layer_boundary(layer), *presents])


def _head_graph(model: ir.Model, dims: DecoderDims) -> bytes:
    return _part(model, [*names.layer_boundary(dims.layers - 1), names.POSITIONS], [names.LOGITS])


def _run(session: Any, values: Mapping[str, Any]) -> list[Floats]:
    """Run a part of the graph with those of the values that it takes."""
    outputs: list[Floats] = session.run(None, {i.name: values[i.name] for i in session.get_inputs()})
    return outputs


def _lengths(total: int) -> dict[str, npt.NDArray[np.int32]]:
    return {
        names.SEQLENS: np.array([total - 1], dtype=np.int32),
        names.TOTAL: np.array(total, dtype=np.int32),
    }


def _run_layer(session: Any, dims: DecoderDims, layer: int, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    """Run all positions but the last as prefill, the last as a step, and return both parts joined."""
    entry = (names.EMBEDS,) if layer == 0 else names.layer_boundary(layer - 1)
    length = state[0].shape[1]
    empty = np.zeros((1, dims.kv_heads, length, dims.head_dim), dtype=np.float32)
    key, value = empty, empty
    parts: list[list[Floats]] = []
    for start, stop in ((0, length - 1), (length - 1, length)):
        values = {name: part[:, start:stop] for name, part in zip(entry, state, strict=True)}
        caches = {names.past_name("key", layer): key, names.past_name("value", layer): value}
        output, residual, key, value = _run(session, {**values, **_lengths(stop), **caches})
        parts.append([output, residual])
    return tuple(np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))


def _compare(what: str, found: Floats, expected: Floats) -> None:
    scale = float(np.abs(expected).max())
    if not np.isfinite(scale):
        raise BundleError(
            f"{what}: transformers' own answer is not a number; the weights of this checkpoint are absurd"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE * max(scale, 1e-6):
        raise BundleError(
            f"{what}: differs from transformers by {difference:.3g} where the largest value is {scale:.3g}; "
            "the installed torch, onnx or onnxruntime may be too old or broken. Please report this with their versions"
        )


def _load(module: nn.Module, stored: StoredTensors, prefix: str) -> None:
    """Fill a module with the tensors whose names are those of its parameters behind a prefix."""
    module.load_state_dict({name: stored.rows(prefix + name) for name in module.state_dict()})


def _audio_config(dims: EncoderDims, n_mels: int) -> Any:
    import transformers

    # transformers types its configs by their fields alone; `attn_implementation` is handled by their base class.
    make: Any = transformers.Qwen3ASREncoderConfig
    return make(
        num_mel_bins=n_mels,
        encoder_layers=0,
        encoder_attention_heads=dims.heads,
        encoder_ffn_dim=dims.ffn,
        d_model=dims.d_model,
        output_dim=dims.output_dim,
        downsample_hidden_size=dims.conv_channels,
        n_window=dims.block_frames // 2,
        n_window_infer=dims.window_frames,
        attn_implementation="sdpa",
    )


@torch.no_grad()
def _upstream_encoder(checkpoint: Checkpoint, mel: Floats, n_frames: tuple[int, ...]) -> list[Floats]:
    """Return upstream's features per window: its stem, then its layers one at a time, then its projector."""
    from transformers.models.qwen3_asr.modeling_qwen3_asr import Qwen3ASRAudioEncoderLayer, Qwen3ASREncoder

    dims, tower, stored = checkpoint.encoder, "audio_tower.", StoredTensors(checkpoint.path)
    config = _audio_config(dims, checkpoint.mel.n_mels)
    encoder = Qwen3ASREncoder(config).eval()
    _load(encoder, stored, tower)
    norm, encoder.ln_post = encoder.ln_post, nn.Identity()
    mask = (torch.arange(mel.shape[2])[None] < torch.tensor(n_frames)[:, None]).long()
    hidden = encoder(torch.from_numpy(mel), mask).last_hidden_state
    counts = [13 * (n // 100) + -(-(n % 100) // 8) for n in n_frames]
    bounds = torch.tensor(np.cumsum([0, *counts]), dtype=torch.int32)
    layer = Qwen3ASRAudioEncoderLayer(config).eval()
    for i in range(dims.layers):
        _load(layer, stored, f"{tower}layers.{i}.")
        hidden = layer(hidden, bounds, max_seqlen=max(counts))[0]
    proj1, proj2 = nn.Linear(dims.d_model, dims.d_model), nn.Linear(dims.d_model, dims.output_dim)
    _load(proj1, stored, f"{tower}proj1.")
    _load(proj2, stored, f"{tower}proj2.")
    features = proj2(nn.functional.gelu(proj1(norm(hidden))))
    return [rows.numpy() for rows in features.split(counts)]


def _text_config(dims: DecoderDims) -> Any:
    import transformers

    make: Any = transformers.Qwen3Config
    return make(
        vocab_size=8,
        hidden_size=dims.hidden,
        intermediate_size=dims.intermediate,
        num_hidden_layers=1,
        num_attention_heads=dims.heads,
        num_key_value_heads=dims.kv_heads,
        head_dim=dims.head_dim,
        max_position_embeddings=dims.max_positions,
        rms_norm_eps=dims.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": dims.rope_theta},
        attn_implementation="eager",
    )


@torch.no_grad()
def _upstream_layers(dims: DecoderDims, stored: StoredTensors, embeds: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield upstream's hidden state after every layer, then after the final norm; each (1, S, hidden)."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm, Qwen3RotaryEmbedding

    config = _text_config(dims)
    length = embeds.shape[1]
    rotary = Qwen3RotaryEmbedding(config)(embeds, torch.arange(length)[None])
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
    layer = Qwen3DecoderLayer(config, 0).eval()
    hidden = embeds
    for i in range(dims.layers):
        _load(layer, stored, f"model.layers.{i}.")
        output = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        hidden = output[0] if isinstance(output, tuple) else output
        yield hidden
    norm = Qwen3RMSNorm(dims.hidden, eps=dims.rms_norm_eps)
    _load(norm, stored, "model.norm.")
    yield norm(hidden)


@torch.no_grad()
def _upstream_logits(checkpoint: Checkpoint, stored: StoredTensors, hidden: torch.Tensor) -> torch.Tensor:
    """Return hidden (n, H) times the head, some rows at a time: in float32 the head is the largest tensor of all."""
    starts = range(0, checkpoint.head_rows, HEAD_ROWS)
    rows = (stored.head(start, start + HEAD_ROWS, tied=checkpoint.tied) for start in starts)
    return torch.cat([hidden @ part.T for part in rows], dim=1)
