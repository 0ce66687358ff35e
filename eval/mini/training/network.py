"""A fast forward pass over the native weights for training: no Python loop over windows, few small operations.

Flows in: a native transformers model and a padded batch. Flows out: encoder tokens and decoder states, equal to the
native forward to rounding (`tests/eval/mini/test_corpus.py` compares them). On a CPU most of the time of so small a
network goes into element-wise operations and casts, not into matrix products; the native modules take twice as long.
"""

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mini.training.batches import n_audio_tokens

CHUNK, TOKENS, WINDOW_CHUNKS = 100, 13, 8
MASKED = -1e4


def _mix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return softmax attention [B, heads, S, head_dim] with an additive bias; it beats the fused CPU kernel."""
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3)) + bias
    return torch.matmul(torch.softmax(scores, -1), value)


def _attend(attention: Any, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    n_windows, length, width = states.shape
    heads = attention.num_heads

    def split(projection: nn.Module) -> torch.Tensor:
        projected: torch.Tensor = projection(states)
        return projected.view(n_windows, length, heads, width // heads).transpose(1, 2)

    mixed = _mix(split(attention.q_proj), split(attention.k_proj), split(attention.v_proj), bias)
    joined: torch.Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(n_windows, length, width))
    return joined


def _window_slots(
    n_frames: list[int], n_chunks: list[int], window_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return each valid token's place among the chunk tokens and in the padded windows, and the window count."""
    source, target, window, offset = [], [], 0, 0
    for frames, count in zip(n_frames, n_chunks, strict=True):
        index = torch.arange(n_audio_tokens(frames))
        source.append(index + offset * TOKENS)
        target.append((window + index // (WINDOW_CHUNKS * TOKENS)) * window_tokens + index % (WINDOW_CHUNKS * TOKENS))
        offset += count
        window += -(-count // WINDOW_CHUNKS)
    return torch.cat(source), torch.cat(target), window


def encode(tower: Any, mels: torch.Tensor, n_frames: list[int]) -> torch.Tensor:
    """Return the encoder tokens of all clips end to end.

    Args:
        tower: native audio tower.
        mels: [B, 128, T], T a multiple of 100, zero beyond each clip.
        n_frames: valid frames of each clip.

    Returns:
        [sum of n_audio_tokens(n_frames), d_model] after the final layer norm.
    """
    n_clips, n_mels, longest = mels.shape
    dtype = tower.conv_out.weight.dtype
    chunks = mels.to(dtype).view(n_clips, n_mels, longest // CHUNK, CHUNK).transpose(1, 2)
    n_chunks = [-(-n // CHUNK) for n in n_frames]
    conv = torch.cat([chunks[i, :n] for i, n in enumerate(n_chunks)]).unsqueeze(1)
    for layer in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        conv = F.gelu(layer(conv))
    total, channels, bins, steps = conv.shape
    tokens = tower.conv_out(conv.permute(0, 3, 1, 2).reshape(total, steps, channels * bins))
    tokens = tokens + tower.positional_embedding.positional_embedding[:steps].to(dtype)
    width = tokens.shape[-1]
    window_tokens = min(WINDOW_CHUNKS, max(n_chunks)) * TOKENS
    source, target, n_windows = _window_slots(n_frames, n_chunks, window_tokens)
    padded = tokens.new_zeros(n_windows * window_tokens, width)
    states = padded.index_copy(0, target, tokens.reshape(-1, width)[source]).view(n_windows, window_tokens, width)
    bias = torch.full((n_windows * window_tokens,), MASKED, dtype=dtype)
    bias[target] = 0.0
    bias = bias.view(n_windows, 1, 1, window_tokens)
    for block in tower.layers:
        states = states + _attend(block.self_attn, block.self_attn_layer_norm(states), bias)
        states = states + block.fc2(F.gelu(block.fc1(block.final_layer_norm(states))))
    normed: torch.Tensor = tower.ln_post(states)
    return normed.reshape(-1, width)[target]


def low_precision_copy(model: nn.Module) -> nn.Module:
    """Return a bfloat16 copy to compute with; the float32 original keeps the weights that the optimiser moves."""
    return copy.deepcopy(model).bfloat16()


class _RmsNorm(torch.autograd.Function):
    """Root-mean-square norm with a hand-written backward: a third of the operations autograd would record."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        scale = torch.rsqrt(
            torch.linalg.vector_norm(states, dim=-1, keepdim=True).float().pow(2) / states.shape[-1] + eps
        )
        scale = scale.to(states.dtype)
        normed = states * scale
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        normed, weight, scale = ctx.saved_tensors
        product = grads[0] * normed
        weight_grad = product.reshape(-1, product.shape[-1]).sum(0)
        mean = torch.matmul(product, weight.unsqueeze(-1)) / product.shape[-1]
        return scale * torch.addcmul(grads[0] * weight, normed, mean, value=-1.0), weight_grad, None


def _rms(norm: Any, states: torch.Tensor) -> torch.Tensor:
    normed: torch.Tensor = _RmsNorm.apply(states, norm.weight, norm.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


def _rotation(length: int, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(length)[:, None] * theta ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.cat([angles, angles], -1)
    signs = torch.cat([-torch.ones(head_dim // 2), torch.ones(head_dim // 2)])
    return angles.cos().to(dtype), (angles.sin() * signs).to(dtype)


def _rotate(states: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return states * rotation[0] + states.roll(states.shape[-1] // 2, -1) * rotation[1]


def _self_attend(attention: Any, states: torch.Tensor, rotation: Any, bias: torch.Tensor) -> torch.Tensor:
    n_rows, length, _ = states.shape
    head_dim, groups = attention.head_dim, attention.num_key_value_groups
    query = _rms(attention.q_norm, attention.q_proj(states).view(n_rows, length, -1, head_dim))
    key = _rms(attention.k_norm, attention.k_proj(states).view(n_rows, length, -1, head_dim))
    value = attention.v_proj(states).view(n_rows, length, -1, head_dim).transpose(1, 2)
    query, key = _rotate(query.transpose(1, 2), rotation), _rotate(key.transpose(1, 2), rotation)
    mixed = _mix(query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), bias)
    joined: torch.Tensor = attention.o_proj(mixed.transpose(1, 2).reshape(n_rows, length, -1))
    return joined


def decode_layers(core: Any, ids: torch.Tensor, audio: torch.Tensor, audio_token_id: int) -> list[torch.Tensor]:
    """Return the decoder states after every layer and, last, after the final norm; each [B, S, hidden].

    Args:
        core: native model without its head (audio tower, projector, language model).
        ids: [B, S] token ids; padding on the right needs no mask because attention is causal.
        audio: [N, d_model] encoder tokens in reading order.
        audio_token_id: id that the audio tokens replace.
    """
    decoder = core.language_model
    states = decoder.embed_tokens(ids)
    projected = core.multi_modal_projector(audio)
    states = states.masked_scatter((ids == audio_token_id).unsqueeze(-1), projected)
    length = ids.shape[1]
    config = decoder.config
    rotation = _rotation(length, config.head_dim, config.rope_parameters["rope_theta"], states.dtype)
    bias = torch.full((length, length), MASKED, dtype=states.dtype).triu(1)
    found = []
    for block in decoder.layers:
        states = states + _self_attend(block.self_attn, _rms(block.input_layernorm, states), rotation, bias)
        normed, mlp = _rms(block.post_attention_layernorm, states), block.mlp
        states = states + mlp.down_proj(F.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        found.append(states)
    return [*found, _rms(decoder.norm, states)]


def has_fast_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 natively; elsewhere the low-precision copy would be slower."""
    return bool(
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported() and _has_bf16_flag()
    )


def _has_bf16_flag() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and any(flag in cpuinfo.read_text() for flag in ("avx512_bf16", "amx_bf16"))
