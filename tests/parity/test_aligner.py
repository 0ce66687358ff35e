"""Aligner bundles against transformers: the class at every slot identical, whatever the shape, length and language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import load_golden
from tests.parity.oracle import slot_logits, synthetic_clip
from tests.support.checkpoints import SHAPES, Layout, make_aligner

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.alignment.prompt import encode_units

pytestmark = pytest.mark.torch

NAMES = ("grouped", "multiquery", "multihead")
CLASSES = 2200
CASES = [(0.5, "English"), (3.3, "Chinese"), (8.01, "Korean"), (61.7, "Russian"), (170.0, "German")]

# The float32 sums of the two sides differ by some 1e-5; a choice closer than that would be a coin toss.
LEAST_MARGIN = 5e-5
TOLERANCE = 2e-3

AlignerMaker = Callable[[str, Layout], tuple[Aligner, Path]]


def units_of(language: str) -> list[str]:
    """Return the units of all the language's golden texts: the official package's, not ours."""
    cases = load_golden("official_alignment.json")["segmentation"]
    return [unit for case in cases if case["language"] == language for unit in case["units"]]


@pytest.fixture(scope="module")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlignerMaker]:
    from tests.support.traces import traced_once

    from qwen3_asr_onnx_export.pipeline import export_checkpoint

    root = tmp_path_factory.mktemp("aligners")
    made: dict[tuple[str, Layout], tuple[Aligner, Path]] = {}

    def make(name: str, layout: Layout) -> tuple[Aligner, Path]:
        if (name, layout) not in made:
            checkpoint = make_aligner(root / f"{name}-{layout}-checkpoint", SHAPES[name], CLASSES, layout)
            with traced_once(tmp_path_factory):
                bundle = export_checkpoint(checkpoint, root / f"{name}-{layout}", check=False)
            made[name, layout] = Aligner(bundle), checkpoint
        return made[name, layout]

    yield make
    for one, _ in made.values():
        one.close()


@pytest.mark.parametrize(("seconds", "language"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_the_class_at_every_slot_is_that_of_transformers(
    name: str, seconds: float, language: str, aligner: AlignerMaker
) -> None:
    ours, _ = aligner(name, "original")
    _, native = aligner(name, "hf")
    clip, units = synthetic_clip(seconds), units_of(language)

    expected = slot_logits(native, clip, units)
    (answers,) = ours.answer([clip], [encode_units(ours.tokenizer, units)])

    best = np.sort(expected, axis=-1)
    assert (best[:, -1] - best[:, -2]).min() > LEAST_MARGIN
    assert len(set(expected.argmax(axis=-1).tolist())) > 3, "different slots, different answers"
    assert answers.classes.tolist() == expected.argmax(axis=-1).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_both_layouts_give_one_aligner(name: str, aligner: AlignerMaker) -> None:
    original, native = aligner(name, "original")[0], aligner(name, "hf")[0]
    clip, units = synthetic_clip(3.3), encode_units(original.tokenizer, units_of("French"))

    assert original.manifest.timestamps == native.manifest.timestamps
    for one, other in zip(original.answer([clip], [units]), native.answer([clip], [units]), strict=True):
        assert np.array_equal(one.classes, other.classes)
        assert np.array_equal(one.probabilities, other.probabilities)


def test_probabilities_are_those_of_transformers(aligner: AlignerMaker) -> None:
    ours, native = aligner("grouped", "original")[0], aligner("grouped", "hf")[1]
    clip, units = synthetic_clip(3.3), units_of("Spanish")
    logits = slot_logits(native, clip, units).astype(np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax = weights / weights.sum(axis=-1, keepdims=True)
    best = logits.argmax(axis=-1)
    expected = [softmax[i, max(c - 1, 0) : c + 2].sum() for i, c in enumerate(best)]

    (answers,) = ours.answer([clip], [encode_units(ours.tokenizer, units)])

    np.testing.assert_allclose(answers.probabilities, expected, rtol=0, atol=TOLERANCE)


def test_a_batch_answers_as_each_alone(aligner: AlignerMaker) -> None:
    ours, _ = aligner("grouped", "original")
    clips = [synthetic_clip(seconds) for seconds in (0.5, 9.2, 3.3)]
    units = [encode_units(ours.tokenizer, units_of(language)) for language in ("English", "Italian", "Portuguese")]

    for clip, ids, together in zip(clips, units, ours.answer(clips, units), strict=True):
        (alone,) = ours.answer([clip], [ids])
        assert np.array_equal(alone.classes, together.classes)


def test_later_words_change_nothing_before_them(aligner: AlignerMaker) -> None:
    """What windows of long audio rest on: the decoder is causal."""
    ours, _ = aligner("multihead", "original")
    clip, units = synthetic_clip(9.2), encode_units(ours.tokenizer, units_of("English"))

    (whole,), (part,) = ours.answer([clip], [units]), ours.answer([clip], [units[:40]])

    assert np.array_equal(whole.classes[:80], part.classes)
