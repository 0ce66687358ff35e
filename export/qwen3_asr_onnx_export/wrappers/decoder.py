"""The text decoder ready to trace: embeddings and caches in, logits where asked and caches out.

One graph serves prefill and step, and with a head of time classes the aligner's single pass.
GroupQueryAttention applies the rotary embedding and appends to the cache; with past and present bound to one buffer of
capacity C it writes in place. Per-head q/k norms stay in front of it because the operator's own norm inputs exist on
CUDA and WebGPU only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from qwen3_asr_onnx.bundle.manifest import DecoderDims

from .operators import Linear, RMSNorm, emit, emit_many

__all__ = ["CausalDecoder", "reshape_targets"]

LayerCache = tuple[Tensor, Tensor]


def reshape_targets(dims: DecoderDims) -> dict[str, npt.NDArray[np.int64]]:
    """Return the integer parameters of `CausalDecoder` by name: targets of ONNX reshapes, where 0 keeps a dimension."""
    return {
        "model.split_heads": np.array([0, 0, -1, dims.head_dim], np.int64),
        "model.merge_heads": np.array([0, 0, -1], np.int64),
    }


class CausalDecoder(nn.Module):
    """Parameter names are the checkpoint's, so `lm_head.weight` here is `lm_head.weight` there.

    Args:
        dims: the decoder's shape.
        head_rows: width of the logits: the vocabulary, or an aligner's time classes.
    """

    def __init__(self, dims: DecoderDims, head_rows: int) -> None:
        super().__init__()
        self.model = _Backbone(dims)
        self.lm_head = Linear(dims.hidden, head_rows)

    def forward(
        self,
        inputs_embeds: Tensor,
        seqlens_k: Tensor,
        total_sequence_length: Tensor,
        logit_positions: Tensor,
        past: Sequence[LayerCache],
    ) -> tuple[Tensor, list[LayerCache]]:
        """Run S new positions per row.

        Args:
            inputs_embeds: (B, S, hidden) float32.
            seqlens_k: (B,) int32, valid positions per row after this call, minus one.
            total_sequence_length: () int32, the largest number of valid positions of any row after this call.
            logit_positions: (B, K) int64, which of the S positions get logits: the head is the largest product of
                all, so a prompt asks for its last position only, the check of a draft for each of its tokens.
            past: per layer keys and values, each (B, kv_heads, C, head_dim) float32.

        Returns:
            logits (B, K, head_rows), and the caches in the shape they came in.
        """
        hidden, residual, present = self.model.layers_forward(inputs_embeds, seqlens_k, total_sequence_length, past)
        shape = [*logit_positions.shape, hidden.shape[2]]
        hidden = emit("::GatherND", [hidden, logit_positions[:, :, None]], shape, batch_dims=1)
        residual = emit("::GatherND", [residual, logit_positions[:, :, None]], shape, batch_dims=1)
        normed, _ = self.model.norm.after_add(hidden, residual)
        return self.lm_head(normed), present


class _Shared(NamedTuple):
    """What every layer gets besides its own cache."""

    seqlens_k: Tensor
    total_sequence_length: Tensor
    rotary: tuple[Tensor, Tensor]
    split_heads: Tensor
    merge_heads: Tensor


class _Backbone(nn.Module):
    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.dims = dims
        self.inv_freq = nn.Parameter(torch.empty(dims.head_dim // 2), requires_grad=False)
        self.split_heads = nn.Parameter(torch.empty(4, dtype=torch.int64), requires_grad=False)
        self.merge_heads = nn.Parameter(torch.empty(3, dtype=torch.int64), requires_grad=False)
        self.layers = nn.ModuleList(_Layer(dims) for _ in range(dims.layers))
        self.norm = RMSNorm(dims.hidden, dims.rms_norm_eps)

    def layers_forward(
        self, x: Tensor, seqlens_k: Tensor, total: Tensor, past: Sequence[LayerCache]
    ) -> tuple[Tensor, Tensor, list[LayerCache]]:
        # A constant subgraph: onnxruntime folds it once at load, which costs no bytes on disk and nothing per token.
        angles = torch.arange(self.dims.max_positions, dtype=torch.float32)[:, None] * self.inv_freq
        shared = _Shared(seqlens_k, total, (angles.cos(), angles.sin()), self.split_heads, self.merge_heads)
        hidden, residual = x, None
        present: list[LayerCache] = []
        for layer, cache in zip(self.layers, past, strict=True):
            hidden, residual, cache = layer(hidden, residual, cache, shared)
            present.append(cache)
        assert residual is not None
        return hidden, residual, present


class _Layer(nn.Module):
    """One transformer layer. The residual sum is carried beside the last output, so each addition fuses into a norm."""

    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(dims.hidden, dims.rms_norm_eps)
        self.self_attn = _Attention(dims)
        self.post_attention_layernorm = RMSNorm(dims.hidden, dims.rms_norm_eps)
        self.mlp = _GatedMLP(dims)

    def forward(
        self, x: Tensor, residual: Tensor | None, cache: LayerCache, shared: _Shared
    ) -> tuple[Tensor, Tensor, LayerCache]:
        if residual is None:
            normed, residual = self.input_layernorm(x), x
        else:
            normed, residual = self.input_layernorm.after_add(x, residual)
        attended, cache = self.self_attn(normed, cache, shared)
        normed, residual = self.post_attention_layernorm.after_add(attended, residual)
        return self.mlp(normed), residual, cache


class _Attention(nn.Module):
    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.dims = dims
        q, kv = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
        self.q_proj = Linear(dims.hidden, q)
        self.k_proj = Linear(dims.hidden, kv)
        self.v_proj = Linear(dims.hidden, kv)
        self.o_proj = Linear(q, dims.hidden)
        self.q_norm = RMSNorm(dims.head_dim, dims.rms_norm_eps)
        self.k_norm = RMSNorm(dims.head_dim, dims.rms_norm_eps)

    def _norm_heads(self, x: Tensor, norm: RMSNorm, shared: _Shared) -> Tensor:
        # Reshapes by constants: shapes computed from the inputs would tie every layer to the graph's first node.
        batch, length, width = x.shape
        heads = width // self.dims.head_dim
        split = emit("::Reshape", [x, shared.split_heads], [batch, length, heads, self.dims.head_dim])
        return emit("::Reshape", [norm(split), shared.merge_heads], x.shape)

    def forward(self, x: Tensor, cache: LayerCache, shared: _Shared) -> tuple[Tensor, LayerCache]:
        query = self._norm_heads(self.q_proj(x), self.q_norm, shared)
        key = self._norm_heads(self.k_proj(x), self.k_norm, shared)
        attended, present_key, present_value = emit_many(
            "com.microsoft::GroupQueryAttention",
            [query, key, self.v_proj(x), *cache, shared.seqlens_k, shared.total_sequence_length, *shared.rotary],
            [query.shape, cache[0].shape, cache[1].shape],
            num_heads=self.dims.heads,
            kv_num_heads=self.dims.kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=self.dims.head_dim**-0.5,
        )
        return self.o_proj(attended), (present_key, present_value)


class _GatedMLP(nn.Module):
    def __init__(self, dims: DecoderDims) -> None:
        super().__init__()
        self.gate_proj = Linear(dims.hidden, dims.intermediate)
        self.up_proj = Linear(dims.hidden, dims.intermediate)
        self.down_proj = Linear(dims.intermediate, dims.hidden)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        down: Tensor = self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(x))
        return down
