"""Dimensions -> the name and shape of every tensor a Qwen3-ASR checkpoint must hold (canonical names)."""

from __future__ import annotations

from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims

__all__ = ["conv_output_bins", "expected_shapes"]

Shapes = dict[str, tuple[int, ...]]


def conv_output_bins(n: int) -> int:
    """Return what three convolutions (kernel 3, stride 2, padding 1) leave of `n` rows or columns."""
    for _ in range(3):
        n = (n + 1) // 2
    return n


def expected_shapes(encoder: EncoderDims, decoder: DecoderDims, n_mels: int, head_rows: int) -> Shapes:
    """Return canonical tensor name -> shape, head included (a tied checkpoint may leave it out)."""
    return {**_encoder_shapes(encoder, n_mels), **_decoder_shapes(decoder, head_rows)}


def _linear(name: str, out_features: int, in_features: int, *, bias: bool) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out_features, in_features)}
    if bias:
        shapes[f"{name}.bias"] = (out_features,)
    return shapes


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _encoder_shapes(dims: EncoderDims, n_mels: int) -> Shapes:
    tower, d, c = "audio_tower", dims.d_model, dims.conv_channels
    shapes: Shapes = {}
    for i, channels_in in ((1, 1), (2, c), (3, c)):
        shapes |= {f"{tower}.conv2d{i}.weight": (c, channels_in, 3, 3), f"{tower}.conv2d{i}.bias": (c,)}
    shapes |= _linear(f"{tower}.conv_out", d, c * conv_output_bins(n_mels), bias=False)
    for i in range(dims.layers):
        layer = f"{tower}.layers.{i}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", d, d, bias=True)
        shapes |= _norm(f"{layer}.self_attn_layer_norm", d) | _norm(f"{layer}.final_layer_norm", d)
        shapes |= _linear(f"{layer}.fc1", dims.ffn, d, bias=True) | _linear(f"{layer}.fc2", d, dims.ffn, bias=True)
    shapes |= _norm(f"{tower}.ln_post", d)
    return (
        shapes | _linear(f"{tower}.proj1", d, d, bias=True) | _linear(f"{tower}.proj2", dims.output_dim, d, bias=True)
    )


def _decoder_shapes(dims: DecoderDims, head_rows: int) -> Shapes:
    h, q, kv = dims.hidden, dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
    shapes: Shapes = {"model.embed_tokens.weight": (dims.vocab_size, h)}
    for i in range(dims.layers):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.input_layernorm.weight": (h,), f"{layer}.post_attention_layernorm.weight": (h,)}
        shapes |= {f"{layer}.self_attn.{name}.weight": (dims.head_dim,) for name in ("q_norm", "k_norm")}
        for name, out_features, in_features in (
            ("self_attn.q_proj", q, h),
            ("self_attn.k_proj", kv, h),
            ("self_attn.v_proj", kv, h),
            ("self_attn.o_proj", h, q),
            ("mlp.gate_proj", dims.intermediate, h),
            ("mlp.up_proj", dims.intermediate, h),
            ("mlp.down_proj", h, dims.intermediate),
        ):
            shapes |= _linear(f"{layer}.{name}", out_features, in_features, bias=False)
    return shapes | {"model.norm.weight": (h,)} | _linear("lm_head", head_rows, h, bias=False)
