"""Embedded prompts -> generated token ids: prefill, then greedy one-token steps on a cache that is updated in place.

Prompts are prefilled one by one, each into its own row of a shared cache, so none pays for another's padding; the steps
then run all rows at once. A row that ends gives its place to the next prompt, or to the last active row.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.manifest import DecoderDims
from qwen3_asr_onnx.bundle.names import (
    EMBEDS,
    HIDDEN,
    LOGITS,
    POSITIONS,
    SEQLENS,
    TOTAL,
    cache_names,
    past_name,
    present_name,
)

from .embeddings import EmbeddingTable
from .kv_cache import KvCache
from .rescoring import rescore
from .rows import End, Generated, Row, Watch
from .session import Session

__all__ = [
    "Batch",
    "Decoder",
    "End",
    "Generated",
    "KvCache",
    "Watch",
    "graph_inputs",
    "graph_outputs",
    "greedy",
]

GROWTH_TOKENS = 256
"""The cache is allocated for the prompt and this many tokens, then grows by half: one copy in a few hundred steps."""

ATTENTION_BYTES = 64 << 20
"""Bound on the attention scores of one prefill call, (heads, chunk, capacity) float32: they set the peak memory."""

LONGEST_CHUNK, SHORTEST_CHUNK = 1024, 64

SHARED_FROM = 32
"""Prompts that begin alike for this many tokens or more have their beginning read once; less is not worth it."""

Embedded: TypeAlias = npt.NDArray[np.float32]

Key = TypeVar("Key")


def graph_inputs(dims: DecoderDims) -> list[str]:
    """Return the input names a decoder graph must have."""
    return [EMBEDS, SEQLENS, TOTAL, POSITIONS, *cache_names(past_name, dims.layers)]


def graph_outputs(dims: DecoderDims) -> list[str]:
    """Return the output names a decoder graph must have."""
    return [LOGITS, *cache_names(present_name, dims.layers)]


class Decoder:
    """Runs the decoder graphs of a bundle. Holds no state between calls: many threads may share one.

    Attributes:
        init: runs prompts.
        step: runs one token per row; the same session as `init` where both graphs are equal.
        dims: dimensions of the model.
        embeddings: token ids -> embedding rows.
        eos: ids that end a row.
        rescored: how many of the best tokens get exact logits.
    """

    def __init__(
        self,
        init: Session,
        step: Session,
        embeddings: EmbeddingTable,
        dims: DecoderDims,
        eos: Sequence[int],
        *,
        rescored: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            init: prefill graph.
            step: one-token graph.
            embeddings: table of input embeddings.
            dims: dimensions of the model.
            eos: ids that end a row.
            rescored: how many of the best tokens get their logits from the table instead of the graph's head; the
                graphs must have the output for it.
        """
        self.init = init
        self.step = step
        self.dims = dims
        self.embeddings = embeddings
        self.eos = frozenset(eos)
        self.rescored = rescored

    def generate(
        self, prompts: Sequence[Embedded], limits: Sequence[int], *, eos: Sequence[int] | None = None
    ) -> list[Generated]:
        """Continue each prompt greedily, all together.

        Args:
            prompts: each (n_tokens, hidden) float32.
            limits: most tokens to generate, per prompt, at least 1.
            eos: ids that end a row instead of the model's own; an empty sequence always fills the limit.

        Returns:
            One result per prompt, in order.
        """
        if not prompts:
            return []
        room = max(len(prompt) + min(limit, GROWTH_TOKENS) for prompt, limit in zip(prompts, limits, strict=True))
        batch: Batch[int] = Batch(self, KvCache(self.dims, len(prompts), room), eos=eos)
        for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            batch.add(i, prompt, limit)
        results: dict[int, Generated] = {}
        while batch.n_active:
            results.update(batch.run())
        return [results[i] for i in range(len(prompts))]

    def continue_greedy(
        self,
        cache: KvCache,
        length: int,
        token: int,
        limit: int,
        *,
        eos: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Generated:
        """Continue row 0 of a cache with one row, one token at a time.

        Afterwards the cache holds `length` positions, `token`, and every generated id but the last one: the last was
        chosen and never read. The caller may overwrite any of them.

        Args:
            cache: with `length` valid positions; grown when it is full.
            length: valid positions.
            token: the token after them, chosen already and not in the cache yet. Not a stop token.
            limit: most tokens to generate after `token`, at least 1.
            eos: ids that end the row instead of the model's own; an empty sequence always fills the limit.
            watch: called with the ids after `token` each time one is added; True ends the row.

        Returns:
            What follows `token`.
        """
        assert cache.rows == 1
        batch: Batch[None] = Batch(self, cache, eos=eos)
        batch.resume(None, length, token, limit, watch)
        ((_, result),) = batch.run()
        return result

    def prefill_logits(self, prompt: Embedded) -> npt.NDArray[np.float32]:
        """Return the logits (vocab,) that follow a prompt (n_tokens, hidden)."""
        logits: npt.NDArray[np.float32] = self.extend(KvCache(self.dims, 1, len(prompt)), 0, prompt)[0]
        return logits

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
        per_position = 4 * self.dims.heads * cache.capacity
        chunk = min(max(ATTENTION_BYTES // per_position, SHORTEST_CHUNK), LONGEST_CHUNK)
        logits = np.empty((1, n_logits, self.dims.vocab_size), dtype=np.float32)
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
        if not self.rescored:
            return cache.bind(session, first, last, inputs, {LOGITS: logits}).run
        hidden = np.empty((*logits.shape[:2], self.dims.hidden), dtype=np.float32)
        binding = cache.bind(session, first, last, inputs, {LOGITS: logits, HIDDEN: hidden})

        def run() -> None:
            binding.run()
            rescore(logits, hidden, self.embeddings, self.rescored)

        return run


class Batch(Generic[Key]):
    """Rows of one cache that decode together: prompts join at any time and leave as they end.

    What a row generates does not depend on the others. Not for use by several threads at once.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KvCache,
        *,
        max_positions: int | None = None,
        eos: Sequence[int] | None = None,
    ) -> None:
        """Start without rows.

        Args:
            decoder: runs the graphs.
            cache: with as many rows as may be active together; grown in length when needed.
            max_positions: most positions of the cache to use, over all rows; None for no limit. One row always fits.
            eos: ids that end a row instead of the model's own.
        """
        self._decoder = decoder
        self._cache = cache
        self._max_positions = max_positions
        self._eos = decoder.eos if eos is None else frozenset(eos)
        self._rows: list[Row[Key] | None] = []  # row i lives in cache row i; None is a place to fill
        self._used = [0] * cache.rows  # most positions any row has had in this place: so much memory is taken
        self._shared = [0] * cache.rows  # positions at the start of this place that hold what all prompts begin with

    @property
    def n_active(self) -> int:
        """Rows in the batch, those that have ended and were not handed out yet included."""
        return sum(row is not None for row in self._rows)

    @property
    def is_full(self) -> bool:
        """Whether no row can be added."""
        return self.n_active == self._cache.rows

    def fits(self, length: int) -> bool:
        """Return whether a row that grows to `length` positions can be added."""
        if not self.n_active:
            return True
        return not self.is_full and (self._max_positions is None or self._used_with(length) <= self._max_positions)

    def _used_with(self, length: int) -> int:
        place = self._free_place()
        return sum(self._used) - self._used[place] + max(self._used[place], length)

    def _free_place(self) -> int:
        return self._rows.index(None) if None in self._rows else len(self._rows)

    def add(self, key: Key, prompt: Embedded, limit: int, watch: Watch | None = None, *, n_shared: int = 0) -> None:
        """Read a prompt and choose its first token.

        Args:
            key: what `run` names the row by.
            prompt: (n_tokens, hidden) float32.
            limit: most tokens to generate, at least 1.
            watch: sees the ids after each new one; True ends the row.
            n_shared: with how many positions all prompts that give this number begin alike, less than n_tokens: where
                it pays, they are read once, and copied from row to row.
        """
        started = time.perf_counter()
        if not self.n_active and self._max_positions is not None and self._used_with(len(prompt)) > self._max_positions:
            self._cache.clear()
            self._used = [0] * self._cache.rows
            self._shared = [0] * self._cache.rows
        row = Row(key, len(prompt), limit, self._eos, watch)
        place = self._place(row)
        if len(prompt) >= self._cache.capacity:
            self._grow(len(prompt))
        n_shared = n_shared if n_shared >= SHARED_FROM else 0
        past = self._take_shared(place, n_shared)
        tokens, logprobs = greedy(self._decoder.extend(self._cache, place, prompt[past:], past))
        self._shared[place] = n_shared
        row.accept(int(tokens[0]), float(logprobs[0]))
        row.prefill_s = time.perf_counter() - started

    def _take_shared(self, place: int, n_shared: int) -> int:
        """Put what is shared at the start of a place, if any place holds it; return how many positions that is."""
        if not n_shared or n_shared not in self._shared:
            return 0
        if self._shared[place] != n_shared:
            self._cache.move(self._shared.index(n_shared), place, n_shared)
        return n_shared

    def resume(self, key: Key, length: int, token: int, limit: int, watch: Watch | None = None) -> None:
        """Take up a row whose `length` positions are in the next free cache row, to go on after `token`."""
        self._place(Row(key, length, limit, self._eos, watch, token))

    def _place(self, row: Row[Key]) -> int:
        assert not self.is_full
        place = self._free_place()
        self._rows[place : place + 1] = [row]
        self._used[place] = max(self._used[place], row.length)
        return place

    def run(self, interrupt: Callable[[], bool] | None = None) -> list[tuple[Key, Generated]]:
        """Step until at least one row has ended; hand out and drop the rows that have.

        Args:
            interrupt: asked after every step; True ends all rows at once.
        """
        active = self._close_ranks()
        if active and all(row.end is None for row in active):
            self._step_until_change(active, interrupt)
        for place, row in enumerate(active):
            self._used[place] = max(self._used[place], row.length)
        ended = [row for row in active if row.end is not None]
        self._rows = [None if row.end is not None else row for row in active]
        return [(row.key, row.result()) for row in ended]

    def interrupt(self) -> list[tuple[Key, Generated]]:
        """End all rows where they are and hand them out."""
        rows = [row for row in self._rows if row is not None]
        for row in rows:
            row.end = row.end or "interrupt"
        self._rows = []
        return [(row.key, row.result()) for row in rows]

    def _close_ranks(self) -> list[Row[Key]]:
        """Move the last rows into free places, so that the rows fill the cache from its start."""
        while None in self._rows:
            last = self._rows.pop()
            if last is not None:
                place = self._rows.index(None)
                self._rows[place] = last
                self._used[place] = max(self._used[place], last.length)
                self._cache.move(len(self._rows), place, last.length)
                self._shared[place] = self._shared[len(self._rows)]
        return [row for row in self._rows if row is not None]

    def _grow(self, length: int) -> None:
        """Make room for more than `length` positions."""
        valid = max((row.length for row in self._rows if row is not None), default=0)
        capacity = max(length + GROWTH_TOKENS, self._cache.capacity + self._cache.capacity // 2)
        kept = min(valid, self._cache.capacity)
        self._cache.grow(len(self._rows), kept, capacity)
        self._shared = [n if i < len(self._rows) and n <= kept else 0 for i, n in enumerate(self._shared)]

    def _step_until_change(self, active: Sequence[Row[Key]], interrupt: Callable[[], bool] | None) -> None:
        """Step until a row ends: so long the memory bound to the session stays the same."""
        started = time.perf_counter()
        while all(row.end is None for row in active):
            longest = max(row.length for row in active)
            if longest >= self._cache.capacity:
                self._grow(longest)
            self._step_within_capacity(active, interrupt)
        share = (time.perf_counter() - started) / len(active)
        for row in active:
            row.decode_s += share

    def _step_within_capacity(self, active: Sequence[Row[Key]], interrupt: Callable[[], bool] | None) -> None:
        decoder, count = self._decoder, len(active)
        longest = max(row.length for row in active)
        embeds = np.empty((count, 1, decoder.dims.hidden), dtype=np.float32)
        seqlens = _int32([row.length for row in active])
        total = _int32(longest + 1)
        logits = np.empty((count, 1, decoder.dims.vocab_size), dtype=np.float32)
        inputs: dict[str, npt.NDArray[Any]] = {EMBEDS: embeds, SEQLENS: seqlens, TOTAL: total}
        inputs[POSITIONS] = np.zeros((count, 1), dtype=np.int64)
        step = decoder.call(decoder.step, self._cache, 0, count, inputs, logits)
        for _ in range(self._cache.capacity - longest):
            embeds[:, 0] = decoder.embeddings.rows(np.array([row.token for row in active]))
            step()
            tokens, logprobs = greedy(logits[:, 0])
            for row, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
                row.length += 1
                row.accept(token, logprob)
            if interrupt is not None and interrupt():
                for row in active:
                    row.end = row.end or "interrupt"
            if any(row.end is not None for row in active):
                return
            seqlens += 1
            total += 1


def _int32(values: Sequence[int] | int) -> npt.NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def greedy(logits: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the best token of each row (rows, vocab), and its natural-log probability."""
    tokens = logits.argmax(axis=-1)
    best = logits[np.arange(len(logits)), tokens]
    # log softmax at the maximum is minus the log of the sum of exp(x - max).
    logprobs = -np.log(np.exp(logits - best[:, None]).sum(axis=-1, dtype=np.float64))
    return tokens, logprobs
