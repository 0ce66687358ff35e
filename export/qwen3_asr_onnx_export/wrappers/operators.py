"""The layers both wrappers share, as ONNX operators: what is traced is what onnxruntime will run.

Each call records one ONNX node through `torch.onnx.ops.symbolic`; nothing here computes anything in torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Linear", "RMSNorm", "emit", "emit_many"]

ONNX_VERSION = {"": 20, "com.microsoft": 1}
"""Operator-set version recorded per domain; "" is ONNX itself."""


def emit(op: str, inputs: Sequence[Tensor | None], shape: Sequence[int | torch.SymInt], **attributes: Any) -> Tensor:
    """Record one node with one float32 output of the given shape. `op` is "domain::Name", "::Name" for ONNX itself."""
    version = ONNX_VERSION[op.split("::")[0]]
    return torch.onnx.ops.symbolic(op, inputs, attributes, dtype=torch.float32, shape=shape, version=version)


def emit_many(
    op: str, inputs: Sequence[Tensor | None], shapes: Sequence[Sequence[int | torch.SymInt]], **attributes: Any
) -> Sequence[Tensor]:
    """Record one node with several float32 outputs."""
    version = ONNX_VERSION[op.split("::")[0]]
    dtypes = [torch.float32] * len(shapes)
    return torch.onnx.ops.symbolic_multi_out(op, inputs, attributes, dtypes=dtypes, shapes=shapes, version=version)


class Linear(nn.Module):
    """y = x W + b with W stored (in_features, out_features), as ONNX MatMul and every ONNX quantiser want it.

    Checkpoints store the transpose; `placement.plan` tells the writer which tensors to turn: the weights of MatMuls.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        y = emit("::MatMul", [x, self.weight], [*x.shape[:-1], self.weight.shape[1]])
        return y if self.bias is None else y + self.bias


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, fused, optionally with the residual addition in front of it."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return emit(
            "::SimplifiedLayerNormalization", [x, self.weight], x.shape, axis=-1, epsilon=self.epsilon, stash_type=1
        )

    def after_add(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return norm(x + residual) and x + residual."""
        normed, _, _, total = emit_many(
            "com.microsoft::SkipSimplifiedLayerNormalization",
            [x, residual, self.weight],
            [x.shape, [1], [1], x.shape],
            epsilon=self.epsilon,
        )
        return normed, total
