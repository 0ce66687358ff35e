"""The oracle checked against itself, so that a match with it means something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tests.parity.conftest import CheckpointMaker, Expectation
from tests.parity.oracle import CLIP_SECONDS, generate, prompt_ids, synthetic_clip
from tests.support.checkpoints import (
    SHAPES,
    CheckpointOptions,
    make_aligner,
    make_checkpoint,
    native_model,
    to_original_name,
)
from transformers import AutoTokenizer

pytestmark = pytest.mark.torch

# Float32 sums in another order move these logits by some 1e-5; a choice closer than that would be a coin toss.
LEAST_MARGIN = 2e-3

AUDIO_TOKENS = {0.1: 7, 0.99: 13, 1.0: 13, 7.99: 104, 8.01: 105, 30.0: 390, 70.0: 910}
"""Worked by hand: 13 per full second, then one per started 8 frames; 0.1 s is padded to 50 frames."""


@pytest.mark.parametrize("name", SHAPES)
def test_choices_are_clear_and_varied(name: str, expected: Expectation) -> None:
    results = [expected(name, seconds) for seconds in CLIP_SECONDS]

    assert min(float(result.margins.min()) for result in results) > LEAST_MARGIN
    assert len({result.token_ids for result in results}) == len(CLIP_SECONDS), "different audio, different output"
    assert any(result.stopped for result in results)
    assert not all(result.stopped for result in results)
    assert np.mean([len(set(result.token_ids)) / len(result.token_ids) for result in results]) > 0.4


@pytest.mark.parametrize("seconds", CLIP_SECONDS)
def test_audio_token_counts(seconds: float, expected: Expectation) -> None:
    result = expected("grouped", seconds)

    assert len(result.features) == AUDIO_TOKENS[seconds]
    assert result.prompt_ids.count(SHAPES["grouped"].token_id("<|audio_pad|>")) == AUDIO_TOKENS[seconds]
    assert result.mel.shape == (128, max(50, int(seconds * 100)))


def test_the_loop_is_what_generate_does(checkpoint: CheckpointMaker, expected: Expectation) -> None:
    for name in ("multihead", "threefold"):
        for seconds in (0.1, 8.01):
            directory = checkpoint(name, "hf")
            assert generate(directory, synthetic_clip(seconds)) == expected(name, seconds).token_ids


def test_prompt_has_the_published_ids(checkpoint: CheckpointMaker) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("realvocab", "hf"))
    head = (151644, 8948, 198, 151645, 198, 151644, 872, 198, 151669)
    tail = (151670, 151645, 198, 151644, 77091, 198)

    assert prompt_ids(tokenizer, 3) == (*head, *[151676] * 3, *tail)
    assert prompt_ids(tokenizer, 1, language="English")[-3:] == (11528, 6364, 151704)
    assert prompt_ids(tokenizer, 1, context="交易 停滞")[3:8] == (99886, 4891, 223, 250, 101742)


def test_signals_differ_in_every_second() -> None:
    clip = synthetic_clip(70.0)
    levels_db = 20 * np.log10(np.sqrt(np.mean(clip.reshape(70, -1) ** 2, axis=1)))

    assert np.abs(clip).max() <= 1
    assert levels_db.max() - levels_db.min() > 15
    assert np.array_equal(clip, synthetic_clip(70.0))


def test_original_layout_holds_the_same_values(tmp_path: Path, checkpoint: CheckpointMaker) -> None:
    state = native_model(SHAPES["grouped"]).state_dict()

    stored = load_file(checkpoint("grouped", "original") / "model.safetensors")

    assert {to_original_name(name) for name in state} == set(stored)
    for name, value in state.items():
        assert stored[to_original_name(name)].float().equal(value), name


@pytest.mark.parametrize("layout", ["original", "hf"])
def test_shards_and_storage_hold_the_same_values(tmp_path: Path, layout: str) -> None:
    options = CheckpointOptions(layout="hf" if layout == "hf" else "original", storage="float32", shards=3)
    directory = make_checkpoint(tmp_path / "sharded", SHAPES["multiquery"], options)

    files = sorted(directory.glob("model-*.safetensors"))
    stored = {name: value for file in files for name, value in load_file(file).items()}

    assert len(files) >= 3
    assert (directory / "model.safetensors.index.json").exists()
    for name, value in native_model(SHAPES["multiquery"]).state_dict().items():
        if layout == "hf" and name == "lm_head.weight":
            continue
        assert stored[name if layout == "hf" else to_original_name(name)].equal(value), name


def test_aligner_has_its_own_head(tmp_path: Path) -> None:
    stored = load_file(make_aligner(tmp_path / "aligner", SHAPES["grouped"]) / "model.safetensors")

    assert stored["thinker.lm_head.weight"].shape == (50, SHAPES["grouped"].hidden)
