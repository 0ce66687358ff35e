"""What a decoder says next, without generating anything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.kv_cache import KvCache


def logits_after(decoder: Decoder, prompt: Embedded) -> npt.NDArray[np.float32]:
    """Return the logits (vocab,) that follow a prompt (n_tokens, hidden)."""
    logits: npt.NDArray[np.float32] = decoder.extend(KvCache(decoder.dims, 1, len(prompt)), 0, prompt)[0]
    return logits
