"""Variants whose best tokens are scored from the embedding table: exact where it says, in any basis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.logits import logits_after
from tests.support.manifests import edit_manifest

from qwen3_asr_onnx import Bundle, Transcriber
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, parse_recipe
from qwen3_asr_onnx_quantize.schemes import Keep, WeightOnly

HEAD = WeightOnly("int4", 32)


@pytest.mark.parametrize("rotation", [False, True])
def test_the_best_tokens_get_the_logits_of_float32(bundle: Path, rotation: bool) -> None:
    """With only the head rounded, the exact logits are those of the float32 variant."""
    plain = Recipe("plain", Keep(), Keep(), Keep(), HEAD, rotation=rotation)
    quantize_bundle(bundle, plain)
    made = quantize_bundle(bundle, replace(plain, name="exact", rescoring=True))
    rescored = made.manifest.variants["exact"].rescored
    prompt = (0.1 * np.random.default_rng(0).standard_normal((9, 32))).astype(np.float32)
    found = {}
    for name in ("fp32", "plain", "exact"):
        with Transcriber(bundle, name, threads=1) as asr:
            found[name] = logits_after(asr.decoder, prompt)
    best = np.argsort(found["plain"])[-rescored:]
    np.testing.assert_allclose(found["exact"][best], found["fp32"][best], rtol=2e-3, atol=2e-3)  # the table is FP16
    assert np.abs(found["plain"][best] - found["fp32"][best]).max() > 0.01
    others = np.setdiff1d(np.arange(len(found["plain"])), best)
    np.testing.assert_allclose(found["exact"][others], found["plain"][others], rtol=1e-4, atol=1e-5)


def test_steps_are_rescored_too(bundle: Path) -> None:
    quantize_bundle(bundle, Recipe("exact", Keep(), Keep(), Keep(), HEAD, rescoring=True))
    prompt = (0.1 * np.random.default_rng(1).standard_normal((9, 32))).astype(np.float32)
    ids = {}
    for name in ("fp32", "exact"):
        with Transcriber(bundle, name, threads=1) as asr:
            ids[name] = generate(asr.decoder, [prompt], [12], eos=())[0].token_ids
    assert ids["exact"] == ids["fp32"]


def test_a_head_of_its_own_cannot_be_rescored(bundle: Path) -> None:
    edit_manifest(bundle, lambda body: body["source"].update(tied_head=False))
    with pytest.raises(OptionsError, match="rescoring would be wrong"):
        quantize_bundle(bundle, Recipe("exact", Keep(), Keep(), Keep(), HEAD, rescoring=True))


def test_it_is_off_unless_asked_for() -> None:
    assert not parse_recipe('[step]\nscheme = "int4"', "x", where="here").rescoring
    assert parse_recipe('rescoring = true\n[step]\nscheme = "int4"', "x", where="here").rescoring


def test_where_it_suits_the_head_and_only_there(bundle: Path) -> None:
    """A head of its own is no reason to refuse a recipe that says "tied", and an aligner has one."""
    recipe = Recipe("where", Keep(), Keep(), Keep(), HEAD, rescoring="tied")
    assert quantize_bundle(bundle, recipe).manifest.variants["where"].rescored
    edit_manifest(bundle, lambda body: body["source"].update(tied_head=False))
    made = quantize_bundle(bundle, recipe, force=True).manifest.variants["where"]
    assert not made.rescored
    assert made.recipe["rescoring"] is False
    with Transcriber(bundle, "where", threads=1) as asr:
        assert not asr.decoder.rescored


def test_a_draft_is_not_rescored_and_shares_the_graph_of_one_that_is_not(bundle: Path) -> None:
    judge = WeightOnly("int8", 32)
    quantize_bundle(bundle, Recipe("plain", Keep(), HEAD, HEAD, HEAD))
    made = quantize_bundle(bundle, Recipe("checked", Keep(), judge, HEAD, HEAD, rescoring=True, verified=True))
    plain, checked = (made.manifest.variants[name] for name in ("plain", "checked"))
    assert checked.decoder_step == plain.decoder_step != checked.decoder_init
    quantize_bundle(bundle, Recipe("exact", Keep(), HEAD, HEAD, HEAD, rescoring=True))
    assert Bundle.open(bundle).manifest.variants["exact"].decoder_step != plain.decoder_step
    for name in ("plain", "checked", "exact"):
        with Transcriber(bundle, name, threads=1) as asr:
            prompt = (0.1 * np.random.default_rng(1).standard_normal((9, 32))).astype(np.float32)
            assert len(generate(asr.decoder, [prompt], [12], eos=())[0].token_ids) == 12


@pytest.mark.parametrize("value", ['"always"', "1", '""'])
def test_no_other_word_is_known(value: str) -> None:
    with pytest.raises(OptionsError, match='true or false or "tied"'):
        parse_recipe(f'rescoring = {value}\n[step]\nscheme = "int4"', "x", where="here")
