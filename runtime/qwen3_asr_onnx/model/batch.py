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

from .choosing import Chooser, Denial, decide, greedy
from .decoder import Decoder, int32
from .embeddings import Embedded
from .judging import judge
from .kv_cache import KvCache
from .rows import Generated, Joining, Key, Row, Watch

__all__ = ["Batch", "Generated", "Watch"]

GROWTH_TOKENS = 256
"""The cache is allocated for the prompt and this many tokens, then grows by half: one copy in a few hundred steps."""

SHARED_FROM = 32
"""Prompts that begin alike for this many tokens or more have their beginning read once; less is not worth it."""


class Batch(Generic[Key]):
    """Rows of one cache that decode together: prompts join at any time and leave as they end.

    Where the decoder has a judge, the step graph only drafts: what a row has written is what the judge has written, in
    ids, probabilities and cache alike, and watches and limits see nothing else.

    What a row generates does not depend on the others. Not for use by several threads at once.

    Attributes:
        max_positions: most positions of the cache to use, over all rows; None for no limit. One row always fits.
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
        self.max_positions = max_positions
        self._eos = decoder.eos if eos is None else frozenset(eos)
        self._choose = choose
        self._rows: list[Row[Key] | None] = []  # row i lives in cache row i; None is a place to fill
        self._used = [0] * cache.rows  # most positions any row has had in this place: so much memory is taken
        # The token ids at the start of each place that other prompts may begin with too.
        self._shared: list[tuple[int, ...]] = [()] * cache.rows
        self._joining: Joining[Key] | None = None  # its place lies behind those of the rows, or is free among them

    @property
    def n_active(self) -> int:
        """Rows in the batch: those that have ended and were not handed out yet included, and one that is joining."""
        return self.n_rows + (self._joining is not None)

    @property
    def n_rows(self) -> int:
        """Rows that `run` has something to do for."""
        return sum(row is not None for row in self._rows)

    @property
    def n_positions(self) -> int:
        """Positions of the cache that take memory."""
        return sum(self._used)

    @property
    def is_full(self) -> bool:
        """Whether no row can be added."""
        return self.n_active == self._cache.rows

    def fits(self, length: int) -> bool:
        """Return whether a row that grows to `length` positions can be added."""
        if not self.n_active:
            return True
        return not self.is_full and (self.max_positions is None or self._used_with(length) <= self.max_positions)

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
        self._begin(Row(key, len(prompt), limit, self._eos, watch), prompt, shared, denial)
        self.read_on()

    def join(
        self,
        key: Key,
        prompt: Embedded,
        limit: int,
        watch: Watch | None = None,
        *,
        shared: tuple[int, ...] = (),
        denial: Denial | None = None,
    ) -> None:
        """Begin what `add` does at once: `read_on` goes on with it, between runs of the other rows.

        One row joins at a time. The arguments are those of `add`.
        """
        self._close_ranks()
        self._begin(Row(key, len(prompt), limit, self._eos, watch), prompt, shared, denial)

    def _begin(self, row: Row[Key], prompt: Embedded, shared: tuple[int, ...], denial: Denial | None) -> None:
        assert self._joining is None
        if not self.n_active and self.max_positions is not None and self._used_with(len(prompt)) > self.max_positions:
            self.release()
        place = self._free_place()
        self._used[place] = max(self._used[place], row.length)
        shared = shared if len(shared) >= SHARED_FROM and self._decoder.continues else ()
        self._joining = Joining(row, place, prompt, shared, denial)
        if len(prompt) >= self._cache.capacity:
            self._grow(len(prompt))
        self._joining.n_read = self._take_shared(place, shared)
        self._shared[place] = ()  # until it is read

    def read_on(self, most: int | None = None) -> bool:
        """Read more of the prompt that is joining; return whether that was all, and it has joined.

        Args:
            most: positions to read, about; None reads to the end.
        """
        started = time.perf_counter()
        joining = self._joining
        assert joining is not None
        end = joining.n_read + joining.next_count(most if self._decoder.continues else None)
        is_last = end == len(joining.prompt)
        n_logits = joining.n_logits if is_last else 1
        piece = joining.prompt[joining.n_read : end]
        logits = self._decoder.extend(self._cache, joining.place, piece, joining.n_read, n_logits=n_logits)
        joining.n_read = end
        if is_last:
            self._let_in(joining, logits)
        joining.row.prefill_s += time.perf_counter() - started
        return is_last

    def _let_in(self, joining: Joining[Key], logits: npt.NDArray[np.float32]) -> None:
        """Choose the first token of a prompt that was read, and make it one of the rows."""
        row, self._joining = joining.row, None
        place = self._place(row)
        if place != joining.place:  # others have left meanwhile
            self._cache.move(joining.place, place, row.length)
        self._shared[place] = joining.shared
        if joining.denial is not None and joining.denial.holds(logits[0]):
            row.end = "stop_token"
            return
        tokens, logprobs = decide(self._choose, logits[-1:], [row.ids], self._decoder.init.path)
        row.accept(int(tokens[0]), float(logprobs[0]))

    def leave(self) -> None:
        """Drop the prompt that is joining, if there is one."""
        self._joining = None

    def release(self) -> None:
        """Give the memory of the cache back. Only without rows."""
        assert not self.n_active
        self._cache.clear()
        self._used = [0] * self._cache.rows
        self._shared = [()] * self._cache.rows

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

    def run(
        self, interrupt: Callable[[], bool] | None = None, pause: Callable[[], bool] | None = None
    ) -> list[tuple[Key, Generated]]:
        """Step until at least one row has ended; hand out and drop the rows that have.

        Args:
            interrupt: asked after every step; True ends all rows at once.
            pause: asked after every step; True hands out what there is, which may be nothing, and leaves the rows as
                they are for the next run.
        """
        active = self._close_ranks()
        if active and all(row.end is None for row in active):
            self._step_until_change(active, interrupt or (lambda: False), pause or (lambda: False))
        for place, row in enumerate(active):
            self._used[place] = max(self._used[place], row.length)
        ended = [row for row in active if row.end is not None]
        self._rows = [None if row.end is not None else row for row in active]
        return [(row.key, row.result()) for row in ended]

    def interrupt(self, which: Callable[[Key], bool] | None = None) -> list[tuple[Key, Generated]]:
        """End rows where they are and hand them out: all of them, or those with certain keys."""
        ending = [row for row in self._rows if row is not None and (which is None or which(row.key))]
        _end_all(ending)
        left = {id(row) for row in ending}
        self._rows = [None if id(row) in left else row for row in self._rows]
        return [(row.key, row.result()) for row in ending]

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
        rows = len(self._rows)
        if (joining := self._joining) is not None:
            valid, rows = max(valid, joining.row.length), max(rows, joining.place + 1)
        capacity = max(length + GROWTH_TOKENS, self._cache.capacity + self._cache.capacity // 2)
        kept = min(valid, self._cache.capacity)
        self._cache.grow(rows, kept, capacity)
        self._shared = [ids if i < rows and len(ids) <= kept else () for i, ids in enumerate(self._shared)]

    def _step_until_change(
        self, active: Sequence[Row[Key]], interrupt: Callable[[], bool], pause: Callable[[], bool]
    ) -> None:
        """Step until a row ends or a pause is asked for: so long the memory bound to the session stays the same."""
        started, paused = time.perf_counter(), False
        while not paused and all(row.end is None for row in active):
            longest = max(row.length for row in active)
            if longest >= self._cache.capacity:
                self._grow(longest)
            drafting = self._decoder.drafts(len(active))
            due = [place for place, row in enumerate(active) if row.draft and not (drafting and row.drafts_on)]
            if due:
                self._judge(due[0], active[due[0]])
                if interrupt():
                    _end_all(active)
                paused = pause()
                continue
            paused = self._step_within_capacity(active, drafting, interrupt, pause)
        share = (time.perf_counter() - started) / len(active)
        for row in active:
            row.decode_s += share

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
        self, active: Sequence[Row[Key]], drafting: bool, interrupt: Callable[[], bool], pause: Callable[[], bool]
    ) -> bool:
        """Step until the cache is full or something else is to be done; return whether that is a pause."""
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
            if interrupt():
                _end_all(active)
            if pause():
                return True
            if any(row.end is not None or (row.draft and not row.drafts_on) for row in active):
                return False
            seqlens += 1
            total += 1
        return False


def _end_all(rows: Sequence[Row[Key]]) -> None:
    for row in rows:
        row.end = row.end or "interrupt"
