"""Embedded tokens and a cache -> logits, by the decoder graphs; the cache is extended in place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import DecoderDims
from qwen3_asr_onnx.bundle.names import EMBEDS, HIDDEN, LOGITS, POSITIONS, SEQLENS, TOTAL

from .embeddings import Embedded, EmbeddingTable
from .kv_cache import KvCache
from .rescoring import rescore
from .session import Session

__all__ = ["Decoder", "int32"]


ATTENTION_BYTES = 64 << 20
"""Bound on the attention scores of one prefill call, (heads, chunk, capacity) float32: they set the peak memory."""

LONGEST_CHUNK, SHORTEST_CHUNK = 1024, 64


class Decoder:
    """Runs the decoder graphs of a bundle. Holds no state between calls: many threads may share one.

    Attributes:
        init: runs prompts.
        step: runs one token per row; the same session as `init` where both graphs are equal.
        dims: dimensions of the model.
        embeddings: token ids -> embedding rows.
        eos: ids that end a row.
        rescored: how many of the best tokens get exact logits; those of drafts are left as they are.
        verified: whether `step` drafts only, and `init` judges what it wrote.
        judge_steps_from: rows from which on `init` steps itself, without a draft; 0 for never.
        max_rows: most rows that decode together; None for as many as memory holds.
        continues: whether a prompt may be read in several calls at little cost.
    """

    max_rows: int | None = None
    continues = True

    def __init__(
        self,
        init: Session,
        step: Session,
        embeddings: EmbeddingTable,
        dims: DecoderDims,
        eos: Sequence[int],
        *,
        rescored: int = 0,
        verified: bool = False,
        judge_steps_from: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            init: prefill graph.
            step: one-token graph.
            embeddings: table of input embeddings.
            dims: dimensions of the model.
            eos: ids that end a row.
            rescored: how many of the best tokens get their logits from the table instead of the graph's head; the
                graphs, but one that drafts, must have the output for it.
            verified: let `init` judge what `step` writes. Both must understand one cache.
            judge_steps_from: rows from which on a step of `init` costs less than one of `step` and its judgement.
        """
        self.init = init
        self.step = step
        self.dims = dims
        self.embeddings = embeddings
        self.eos = frozenset(eos)
        self.rescored = rescored
        self.verified = verified and init is not step
        self.judge_steps_from = judge_steps_from

    def drafts(self, rows: int) -> bool:
        """Return whether so many rows are drafted by the step graph, to be judged."""
        return self.verified and not 0 < self.judge_steps_from <= rows

    def extend(
        self, cache: KvCache, row: int, embedded: Embedded, past: int = 0, *, n_logits: int = 1, step: bool = False
    ) -> npt.NDArray[np.float32]:
        """Append positions to one row of a cache, in chunks that bound the memory.

        Args:
            cache: with room for `past + n` positions.
            row: the row to extend.
            embedded: (n, hidden) float32, n at least 1.
            past: valid positions in the row; what lies beyond them is overwritten.
            n_logits: how many of the last positions are wanted, at most n and at most `SHORTEST_CHUNK`.
            step: run them through the step graph, which is the one that writes unless `verified`; where prefill has
                weights of its own, it is the faster one for long inputs.

        Returns:
            The logits (n_logits, vocab) of the last positions.
        """
        per_position = 4 * self.dims.heads * cache.capacity
        chunk = min(max(ATTENTION_BYTES // per_position, SHORTEST_CHUNK), LONGEST_CHUNK)
        logits = np.empty((1, n_logits, self.dims.vocab_size), dtype=np.float32)
        # The remainder comes first, so that the last chunk holds every position that is asked for.
        bounds = [0, *range(len(embedded) % chunk or chunk, len(embedded) + 1, chunk)]
        for start, end in itertools.pairwise(bounds):
            total = past + end
            inputs: dict[str, npt.NDArray[Any]] = {
                EMBEDS: np.ascontiguousarray(embedded[None, start:end]),
                SEQLENS: int32([total - 1]),
                TOTAL: int32(total),
                POSITIONS: np.maximum(np.arange(end - start - n_logits, end - start)[None], 0),
            }
            self.call(self.step if step else self.init, cache, row, row + 1, inputs, logits)()
        last: npt.NDArray[np.float32] = logits[0]
        return last

    def call(
        self,
        session: Session,
        cache: KvCache,
        first: int,
        last: int,
        inputs: Mapping[str, npt.NDArray[Any]],
        logits: npt.NDArray[np.float32],
    ) -> Callable[[], None]:
        """Return what runs a graph on rows of a cache.

        Args:
            session: `init` or `step`.
            cache: read and extended in place.
            first: first row.
            last: the row behind the last one.
            inputs: all inputs but the cache; their contents may change between calls.
            logits: (last - first, n_logits, vocab) float32, filled by each call.
        """
        if not self.rescored or (self.verified and session is self.step):
            return cache.bind(session, first, last, inputs, {LOGITS: logits}).run
        hidden = np.empty((*logits.shape[:2], self.dims.hidden), dtype=np.float32)
        binding = cache.bind(session, first, last, inputs, {LOGITS: logits, HIDDEN: hidden})

        def run() -> None:
            binding.run()
            rescore(logits, hidden, self.embeddings, self.rescored)

        return run


def int32(values: Sequence[int] | int) -> npt.NDArray[np.int32]:
    """Return lengths as the graphs take them."""
    return np.array(values, dtype=np.int32)
