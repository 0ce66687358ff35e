"""Our runtime as a recogniser, timed stage by stage."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.names import EMBEDS, LOGITS, POSITIONS, SEQLENS, TOTAL
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.choosing import Choice
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx.transcriber import Transcriber

from .drafts import Replay, rejected_places
from .recognizers import StageTimes, timed

__all__ = ["OurRecognizer"]

PAST_TOKENS = 200
"""Cached positions in the capacity test: about what 13 s of audio leave."""


class OurRecognizer:
    """One variant of a bundle."""

    def __init__(self, bundle: Path, variant: str | None = None) -> None:
        self._asr = Transcriber(bundle, variant)
        self._n_runs = 0

    def run(self, waveform: Waveform, n_tokens: int) -> StageTimes:
        """Time one clip with exactly `n_tokens` tokens.

        Whether the weights, which are random, would agree with a draft of them is an accident; so the tokens are made
        up, and drafts hold as often as those of a trained model. Each run draws other places where they do not.

        Args:
            waveform: (n_samples,) float32, 16 kHz.
            n_tokens: how many; stop tokens are not looked at.
        """
        asr, chosen_at_s, judged_s = self._asr, list[float](), 0.0
        verified = asr.decoder.verified
        replay = Replay(rejected_places(n_tokens, self._n_runs), verified=verified)
        self._n_runs += 1
        (features,), heard = hear(asr, [waveform])
        embedded = Prompter(asr).embed(features)

        def clocked(logits: Embedded, written: Sequence[Sequence[int]]) -> Choice:
            nonlocal judged_s
            choice = replay(logits, written)
            chosen_at_s.append(time.perf_counter())
            if replay.judged:
                judged_s += chosen_at_s[-1] - chosen_at_s[-2]
            return choice

        (result,) = generate(asr.decoder, [embedded], [n_tokens], eos=(), choose=clocked)
        stages = (heard.mel_s * 1e3, heard.encoder_s * 1e3, result.prefill_s * 1e3)
        if not verified:
            token_ms = tuple((end - start) * 1e3 for start, end in itertools.pairwise(chosen_at_s))
            return StageTimes(*stages, token_ms, len(embedded))
        decoding_s = chosen_at_s[-1] - chosen_at_s[0]
        token_ms = (decoding_s * 1e3 / (n_tokens - 1),) * (n_tokens - 1)
        return StageTimes(*stages, token_ms, len(embedded), n_passes=result.n_passes, judged=judged_s / decoding_s)

    def step_times(self, capacities: tuple[int, ...], n_tokens: int) -> dict[int, list[float]] | None:
        """Return milliseconds per step for caches of several capacities, all equally full, taking turns.

        A runtime that copies its cache every step shows it here: the larger cache is slower.

        Args:
            capacities: positions per cache.
            n_tokens: steps per cache.
        """
        decoder, dims = self._asr.decoder, self._asr.manifest.decoder
        inputs: dict[str, npt.NDArray[Any]] = {
            EMBEDS: self._asr.embeddings.rows(np.array([0]))[None],
            SEQLENS: np.array([PAST_TOKENS], np.int32),
            TOTAL: np.array(PAST_TOKENS + 1, np.int32),
            POSITIONS: np.zeros((1, 1), np.int64),
        }
        logits = np.empty((1, 1, dims.vocab_size), np.float32)
        caches = {capacity: KvCache(dims, 1, capacity) for capacity in capacities}
        calls = {
            capacity: cache.bind(decoder.step, 0, 1, inputs, {LOGITS: logits}) for capacity, cache in caches.items()
        }
        times_ms: dict[int, list[float]] = {capacity: [] for capacity in capacities}
        for call in calls.values():
            call.run()
        for _ in range(n_tokens):
            for capacity, call in calls.items():
                times_ms[capacity].append(timed(call.run)[1])
        return times_ms
