"""The audio encoder ready to trace: 8-second windows of log-mel in, audio embeddings out.

Attention never leaves a window, so a row of the batch is one window and nothing else: windows of one file, of many
files or of a live stream can share a call.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qwen3_asr_onnx.bundle.manifest import EncoderDims
from qwen3_asr_onnx_export.shapes import conv_output_bins

from .operators import Linear, emit

__all__ = ["WindowedEncoder"]

LAYER_NORM_EPSILON = 1e-5


class WindowedEncoder(nn.Module):
    """Parameter names are the checkpoint's. `audio_tower.positions` is computed, not stored there."""

    def __init__(self, dims: EncoderDims, n_mels: int) -> None:
        super().__init__()
        self.audio_tower = _Tower(dims, n_mels)

    def forward(self, mel: Tensor, n_frames: Tensor) -> Tensor:
        """Encode W windows.

        Args:
            mel: (W, n_mels, T) float32, T a multiple of the block length, zero-padded on the right.
            n_frames: (W,) int64, valid frames per window, at least 1.

        Returns:
            (W, tokens of T frames, output_dim) float32; rows past a window's own token count are padding.
        """
        encoded: Tensor = self.audio_tower(mel, n_frames)
        return encoded


class _Tower(nn.Module):
    def __init__(self, dims: EncoderDims, n_mels: int) -> None:
        super().__init__()
        self.dims = dims
        channels = dims.conv_channels
        self.conv2d1 = _conv(1, channels)
        self.conv2d2 = _conv(channels, channels)
        self.conv2d3 = _conv(channels, channels)
        self.conv_out = Linear(channels * conv_output_bins(n_mels), dims.d_model)
        self.positions = nn.Parameter(
            torch.empty(conv_output_bins(dims.block_frames), dims.d_model), requires_grad=False
        )
        self.layers = nn.ModuleList(_Layer(dims) for _ in range(dims.layers))
        self.ln_post = nn.LayerNorm(dims.d_model, eps=LAYER_NORM_EPSILON)
        self.proj1 = Linear(dims.d_model, dims.d_model, bias=True)
        self.proj2 = Linear(dims.d_model, dims.output_dim, bias=True)

    def forward(self, mel: Tensor, n_frames: Tensor) -> Tensor:
        windows, n_mels, _ = mel.shape
        block = self.dims.block_frames
        x = mel.reshape(windows, n_mels, -1, block).permute(0, 2, 1, 3).reshape(-1, 1, n_mels, block)
        for conv in (self.conv2d1, self.conv2d2, self.conv2d3):
            x = F.gelu(conv(x))
        blocks, channels, bins, tokens = x.shape
        x = self.conv_out(x.permute(0, 3, 1, 2).reshape(blocks, tokens, channels * bins)) + self.positions
        x = x.reshape(windows, -1, self.dims.d_model)
        # Blocks before the last are full, so valid tokens are a prefix and their count masks the rest as keys.
        n_tokens = (n_frames // block * tokens + (n_frames % block + 7) // 8).to(torch.int32)
        for layer in self.layers:
            x = layer(x, n_tokens)
        projected: Tensor = self.proj2(F.gelu(self.proj1(self.ln_post(x))))
        return projected


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1)


class _Layer(nn.Module):
    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.self_attn = _Attention(dims)
        self.self_attn_layer_norm = nn.LayerNorm(dims.d_model, eps=LAYER_NORM_EPSILON)
        self.fc1 = Linear(dims.d_model, dims.ffn, bias=True)
        self.fc2 = Linear(dims.ffn, dims.d_model, bias=True)
        self.final_layer_norm = nn.LayerNorm(dims.d_model, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor, n_tokens: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), n_tokens)
        y: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return y


class _Attention(nn.Module):
    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.dims = dims
        self.q_proj = Linear(dims.d_model, dims.d_model, bias=True)
        self.k_proj = Linear(dims.d_model, dims.d_model, bias=True)
        self.v_proj = Linear(dims.d_model, dims.d_model, bias=True)
        self.out_proj = Linear(dims.d_model, dims.d_model, bias=True)

    def forward(self, x: Tensor, n_tokens: Tensor) -> Tensor:
        attended = emit(
            "com.microsoft::MultiHeadAttention",
            [self.q_proj(x), self.k_proj(x), self.v_proj(x), None, n_tokens],
            x.shape,
            num_heads=self.dims.heads,
            scale=(self.dims.d_model // self.dims.heads) ** -0.5,
            # Finite and within FP16, so that a half-precision copy of the graph stays free of NaN.
            mask_filter_value=-1e4,
        )
        projected: Tensor = self.out_proj(attended)
        return projected
