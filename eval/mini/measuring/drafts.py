"""How often the drafts of a verified variant hold on clips that the miniature understands.

Flows in: a bundle of the miniature transcriber with a verified variant. Flows out: what `bench` plays back on random
weights.
"""

from pathlib import Path

import numpy as np

from mini.speech.clips import samples
from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx_eval.bench.drafts import Observed

MOST_TOKENS = 200


def evaluate_drafts(bundle: Path, variant: str, set_name: str, count: int, seed: int) -> dict[str, float]:
    """Return counts and shares over `count` clips of a test set, one at a time."""
    seen, n_written, n_passes = Observed(), 0, 0
    with Transcriber(bundle, variant) as asr:
        for sample in samples(set_name, count, seed):
            (features,), _ = hear(asr, [sample.waveform])
            prompt = Prompter(asr).embed(features)
            (result,) = generate(asr.decoder, [prompt], [MOST_TOKENS], choose=seen)
            n_written += len(result.token_ids)
            n_passes += result.n_passes
    return {
        "clips": count,
        "tokens": n_written,
        "passes a clip": n_passes / count,
        "drafts": seen.n_drafts,
        "whole drafts": seen.n_whole / seen.n_drafts,
        "median share held of the others": float(np.median(seen.held)) if seen.held else 1.0,
        "rejected a token": (seen.n_drafts - seen.n_whole) / seen.n_tokens,
    }
