"""Drafts that hold or not: counted where a model decides, and played back where the weights are random."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.choosing import Chooser
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx_eval.bench.drafts import TOKENS, Observed, Replay, rejected_places

LIMIT = 100


class Judged(Decoder):
    """The checked-in decoder, its own judge by another session."""

    def __init__(self, real: Decoder) -> None:
        super().__init__(real.init, real.step, real.embeddings, real.dims, tuple(real.eos))
        self.verified = True


@pytest.fixture(scope="module")
def asr(tiny_bundle: Path) -> Transcriber:
    return Transcriber(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def prompt(asr: Transcriber) -> Embedded:
    return Prompter(asr).embed(hear(asr, [synthetic_clip(2.0)])[0][0])


@pytest.mark.parametrize(
    ("places", "n_passes"),
    [
        ([], 3),
        ([50], 3),
        ([5], 3),
        ([1], 3),
        ([99], 3),
        ([98, 99], 3),
        ([20, 30, 60], 4),
        ([10, 20, 30], 5),
        ([10, 11, 12, 13], 6),
    ],
)
def test_a_draft_is_judged_again_behind_every_place_where_it_does_not_hold(
    asr: Transcriber, prompt: Embedded, places: list[int], n_passes: int
) -> None:
    replay = Replay(places, verified=True)
    (result,) = generate(Judged(asr.decoder), [prompt], [LIMIT], eos=(), choose=replay)
    assert list(result.token_ids) == list(range(TOKENS, TOKENS + LIMIT))
    assert result.n_passes == n_passes


def test_without_a_judge_nothing_is_wrong(asr: Transcriber, prompt: Embedded) -> None:
    replay = Replay([3], verified=False)
    (result,) = generate(asr.decoder, [prompt], [10], eos=(), choose=replay)
    assert list(result.token_ids) == list(range(TOKENS, TOKENS + 10))


def test_places_are_as_many_as_expected_and_the_same_for_a_seed() -> None:
    counts = [len(rejected_places(1000, seed, 0.02)) for seed in range(50)]
    assert 18 < sum(counts) / 50 < 22
    assert rejected_places(100, 3, 0.1) == rejected_places(100, 3, 0.1) != rejected_places(100, 4, 0.1)
    assert not rejected_places(100, 3, 0.0)


@pytest.mark.parametrize(("places", "n_tokens"), [([], 58), ([5], 58), ([1, 2, 40], 59)])
def test_what_is_played_back_is_what_is_counted(
    asr: Transcriber, prompt: Embedded, places: list[int], n_tokens: int
) -> None:
    seen, replay = Observed(), Replay(places, verified=True)

    def both(logits: object, written: object) -> object:
        tokens, logprobs = replay(logits, written)  # type: ignore[arg-type]
        logits[range(len(tokens)), tokens] = 1e3  # type: ignore[index]
        seen(logits, written)  # type: ignore[arg-type]
        return tokens, logprobs

    choose: Chooser = both  # type: ignore[assignment]
    (result,) = generate(Judged(asr.decoder), [prompt], [60], eos=(), choose=choose)
    assert seen.n_drafts == result.n_passes
    assert seen.n_drafts - seen.n_whole == len(seen.held) == len(places)
    assert seen.n_tokens == n_tokens  # nobody drafts the first one, nor the one behind a draft that holds
    assert all(0 <= share < 1 for share in seen.held)
