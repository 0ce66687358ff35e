"""Prompts, or a cache that was filled elsewhere -> all that the model writes behind them."""

from __future__ import annotations

from collections.abc import Sequence

from .batch import GROWTH_TOKENS, Batch
from .choosing import Chooser, greedy
from .decoder import Decoder
from .embeddings import Embedded
from .kv_cache import KvCache
from .rows import Generated, Watch

__all__ = ["continue_greedy", "generate"]


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
