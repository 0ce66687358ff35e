"""A random CTC model that sherpa-onnx accepts as one of NeMo's: one linear layer over 80 mel bins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["make_tiny_ctc"]

N_MELS, N_TOKENS = 80, 20


def make_tiny_ctc(folder: Path) -> tuple[Path, Path]:
    """Write model and token list, and return their paths."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((N_MELS, N_TOKENS + 1)).astype(np.float32)
    weight[:, -1] *= 0.1  # the blank, last in NeMo's models, must not win everywhere
    nodes = [
        helper.make_node("Transpose", ["audio_signal"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "weight"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["logprobs"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "ctc",
        [
            helper.make_tensor_value_info("audio_signal", TensorProto.FLOAT, ["N", N_MELS, "T"]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["N"]),
        ],
        [helper.make_tensor_value_info("logprobs", TensorProto.FLOAT, ["N", "T", N_TOKENS + 1])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {"vocab_size": str(N_TOKENS), "normalize_type": "per_feature", "subsampling_factor": "1",
             "model_type": "EncDecCTCModelBPE"}  # fmt: skip
    helper.set_model_props(model, facts)
    path, tokens = folder / "ctc.onnx", folder / "tokens.txt"
    onnx.save(model, path)
    names = [*"▁abcdefghijklmnopqrs", "<blk>"]
    tokens.write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)), encoding="utf-8")
    return path, tokens
