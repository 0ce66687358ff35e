"""The decoder on the checked-in bundle: however prompts are grouped, cut or resumed, the ids stay the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.clips import CLIP_SECONDS, synthetic_clip
from tests.support.logits import logits_after

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.batch import SHARED_FROM, Batch, Generated
from qwen3_asr_onnx.model.choosing import Choice, Denial, greedy
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.writing import continue_greedy, generate

LIMIT = 24


@pytest.fixture(scope="module")
def prompts(asr: Transcriber) -> list[Embedded]:
    """The embedded prompts of the clips whose ids transformers gave."""
    return [Prompter(asr).embed(rows) for rows in hear(asr, [synthetic_clip(seconds) for seconds in CLIP_SECONDS])[0]]


@pytest.fixture(scope="module")
def alone(asr: Transcriber, prompts: list[Embedded]) -> list[Generated]:
    return [generate(asr.decoder, [prompt], [LIMIT], eos=())[0] for prompt in prompts]


def drain(batch: Batch[int], waiting: Iterator[tuple[int, Embedded, int]]) -> dict[int, Generated]:
    """Run a batch that is topped up from `waiting` whenever a row leaves."""
    results: dict[int, Generated] = {}
    more = True
    while True:
        while more and not batch.is_full:
            entry = next(waiting, None)
            more = entry is not None
            if entry is not None:
                batch.add(*entry)
        if not batch.n_active:
            return results
        results.update(batch.run())


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("capacity", [16, 1200])
def test_rows_that_come_and_go_decode_as_if_alone(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], rows: int, capacity: int
) -> None:
    limits = [3, 24, 1, 7, 24, 2, 11]
    order = [i % len(prompts) for i in range(len(limits))]
    batch: Batch[int] = Batch(asr.decoder, KvCache(asr.decoder.dims, rows, capacity), eos=())
    results = drain(batch, ((n, prompts[i], limits[n]) for n, i in enumerate(order)))
    assert sorted(results) == list(range(len(limits)))
    for n, i in enumerate(order):
        assert results[n].token_ids == alone[i].token_ids[: limits[n]]
        assert results[n].end == "limit"
        np.testing.assert_allclose(results[n].logprobs, alone[i].logprobs[: limits[n]], atol=1e-4)


@pytest.mark.parametrize("most", [1, 7, 50])
def test_prompts_that_are_read_in_parts_between_steps_decode_as_if_alone(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], most: int
) -> None:
    """Rows end and move while another joins; one prompt leaves half read, and one row is called away."""
    order, limits = [0, 1, 2, 1, 0, 2], [4, LIMIT, 9, LIMIT, 2, 3]
    batch: Batch[int] = Batch(asr.decoder, KvCache(asr.decoder.dims, 3, 16), eos=())
    results: dict[int, Generated] = {}
    for n, i in enumerate(order):
        while batch.is_full:
            results.update(batch.run(pause=lambda: True))
        batch.join(n, prompts[i], limits[n])
        if n == 2:
            assert not batch.read_on(1)
            batch.leave()
            batch.join(n, prompts[i], limits[n])
        while not batch.read_on(most):
            results.update(batch.run(pause=lambda: True))
    called_away = dict(batch.interrupt(lambda key: key == 3))
    assert all(result.end == "interrupt" for result in called_away.values())
    while batch.n_active:
        results.update(batch.run())
    batch.release()
    assert batch.n_positions == 0
    assert results.keys() | called_away.keys() == set(range(len(order)))
    for n, result in [*results.items(), *called_away.items()]:
        assert result.token_ids == alone[order[n]].token_ids[: len(result.token_ids)]
        assert n in called_away or len(result.token_ids) == limits[n]


@pytest.fixture(scope="module")
def told(asr: Transcriber) -> tuple[list[Embedded], tuple[int, ...]]:
    """Prompts that begin with the same 48 words of context, and the ids of that."""
    prompter = Prompter(asr, TranscribeOptions(context="Anna Meyer, Berlin, Zürich " * 12))
    features, _ = hear(asr, [synthetic_clip(seconds) for seconds in CLIP_SECONDS])
    prompt = prompter.prompt(1)
    assert prompt.audio_start >= SHARED_FROM
    return [prompter.embed(rows) for rows in features], tuple(prompt.ids[: prompt.audio_start].tolist())


@pytest.mark.parametrize(("capacity", "max_positions"), [(16, None), (1200, None), (1200, 700)])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_context_that_all_prompts_begin_with_is_read_once(
    asr: Transcriber,
    told: tuple[list[Embedded], tuple[int, ...]],
    rows: int,
    capacity: int,
    max_positions: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts, shared = told
    n_shared = len(shared)
    limits = [3, 24, 1, 7, 24, 2, 11, 5, 5]
    order = [i % len(prompts) for i in range(len(limits))]
    expected = [generate(asr.decoder, [prompts[i]], [n], eos=())[0] for i, n in zip(order, limits, strict=True)]
    read: list[int] = []
    extend = Decoder.extend

    def counted(
        self: Decoder, cache: KvCache, row: int, embedded: Embedded, past: int = 0, **options: Any
    ) -> npt.NDArray[np.float32]:
        read.append(len(embedded))
        return extend(self, cache, row, embedded, past, **options)

    monkeypatch.setattr(Decoder, "extend", counted)
    cache = KvCache(asr.decoder.dims, rows, capacity)
    batch: Batch[int] = Batch(asr.decoder, cache, max_positions=max_positions, eos=())
    results: dict[int, Generated] = {}
    for n, i in enumerate(order):
        while not batch.fits(len(prompts[i]) + limits[n]):
            results.update(batch.run())
        batch.add(n, prompts[i], limits[n], shared=shared)
    while batch.n_active:
        results.update(batch.run())
    for n, one in enumerate(expected):
        assert results[n].token_ids == one.token_ids
        np.testing.assert_allclose(results[n].logprobs, one.logprobs, atol=1e-4)
    whole = sum(len(prompts[i]) for i in order)
    times = (whole - sum(read)) // n_shared
    assert whole - sum(read) == times * n_shared
    assert times >= (len(order) - 1 if capacity > 16 and max_positions is None else 4)


def test_rows_without_the_context_take_nothing_from_those_with_it(
    asr: Transcriber, told: tuple[list[Embedded], tuple[int, ...]], prompts: list[Embedded], alone: list[Generated]
) -> None:
    with_context, context = told
    batch: Batch[int] = Batch(asr.decoder, KvCache(asr.decoder.dims, 1, 1200), eos=())
    for n in range(4):
        chosen, shared = (with_context[1], context) if n % 2 == 0 else (prompts[1], ())
        batch.add(n, chosen, LIMIT, shared=shared)
        ((_, found),) = batch.run()
        expected = alone[1] if n % 2 else generate(asr.decoder, [with_context[1]], [LIMIT], eos=())[0]
        assert found.token_ids == expected.token_ids


@pytest.mark.parametrize("seed", range(6))
def test_prompts_that_join_part_by_part_take_no_beginning_that_was_overwritten(
    asr: Transcriber,
    told: tuple[list[Embedded], tuple[int, ...]],
    prompts: list[Embedded],
    alone: list[Generated],
    seed: int,
) -> None:
    """Rows end and move while a prompt, with the context or without, is being read into a place that had one."""
    with_context, context = told
    rng = np.random.default_rng(seed)
    expected = {True: [generate(asr.decoder, [one], [LIMIT], eos=())[0] for one in with_context], False: alone}
    batch: Batch[tuple[int, bool, int, int]] = Batch(asr.decoder, KvCache(asr.decoder.dims, 3, 1200), eos=())
    n_joined, joining, results = 0, False, []
    while n_joined < 14 or joining or batch.n_active:
        if not joining and n_joined < 14 and batch.fits(0):
            i, has_context, limit = int(rng.integers(len(prompts))), bool(rng.integers(2)), int(rng.integers(1, LIMIT))
            chosen, shared = (with_context[i], context) if has_context else (prompts[i], ())
            batch.join((n_joined, has_context, i, limit), chosen, limit, shared=shared)
            n_joined, joining = n_joined + 1, True
        if joining:
            joining = not batch.read_on(int(rng.integers(10, 60)))
        if batch.n_active:
            results += batch.run(pause=lambda: bool(rng.integers(3) == 0))
    assert sorted(key[0] for key, _ in results) == list(range(14))
    for (_, has_context, i, limit), found in results:
        assert found.token_ids == expected[has_context][i].token_ids[:limit]


def test_a_watch_ends_its_row_and_no_other(asr: Transcriber, prompts: list[Embedded], alone: list[Generated]) -> None:
    batch: Batch[int] = Batch(asr.decoder, KvCache(asr.decoder.dims, 2, 200), eos=())
    batch.add(0, prompts[0], LIMIT, lambda ids: len(ids) == 5)
    batch.add(1, prompts[1], LIMIT)
    ((first, stopped),) = batch.run()
    ((second, whole),) = batch.run()
    assert (first, stopped.end, stopped.token_ids) == (0, "watch", alone[0].token_ids[:5])
    assert (second, whole.end, whole.token_ids) == (1, "limit", alone[1].token_ids)


@pytest.mark.parametrize("back", [1, 3])
def test_a_denial_ends_its_row_before_it_writes(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], back: int
) -> None:
    """The verdict is that of the position asked for; without it nothing changes."""
    prompt = prompts[0]
    cache = KvCache(asr.decoder.dims, 1, len(prompt))
    denied = int(asr.decoder.extend(cache, 0, prompt[:-back])[0].argmax())
    batch: Batch[str] = Batch(asr.decoder, KvCache(asr.decoder.dims, 2, 400), eos=())
    batch.add("denied", prompt, LIMIT, denial=Denial(back, denied))
    batch.add("heard", prompt, LIMIT, denial=Denial(back, denied + 1))
    results: dict[str, Generated] = {}
    while batch.n_active:
        results.update(batch.run())
    assert (results["denied"].token_ids, results["denied"].logprobs, results["denied"].end) == ((), (), "stop_token")
    assert results["heard"].token_ids == alone[0].token_ids


def test_an_interrupt_stops_after_one_step_and_keeps_what_is_there(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated]
) -> None:
    batch: Batch[int] = Batch(asr.decoder, KvCache(asr.decoder.dims, 2, 200), eos=())
    batch.add(0, prompts[0], LIMIT)
    batch.add(1, prompts[1], LIMIT)
    asked = itertools.count(1)
    results = dict(batch.run(lambda: next(asked) == 4))
    assert next(asked) == 5
    assert [results[i].end for i in (0, 1)] == ["interrupt", "interrupt"]
    assert [results[i].token_ids for i in (0, 1)] == [alone[i].token_ids[:5] for i in (0, 1)]


def test_the_stop_token_is_scored_and_not_kept(asr: Transcriber, prompts: list[Embedded]) -> None:
    written = generate(asr.decoder, [prompts[0]], [LIMIT], eos=())[0]
    stop = written.token_ids[6]
    ended = generate(asr.decoder, [prompts[0]], [LIMIT], eos=[stop])[0]
    at = written.token_ids.index(stop)
    assert ended.end == "stop_token"
    assert ended.token_ids == written.token_ids[:at]
    assert len(ended.logprobs) == at + 1


def test_what_chooses_the_tokens_can_be_replaced(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated]
) -> None:
    """A bias: the first token of a row is never repeated in it, and every other choice is left alone."""
    seen: list[list[int]] = []

    def once(logits: npt.NDArray[np.float32], written: Sequence[Sequence[int]]) -> Choice:
        seen.append([len(ids) for ids in written])
        for row, ids in zip(logits, written, strict=True):
            row[list(ids[:1])] = -np.inf
        return greedy(logits)

    found = generate(asr.decoder, prompts[:2], [LIMIT, LIMIT], eos=(), choose=once)
    for one, plain in zip(found, alone, strict=False):
        first, *rest = one.token_ids
        assert first == plain.token_ids[0]
        assert first not in rest
    assert seen == [[0], [0], *([n, n] for n in range(1, LIMIT))]


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    result: npt.NDArray[np.float64] = wide - np.log(np.exp(wide - wide.max()).sum()) - wide.max()
    return result


def test_log_probabilities_are_those_of_the_logits(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated]
) -> None:
    logits = logits_after(asr.decoder, prompts[1])
    assert alone[1].token_ids[0] == int(logits.argmax())
    assert alone[1].logprobs[0] == pytest.approx(float(log_softmax(logits).max()), abs=1e-5)


@pytest.mark.parametrize("step", [True, False])
@pytest.mark.parametrize("n_logits", [1, 3, 9])
def test_several_positions_on_a_past_equal_single_steps(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], n_logits: int, step: bool
) -> None:
    decoder, prompt = asr.decoder, prompts[2]
    draft = decoder.embeddings.rows(np.array(alone[2].token_ids[:9]))
    single, several = (KvCache(decoder.dims, 1, len(prompt) + 9) for _ in range(2))
    for cache in (single, several):
        decoder.extend(cache, 0, prompt)
    one_by_one = [decoder.extend(single, 0, draft[i : i + 1], len(prompt) + i, step=True)[0] for i in range(len(draft))]
    at_once = decoder.extend(several, 0, draft, len(prompt), n_logits=n_logits, step=step)
    np.testing.assert_allclose(at_once, one_by_one[-n_logits:], rtol=0, atol=1e-4)
    for one, other in zip(single.buffers, several.buffers, strict=True):
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)


def prefix(decoder: Decoder, prompt: Embedded, ids: Sequence[int], capacity: int) -> tuple[KvCache, int]:
    """Return a cache that holds a prompt and all but the last of some ids."""
    cache = KvCache(decoder.dims, 1, capacity)
    whole = np.concatenate([prompt, decoder.embeddings.rows(np.array(ids[:-1], dtype=np.int64))])
    decoder.extend(cache, 0, whole)
    return cache, len(whole)


@pytest.mark.parametrize("room", [1, 100])
@pytest.mark.parametrize("n_given", [1, 8])
def test_a_prefix_is_continued_as_it_was_written(
    asr: Transcriber, prompts: list[Embedded], alone: list[Generated], n_given: int, room: int
) -> None:
    ids = alone[3].token_ids
    cache, length = prefix(asr.decoder, prompts[3], ids[:n_given], len(prompts[3]) + n_given - 1 + room)
    rest = continue_greedy(asr.decoder, cache, length, ids[n_given - 1], LIMIT - n_given, eos=())
    assert rest.token_ids == ids[n_given:]
    assert rest.end == "limit"
    np.testing.assert_allclose(rest.logprobs, alone[3].logprobs[n_given:], atol=1e-4)


def test_a_continuation_can_be_watched(asr: Transcriber, prompts: list[Embedded], alone: list[Generated]) -> None:
    ids = alone[3].token_ids
    cache, length = prefix(asr.decoder, prompts[3], ids[:2], len(prompts[3]) + LIMIT)
    rest = continue_greedy(asr.decoder, cache, length, ids[1], LIMIT, eos=(), watch=lambda new: len(new) == 4)
    assert (rest.token_ids, rest.end) == (ids[2:6], "watch")
