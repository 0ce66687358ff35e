"""How far a variant's next-token distributions are from those of float32, on the text that float32 itself writes.

The reference listens to each clip and writes its text greedily. Every variant then listens with its own encoder and is
fed that same text, so position by position both are asked for the next token after the same words. That needs no
transcripts, and tells small differences apart long before a word changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.writing import generate

__all__ = ["Fidelity", "Trace", "compare", "trace_reference"]

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What the reference did with one clip.

    Attributes:
        waveform: the clip.
        token_ids: what it wrote, stop token excluded.
        features: (n_audio_tokens, hidden) its encoder's output.
        logits: (n, vocab) float32, the logits that chose each of the n tokens, and the one after the last.
    """

    waveform: Waveform
    token_ids: tuple[int, ...]
    features: Floats
    logits: Floats


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Distance of a variant from the reference, over all positions of all clips.

    Attributes:
        n_clips: clips compared.
        n_positions: positions compared.
        n_agree: positions where both have the same best token.
        kl_mean: mean Kullback-Leibler divergence from the reference's distribution, in nats.
        kl_p99: its 99th percentile.
        features_error: RMS error of the audio embeddings, as a share of their own RMS.
    """

    n_clips: int
    n_positions: int
    n_agree: int
    kl_mean: float
    kl_p99: float
    features_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)


def trace_reference(reference: Transcriber, waveforms: Sequence[Waveform], max_new_tokens: int) -> list[Trace]:
    """Let the reference transcribe some clips, and keep its logits: 4 bytes per position and vocabulary entry.

    Args:
        reference: the float32 variant.
        waveforms: clips short enough to be one piece each.
        max_new_tokens: most tokens written per clip.
    """
    traces = []
    for waveform in waveforms:
        (features,), _ = hear(reference, [waveform])
        prompt = Prompter(reference).embed(features)
        ids = generate(reference.decoder, [prompt], [max_new_tokens])[0].token_ids
        traces.append(Trace(waveform, ids, features, _forced_logits(reference, prompt, ids)))
    return traces


def compare(candidate: Transcriber, traces: Sequence[Trace]) -> Fidelity:
    """Return how far a variant is from the reference's traces."""
    agree, divergences = 0, []
    error = power = 0.0
    for trace in traces:
        (features,), _ = hear(candidate, [trace.waveform])
        error += float(((features - trace.features) ** 2).sum(dtype=np.float64))
        power += float((trace.features**2).sum(dtype=np.float64))
        logits = _forced_logits(candidate, Prompter(candidate).embed(features), trace.token_ids)
        agree += int((logits.argmax(axis=1) == trace.logits.argmax(axis=1)).sum())
        divergences.append(_divergence(trace.logits, logits))
    every = np.concatenate(divergences)
    return Fidelity(
        n_clips=len(traces),
        n_positions=len(every),
        n_agree=agree,
        kl_mean=float(every.mean()),
        kl_p99=float(np.quantile(every, 0.99)),
        features_error=float(np.sqrt(error / power)) if power else float("nan"),  # silence has no size to compare with
    )


def _forced_logits(asr: Transcriber, prompt: Floats, token_ids: Sequence[int]) -> Floats:
    """Return the logits (1 + n, vocab) after the prompt and after each of n tokens, one step at a time."""
    dims = asr.manifest.decoder
    cache = KvCache(dims, 1, len(prompt) + len(token_ids))
    logits = np.empty((1 + len(token_ids), dims.vocab_size), dtype=np.float32)
    logits[0] = asr.decoder.extend(cache, 0, prompt)[0]
    embedded = asr.embeddings.rows(np.array(token_ids, dtype=np.int64))
    for index in range(len(token_ids)):
        past = len(prompt) + index
        logits[index + 1] = asr.decoder.extend(cache, 0, embedded[index : index + 1], past, step=True)[0]
    return logits


def _divergence(reference: Floats, candidate: Floats) -> npt.NDArray[np.float64]:
    """Return the Kullback-Leibler divergence (n,) of rows of logits (n, vocab), in nats."""
    p, q = _log_softmax(reference), _log_softmax(candidate)
    divergence: npt.NDArray[np.float64] = (np.exp(p) * (p - q)).sum(axis=1)
    return np.maximum(divergence, 0.0)


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normed: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normed
