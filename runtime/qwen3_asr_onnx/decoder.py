"""Embedded prompts -> generated token ids: prefill, then greedy one-token steps on a cache that is updated in place.

Prompts of one batch are prefilled one by one, each into its own row of the shared cache, so none pays for another's
padding; the steps then run all rows at once. A row that ends gives its place to the last active one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import CacheKind, DecoderDims, past_name, present_name
from .embeddings import EmbeddingTable
from .session import Binding, Session

__all__ = ["Decoder", "Generated", "KvCache", "graph_inputs", "graph_outputs"]

EMBEDS, SEQLENS, TOTAL, POSITIONS = "inputs_embeds", "seqlens_k", "total_sequence_length", "logit_positions"
LOGITS = "logits"

GROWTH_TOKENS = 256
"""The cache is allocated for the prompt and this many tokens, then grows by half: one copy in a few hundred steps."""

ATTENTION_BYTES = 64 << 20
"""Bound on the attention scores of one prefill call, (heads, chunk, capacity) float32: they set the peak memory."""

LONGEST_CHUNK, SHORTEST_CHUNK = 1024, 64

Embedded = npt.NDArray[np.float32]


def graph_inputs(dims: DecoderDims) -> list[str]:
    """Return the input names a decoder graph must have."""
    return [EMBEDS, SEQLENS, TOTAL, POSITIONS, *_cache_names(past_name, dims)]


def graph_outputs(dims: DecoderDims) -> list[str]:
    """Return the output names a decoder graph must have."""
    return [LOGITS, *_cache_names(present_name, dims)]


def _cache_names(name: Callable[[CacheKind, int], str], dims: DecoderDims) -> list[str]:
    kinds: tuple[CacheKind, ...] = ("key", "value")
    return [name(kind, layer) for layer in range(dims.layers) for kind in kinds]


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model wrote for one prompt.

    Attributes:
        token_ids: generated ids, the stop token excluded.
        stopped: whether the model stopped by itself; False means the limit was reached.
        logprob: sum of the natural-log probabilities of the generated ids, the stop token included.
        n_scored: how many ids that sum covers.
        prefill_s: seconds spent on the prompt.
        decode_s: this row's share of the seconds spent on steps.
    """

    token_ids: tuple[int, ...]
    stopped: bool
    logprob: float
    n_scored: int
    prefill_s: float
    decode_s: float


class KvCache:
    """Keys and values of every layer: per layer two arrays (rows, kv_heads, capacity, head_dim) float32."""

    def __init__(self, dims: DecoderDims, rows: int, capacity: int) -> None:
        self.dims = dims
        self.buffers = [self._empty(rows, capacity) for _ in range(2 * dims.layers)]

    def _empty(self, rows: int, capacity: int) -> Embedded:
        # Zeroed memory costs nothing until it is touched; unset memory could hold NaN, which masking cannot undo.
        return np.zeros((rows, self.dims.kv_heads, capacity, self.dims.head_dim), dtype=np.float32)

    @property
    def capacity(self) -> int:
        """Positions per row."""
        return int(self.buffers[0].shape[2])

    def bind(
        self, session: Session, first: int, last: int, inputs: Mapping[str, npt.NDArray[Any]], logits: Embedded
    ) -> Binding:
        """Return a call of `session` on the rows [first, last), the cache bound as past and present at once."""
        rows = [buffer[first:last] for buffer in self.buffers]
        past = dict(zip(_cache_names(past_name, self.dims), rows, strict=True))
        present = dict(zip(_cache_names(present_name, self.dims), rows, strict=True))
        return session.bind({**inputs, **past}, {LOGITS: logits, **present})

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        for buffer in self.buffers:
            buffer[target, :, :length] = buffer[source, :, :length]

    def grow(self, rows: int, length: int, capacity: int) -> None:
        """Make room: keep `length` positions of the first `rows` rows."""
        for i, old in enumerate(self.buffers):
            self.buffers[i] = self._empty(rows, capacity)
            self.buffers[i][:, :, :length] = old[:rows, :, :length]


@dataclass(slots=True)
class _Row:
    """A prompt on its way: `index` is its place in the result, `length` its valid cache positions."""

    index: int
    length: int
    limit: int
    ids: list[int]
    logprob: float = 0.0
    n_scored: int = 0
    stopped: bool = False
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def done(self) -> bool:
        return self.stopped or len(self.ids) >= self.limit

    def accept(self, token: int, logprob: float, eos: frozenset[int]) -> None:
        self.logprob += logprob
        self.n_scored += 1
        if token in eos:
            self.stopped = True
        else:
            self.ids.append(token)

    def result(self) -> Generated:
        return Generated(tuple(self.ids), self.stopped, self.logprob, self.n_scored, self.prefill_s, self.decode_s)


