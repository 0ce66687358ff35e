"""Verified decoding on the checked-in bundle: whatever the draft is, what is written is what the judge writes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.clips import CLIP_SECONDS, synthetic_clip

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.batch import Batch, Generated
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.rows import MOST_DRAFTED
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.model.writing import continue_greedy, generate

LIMIT = 60


class Drafter(Decoder):
    """A decoder whose step graph is broken: it spoils its logits now and then, and what it keeps in the cache always.

    Attributes:
        n_judged: positions that the judge has read in front of drafts.
    """

    def __init__(self, real: Decoder, share: float, *, judge_steps_from: int = 0, verified: bool = True) -> None:
        init: Any = mock.Mock(wraps=real.init, path=real.init.path)
        super().__init__(
            init,
            real.step,
            real.embeddings,
            real.dims,
            tuple(real.eos),
            verified=verified,
            judge_steps_from=judge_steps_from,
        )
        self.share = share
        self.random = np.random.default_rng(7)

    def call(
        self,
        session: Session,
        cache: KvCache,
        first: int,
        last: int,
        inputs: Mapping[str, npt.NDArray[Any]],
        logits: npt.NDArray[np.float32],
    ) -> Callable[[], None]:
        run = super().call(session, cache, first, last, inputs, logits)

        def spoiled() -> None:
            run()
            if session is not self.step or not self.share:
                return
            for buffer in cache.buffers:
                for row in range(first, last):
                    position = int(inputs["seqlens_k"][row - first])
                    buffer[row, :, position] = self.random.standard_normal(buffer[row, :, position].shape)
            wrong = self.random.random(len(logits)) < self.share
            logits[wrong] = self.random.standard_normal(logits[wrong].shape)

        return spoiled


@pytest.fixture(scope="module")
def prompts(asr: Transcriber) -> list[Embedded]:
    return [Prompter(asr).embed(rows) for rows in hear(asr, [synthetic_clip(seconds) for seconds in CLIP_SECONDS])[0]]


@pytest.fixture(scope="module")
def alone(asr: Transcriber, prompts: list[Embedded]) -> list[Generated]:
    return [generate(asr.decoder, [prompt], [LIMIT], eos=())[0] for prompt in prompts]


def agrees(found: Generated, expected: Generated) -> None:
    n_tokens = len(found.token_ids)
    assert found.token_ids == expected.token_ids[:n_tokens]
    np.testing.assert_allclose(found.logprobs[:n_tokens], expected.logprobs[:n_tokens], atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("rows", [1, 3])
def test_any_draft_gives_the_text_of_the_judge(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], share: float, rows: int
) -> None:
    decoder = Drafter(asr.decoder, share)
    batch: Batch[int] = Batch(decoder, KvCache(decoder.dims, rows, 64), eos=())
    limits = [1, 2, 60, 47, 48, 49, 50]
    waiting = [(n, prompts[n % len(prompts)], limit) for n, limit in enumerate(limits)]
    results: dict[int, Generated] = {}
    while waiting or batch.n_active:
        while waiting and not batch.is_full:
            batch.add(*waiting.pop(0))
        results.update(batch.run())
    for n, limit in enumerate(limits):
        agrees(results[n], alone[n % len(prompts)])
        assert (len(results[n].token_ids), results[n].end) == (limit, "limit")
        if share == 0.0:  # every draft holds, and its judge adds a token of its own
            assert results[n].n_passes == -(-(limit - 1) // (MOST_DRAFTED + 1))


def test_an_end_inside_a_draft_and_one_that_only_the_draft_believes_in(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated]
) -> None:
    for prompt, whole in zip(prompts, alone, strict=True):
        end = next((n for n, token in enumerate(whole.token_ids) if n > 3 and token not in whole.token_ids[:n]), None)
        if end is None:
            continue
        eos = [whole.token_ids[end], *(token for token in range(280) if token not in whole.token_ids)]
        for share in (0.0, 0.5):  # spoiled drafts end everywhere
            (found,) = generate(Drafter(asr.decoder, share), [prompt], [LIMIT], eos=eos)
            agrees(found, whole)
            assert (len(found.token_ids), found.end) == (end, "stop_token")
            assert len(found.logprobs) == end + 1


@pytest.mark.parametrize("ends_at", [1, 2, 17, 49, 50])
def test_a_watch_sees_what_is_judged_one_token_after_the_other(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], ends_at: int
) -> None:
    seen: list[tuple[int, ...]] = []

    def watch(ids: Sequence[int]) -> bool:
        seen.append(tuple(ids))
        return len(ids) == ends_at

    batch: Batch[int] = Batch(Drafter(asr.decoder, 0.1), KvCache(asr.decoder.dims, 1, 64), eos=())
    batch.add(0, prompts[0], LIMIT, watch)
    found: list[tuple[int, Generated]] = []
    while not found:
        found = batch.run()
    assert seen == [alone[0].token_ids[:n] for n in range(1, ends_at + 1)]
    assert (found[0][1].token_ids, found[0][1].end) == (alone[0].token_ids[:ends_at], "watch")


@pytest.mark.parametrize("steps", [1, 20, 47, 48, 49, 70])
def test_an_interrupt_leaves_what_is_judged(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], steps: int
) -> None:
    asked = 0

    def interrupt() -> bool:
        nonlocal asked
        asked += 1
        return asked >= steps

    batch: Batch[int] = Batch(Drafter(asr.decoder, 0.0), KvCache(asr.decoder.dims, 2, 64), eos=())
    for n in (0, 1):
        batch.add(n, prompts[n], 10 * LIMIT)
    ended: list[tuple[int, Generated]] = []
    while not ended:
        ended = batch.run(interrupt)
    assert asked == steps
    for n, found in ended:
        assert found.end == "interrupt"
        assert len(found.token_ids) == (1 if steps < 49 + n else 50)  # a draft that is not judged yet is nothing
        agrees(found, generate(asr.decoder, [prompts[n]], [3 * LIMIT], eos=())[0])


def test_many_rows_are_written_by_the_judge_itself(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated]
) -> None:
    decoder = Drafter(asr.decoder, 1.0, judge_steps_from=2)
    batch: Batch[int] = Batch(decoder, KvCache(decoder.dims, 2, 64), eos=())
    batch.add(0, prompts[0], LIMIT)
    asked = iter([False] * 9 + [True])  # one row drafts, in vain
    drafting: Generated = batch.run(lambda: next(asked))[0][1]
    assert drafting.n_passes == 0
    batch.add(1, prompts[1], 20)
    batch.add(2, prompts[2], LIMIT)
    results: dict[int, Generated] = {}
    while batch.n_active:
        results.update(batch.run())
    assert results[1].n_passes == 0
    assert results[2].n_passes > 0, "alone again, it drafts"
    for n in (1, 2):
        agrees(results[n], alone[n])


def test_a_draft_is_judged_before_the_judge_writes_on(asr: Transcriber, prompts: list[Embedded]) -> None:
    """A row that drafts alone is joined by another before its draft is judged."""
    expected = [generate(asr.decoder, [prompt], [LIMIT], eos=())[0] for prompt in prompts[:3]]
    batch: Batch[int] = Batch(Drafter(asr.decoder, 0.5, judge_steps_from=3), KvCache(asr.decoder.dims, 3, 64), eos=())
    batch.add(0, prompts[0], LIMIT)
    batch.add(1, prompts[1], 9)  # ends while the first has a draft
    results = dict(batch.run())
    batch.add(1, prompts[1], LIMIT)
    batch.add(2, prompts[2], LIMIT)
    while batch.n_active:
        results.update(batch.run())
    for n in range(3):
        assert len(results[n].token_ids) == LIMIT
        agrees(results[n], expected[n])


def test_going_on_with_a_cache_of_ones_own(asr: Transcriber, prompts: list[Embedded], alone: list[Generated]) -> None:
    decoder = Drafter(asr.decoder, 0.3)
    cache = KvCache(decoder.dims, 1, len(prompts[0]) + 4)
    decoder.extend(cache, 0, prompts[0])
    first = alone[0].token_ids[0]
    found = continue_greedy(decoder, cache, len(prompts[0]), first, LIMIT - 1, eos=())
    assert (first, *found.token_ids) == alone[0].token_ids


def test_one_graph_under_both_names_needs_no_judge(asr: Transcriber) -> None:
    real = asr.decoder
    decoder = Decoder(real.init, real.init, real.embeddings, real.dims, tuple(real.eos), verified=True)
    assert not decoder.verified
    assert not decoder.drafts(1)
