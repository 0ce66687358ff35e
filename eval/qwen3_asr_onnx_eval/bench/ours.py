"""Our runtime as a recogniser, timed stage by stage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.names import EMBEDS, LOGITS, POSITIONS, SEQLENS, TOTAL
from qwen3_asr_onnx.model.decoder import Decoder, KvCache
from qwen3_asr_onnx.model.embeddings import EmbeddingTable
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.text.prompt import build_prompt
from qwen3_asr_onnx.transcriber import Transcriber

from .recognizers import StageTimes, timed

__all__ = ["OurRecognizer"]

PAST_TOKENS = 200
"""Cached positions in the capacity test: about what 13 s of audio leave."""

Embedded = npt.NDArray[np.float32]


class _ClockedTable:
    """The embedding table, noting when it is asked: the decoder asks once per step, so gaps are step times."""

    def __init__(self, table: EmbeddingTable) -> None:
        self._table = table
        self.asked_at_s: list[float] = []

    def rows(self, ids: npt.NDArray[np.integer]) -> Embedded:
        if len(ids) == 1:  # candidates that are scored anew come several at once
            self.asked_at_s.append(time.perf_counter())
        return self._table.rows(ids)


class OurRecognizer:
    """One variant of a bundle."""

    def __init__(self, bundle: Path, variant: str | None = None) -> None:
        self._asr = Transcriber(bundle, variant)

    def run(self, waveform: Waveform, n_tokens: int) -> StageTimes:
        """Time one clip with exactly `n_tokens` greedy tokens.

        Args:
            waveform: (n_samples,) float32, 16 kHz.
            n_tokens: how many; stop tokens are not looked at.
        """
        asr = self._asr
        mel, mel_ms = timed(lambda: log_mel(waveform, asr.manifest.mel))
        (features,), encoder_ms = timed(lambda: asr.encoder.encode([mel]))
        pieces = asr.manifest.prompt
        prompt = build_prompt(asr.tokenizer, pieces.template, len(features), forced=pieces.forced)
        embedded = asr.embeddings.splice(prompt.ids, features, prompt.audio_start)
        decoder, table = self._clocked_decoder()
        (result,) = decoder.generate([embedded], [n_tokens], eos=())
        ends_s = [*table.asked_at_s[1:], time.perf_counter()]
        token_ms = [(end - start) * 1e3 for start, end in zip(table.asked_at_s, ends_s, strict=True)]
        return StageTimes(mel_ms, encoder_ms, result.prefill_s * 1e3, tuple(token_ms), len(embedded))

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

    def _clocked_decoder(self) -> tuple[Decoder, _ClockedTable]:
        decoder = self._asr.decoder
        table = _ClockedTable(self._asr.embeddings)
        eos = self._asr.manifest.tokens.eos
        # Only `rows` is used of the table.
        clocked = Decoder(
            decoder.init,
            decoder.step,
            table,  # type: ignore[arg-type]
            self._asr.manifest.decoder,
            eos,
            rescored=decoder.rescored,
        )
        return clocked, table