class Decoder:
    """Runs the decoder graphs of a bundle. Holds no state between calls: many threads may share one.

    Attributes:
        init: runs prompts.
        step: runs one token per row; the same session as `init` where both graphs are equal.
    """

    def __init__(
        self, init: Session, step: Session, embeddings: EmbeddingTable, dims: DecoderDims, eos: Sequence[int]
    ) -> None:
        self.init = init
        self.step = step
        self._embeddings = embeddings
        self._dims = dims
        self._eos = frozenset(eos)

    def generate(
        self, prompts: Sequence[Embedded], limits: Sequence[int], *, eos: Sequence[int] | None = None
    ) -> list[Generated]:
        """Continue each prompt greedily.

        Args:
            prompts: each (n_tokens, hidden) float32.
            limits: most tokens to generate, per prompt, at least 1.
            eos: ids that end a row instead of the model's own; an empty sequence always fills the limit.

        Returns:
            One result per prompt, in order.
        """
        stops = self._eos if eos is None else frozenset(eos)
        rows = [_Row(i, len(p), limit, []) for i, (p, limit) in enumerate(zip(prompts, limits, strict=True))]
        if not rows:
            return []
        room = max(row.length + min(row.limit, GROWTH_TOKENS) for row in rows)
        cache = KvCache(self._dims, len(rows), room)
        for row in rows:
            started = time.perf_counter()
            token, logprob = self._prefill(cache, row.index, prompts[row.index])
            row.accept(token, logprob, stops)
            row.prefill_s = time.perf_counter() - started
        self._run_steps(cache, rows, stops)
        return [row.result() for row in sorted(rows, key=lambda row: row.index)]

    def prefill_logits(self, prompt: Embedded) -> npt.NDArray[np.float32]:
        """Return the logits (vocab,) that follow a prompt (n_tokens, hidden)."""
        logits: npt.NDArray[np.float32] = self.extend(KvCache(self._dims, 1, len(prompt)), 0, prompt)[0]
        return logits

    def _prefill(self, cache: KvCache, row: int, prompt: Embedded) -> tuple[int, float]:
        tokens, logprobs = _greedy(self.extend(cache, row, prompt))
        return int(tokens[0]), float(logprobs[0])

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
            step: run them through the step graph, so that a draft is judged by the weights that would have written
                it; where prefill has weights of its own, it is the faster one for long inputs.

        Returns:
            The logits (n_logits, vocab) of the last positions.
        """
        per_position = 4 * self._dims.heads * cache.capacity
        chunk = min(max(ATTENTION_BYTES // per_position, SHORTEST_CHUNK), LONGEST_CHUNK)
        logits = np.empty((1, n_logits, self._dims.vocab_size), dtype=np.float32)
        # The remainder comes first, so that the last chunk holds every position that is asked for.
        bounds = [0, *range(len(embedded) % chunk or chunk, len(embedded) + 1, chunk)]
        for start, end in itertools.pairwise(bounds):
            total = past + end
            inputs: dict[str, npt.NDArray[Any]] = {
                EMBEDS: np.ascontiguousarray(embedded[None, start:end]),
                SEQLENS: _int32([total - 1]),
                TOTAL: _int32(total),
                POSITIONS: np.maximum(np.arange(end - start - n_logits, end - start)[None], 0),
            }
            cache.bind(self.step if step else self.init, row, row + 1, inputs, logits).run()
        last: npt.NDArray[np.float32] = logits[0]
        return last

    def _run_steps(self, cache: KvCache, rows: list[_Row], eos: frozenset[int]) -> None:
        """Step all rows until each is done. `active[i]` lives in cache row i."""
        active = list(rows)
        while active:
            self._retire(cache, active)
            if active:
                self._run_until_change(cache, active, eos)

    @staticmethod
    def _retire(cache: KvCache, active: list[_Row]) -> None:
        """Drop finished rows; the last active row moves into the freed place."""
        place = 0
        while place < len(active):
            if not active[place].done:
                place += 1
                continue
            last = active.pop()
            if place < len(active):
                active[place] = last
                if not last.done:
                    cache.move(len(active), place, last.length)

    def _run_until_change(self, cache: KvCache, active: list[_Row], eos: frozenset[int]) -> None:
        """Step until a row is done or the cache is full: so long the memory bound to the session stays the same."""
        count = len(active)
        longest = max(row.length for row in active)
        if longest >= cache.capacity:
            cache.grow(count, longest, cache.capacity + max(GROWTH_TOKENS, cache.capacity // 2))
        embeds = np.empty((count, 1, self._dims.hidden), dtype=np.float32)
        seqlens = _int32([row.length for row in active])
        total = _int32(longest + 1)
        logits = np.empty((count, 1, self._dims.vocab_size), dtype=np.float32)
        inputs: dict[str, npt.NDArray[Any]] = {EMBEDS: embeds, SEQLENS: seqlens, TOTAL: total}
        inputs[POSITIONS] = np.zeros((count, 1), dtype=np.int64)
        binding = cache.bind(self.step, 0, count, inputs, logits)
        started = time.perf_counter()
        for n_steps in itertools.count(1):
            embeds[:, 0] = self._embeddings.rows(np.array([row.ids[-1] for row in active]))
            binding.run()
            tokens, logprobs = _greedy(logits[:, 0])
            for row, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
                row.length += 1
                row.accept(token, logprob, eos)
            if longest + n_steps >= cache.capacity or any(row.done for row in active):
                break
            seqlens += 1
            total += 1
        share = (time.perf_counter() - started) / count
        for row in active:
            row.decode_s += share


def _int32(values: Sequence[int] | int) -> npt.NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def _greedy(logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the best token of each row (rows, vocab), and its natural-log probability."""
    tokens = logits.argmax(axis=-1)
    best = logits[np.arange(len(logits)), tokens]
    # log softmax at the maximum is minus the log of the sum of exp(x - max).
    logprobs = -np.log(np.exp(logits - best[:, None]).sum(axis=-1, dtype=np.float64))
    return tokens, logprobs
