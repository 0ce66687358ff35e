"""Embedded prompts -> generated token ids: prefill, then one-token steps on a cache that is updated in place.

Prompts are prefilled one by one, each into its own row of a shared cache, so none pays for another's padding; the steps
then run all rows at once. A row that ends gives its place to the next prompt, or to the last active row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.names import EMBEDS, POSITIONS, SEQLENS, TOTAL
from qwen3_asr_onnx.text.loops import ends_in_loop

from .choosing import Chooser, Denial, decide, greedy
from .decoder import Decoder, int32
from .embeddings import Embedded
from .judging import judge
from .kv_cache import KvCache
from .rows import Generated, Key, Row, Watch

__all__ = ["Batch", "Generated", "Watch", "continue_greedy", "generate"]

GROWTH_TOKENS = 256
"""The cache is allocated for the prompt and this many tokens, then grows by half: one copy in a few hundred steps."""

SHARED_FROM = 32
"""Prompts that begin alike for this many tokens or more have their beginning read once; less is not worth it."""


def generate(
    decoder: Decoder,
    prompts: Sequence[Embedded],
    limits: Sequence[int],
    *,
    eos: Sequence[int] | None = None,
    choose: Chooser = greedy,
) -> list[Generated]:
    """Continue each prompt, all together; return one result per prompt, in order.

    Args:
        decoder: runs the graphs.
        prompts: each (n_tokens, hidden) float32.
        limits: most tokens to generate, per prompt, at least 1.
        eos: ids that end a row instead of the model's own; an empty sequence always fills the limit.
        choose: decides on every token.
    """
    if not prompts:
        return []
    room = max(len(prompt) + min(limit, GROWTH_TOKENS) for prompt, limit in zip(prompts, limits, strict=True))
    batch: Batch[int] = Batch(decoder, KvCache(decoder.dims, len(prompts), room), eos=eos, choose=choose)
    for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        batch.add(i, prompt, limit)
    results: dict[int, Generated] = {}
    while batch.n_active:
        results.update(batch.run())
    return [results[i] for i in range(len(prompts))]


def continue_greedy(
    decoder: Decoder,
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
        decoder: runs the graphs.
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
    batch: Batch[None] = Batch(decoder, cache, eos=eos)
    batch.resume(None, length, token, limit, watch)
    ((_, result),) = batch.run()
    return result


MOST_DRAFTED = 48
"""A draft this long is judged: what comes behind the first difference was written for nothing."""


class Batch(Generic[Key]):
    """Rows of one cache that decode together: prompts join at any time and leave as they end.

    Where the decoder has a judge, the step graph only drafts: what a row has written is what the judge has written, in
    ids, probabilities and cache alike, and watches and limits see nothing else.

    What a row generates does not depend on the others. Not for use by several threads at once.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KvCache,
        *,
        max_positions: int | None = None,
        eos: Sequence[int] | None = None,
        choose: Chooser = greedy,
    ) -> None:
        """Start without rows.

        Args:
            decoder: runs the graphs.
            cache: with as many rows as may be active together; grown in length when needed.
            max_positions: most positions of the cache to use, over all rows; None for no limit. One row always fits.
            eos: ids that end a row instead of the model's own.
            choose: decides on every token.
        """
        self._decoder = decoder
        self._cache = cache
        self._max_positions = max_positions
        self._eos = decoder.eos if eos is None else frozenset(eos)
        self._choose = choose
        self._rows: list[Row[Key] | None] = []  # row i lives in cache row i; None is a place to fill
        self._used = [0] * cache.rows  # most positions any row has had in this place: so much memory is taken
        # The token ids at the start of each place that other prompts may begin with too.
        self._shared: list[tuple[int, ...]] = [()] * cache.rows

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

    def add(
        self,
        key: Key,
        prompt: Embedded,
        limit: int,
        watch: Watch | None = None,
        *,
        shared: tuple[int, ...] = (),
        denial: Denial | None = None,
    ) -> None:
        """Read a prompt and choose its first token.

        Args:
            key: what `run` names the row by.
            prompt: (n_tokens, hidden) float32.
            limit: most tokens to generate, at least 1.
            watch: sees the ids after each new one; True ends the row.
            shared: token ids that this prompt begins with, fewer than n_tokens, and others may too: where it pays, they
                are read once, and copied from row to row.
            denial: ends the row at once, with nothing written, if the model would have written that nobody speaks.
        """
        started = time.perf_counter()
        if not self.n_active and self._max_positions is not None and self._used_with(len(prompt)) > self._max_positions:
            self._cache.clear()
            self._used = [0] * self._cache.rows
            self._shared = [()] * self._cache.rows
        row = Row(key, len(prompt), limit, self._eos, watch)
        place = self._place(row)
        if len(prompt) >= self._cache.capacity:
            self._grow(len(prompt))
        shared = shared if len(shared) >= SHARED_FROM else ()
        past = self._take_shared(place, shared)
        n_logits = 1 if denial is None else 1 + denial.back
        logits = self._decoder.extend(self._cache, place, prompt[past:], past, n_logits=n_logits)
        self._shared[place] = shared
        if denial is not None and denial.holds(logits[0]):
            row.end = "stop_token"
        else:
            tokens, logprobs = decide(self._choose, logits[-1:], [row.ids], self._decoder.init.path)
            row.accept(int(tokens[0]), float(logprobs[0]))
        row.prefill_s = time.perf_counter() - started

    def _take_shared(self, place: int, shared: tuple[int, ...]) -> int:
        """Put what is shared at the start of a place, if any place holds it; return how many positions that is."""
        if not shared or shared not in self._shared:
            return 0
        if self._shared[place] != shared:
            self._cache.move(self._shared.index(shared), place, len(shared))
        return len(shared)

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
        _end_all(rows)
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
        self._shared = [ids if i < len(self._rows) and len(ids) <= kept else () for i, ids in enumerate(self._shared)]

    def _step_until_change(self, active: Sequence[Row[Key]], interrupt: Callable[[], bool] | None) -> None:
        """Step until a row ends: so long the memory bound to the session stays the same."""
        started = time.perf_counter()
        while all(row.end is None for row in active):
            longest = max(row.length for row in active)
            if longest >= self._cache.capacity:
                self._grow(longest)
            drafting = self._decoder.drafts(len(active))
            due = [place for place, row in enumerate(active) if row.draft and not (drafting and self._goes_on(row))]
            if due:
                self._judge(due[0], active[due[0]])
                if interrupt is not None and interrupt():
                    _end_all(active)
                continue
            self._step_within_capacity(active, drafting, interrupt)
        share = (time.perf_counter() - started) / len(active)
        for row in active:
            row.decode_s += share

    def _goes_on(self, row: Row[Key]) -> bool:
        """Return whether the draft of a row may become longer before it is judged."""
        draft, written = row.draft, row.written
        full = len(draft) >= MOST_DRAFTED or len(written) >= row.limit
        return not full and draft[-1] not in row.eos and not ends_in_loop(written)

    def _judge(self, place: int, row: Row[Key]) -> None:
        """Have a row's draft judged, and take what the judge writes in its place."""
        decoder, draft = self._decoder, row.draft
        read = [row.token, *(draft[:-1] if draft[-1] in row.eos else draft)]
        past = row.length - len(draft)
        if past + len(read) > self._cache.capacity:
            self._grow(past + len(read))
        embeds = decoder.embeddings.rows(np.array(read, dtype=np.int64))
        logits = decoder.extend(self._cache, place, embeds, past, n_logits=len(read))
        tokens, logprobs = judge(self._choose, logits, draft, row.ids, decoder.init.path)
        row.length, row.draft = past + len(tokens), []
        row.n_passes += 1
        for token, logprob in zip(tokens, logprobs, strict=True):
            row.accept(token, logprob)
            if row.end is not None:
                return

    def _step_within_capacity(
        self, active: Sequence[Row[Key]], drafting: bool, interrupt: Callable[[], bool] | None
    ) -> None:
        decoder, count = self._decoder, len(active)
        graph = decoder.step if drafting or not decoder.verified else decoder.init
        longest = max(row.length for row in active)
        embeds = np.empty((count, 1, decoder.dims.hidden), dtype=np.float32)
        seqlens, total = int32([row.length for row in active]), int32(longest + 1)
        logits = np.empty((count, 1, decoder.dims.vocab_size), dtype=np.float32)
        inputs: dict[str, npt.NDArray[Any]] = {EMBEDS: embeds, SEQLENS: seqlens, TOTAL: total}
        inputs[POSITIONS] = np.zeros((count, 1), dtype=np.int64)
        step = decoder.call(graph, self._cache, 0, count, inputs, logits)
        for _ in range(self._cache.capacity - longest):
            embeds[:, 0] = decoder.embeddings.rows(np.array([row.unread for row in active]))
            step()
            tokens, logprobs = decide(self._choose, logits[:, 0], [row.written for row in active], graph.path)
            for row, token, logprob in zip(active, tokens.tolist(), logprobs.tolist(), strict=True):
                row.length += 1
                if drafting:
                    row.draft.append(token)
                else:
                    row.accept(token, logprob)
            if interrupt is not None and interrupt():
                _end_all(active)
            if any(row.end is not None or (row.draft and not self._goes_on(row)) for row in active):
                return
            seqlens += 1
            total += 1


def _end_all(rows: Sequence[Row[Key]]) -> None:
    for row in rows:
        row.end = row.end or "interrupt"
