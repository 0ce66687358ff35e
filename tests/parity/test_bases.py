"""Bundles in other bases against transformers: rotation and smoothing are exact in float32, and no token changes.

The expected side is `oracle.py`, as in `test_parity.py`: same checkpoints, same tolerances.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.parity.conftest import BundleMaker, Expectation
from tests.parity.test_parity import FEATURE_TOLERANCE, LOGIT_TOLERANCE, MAX_NEW_TOKENS
from tests.support.checkpoints import SHAPES
from tests.support.clips import synthetic_clip
from tests.support.logits import logits_after

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import parse_recipe

pytest.importorskip("onnx_ir", reason="needs the quantize extra")

pytestmark = pytest.mark.torch

TURNED = 'rotation = true\nencoder_rotation = true\nsmoothing = true\n[step]\nscheme = "fp32"\n'
SECONDS = (0.1, 1.0, 8.01, 30.0)


@pytest.fixture(scope="module", params=SHAPES)
def turned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, bundle: BundleMaker
) -> Iterator[tuple[str, Transcriber]]:
    """A shape's name and its transcriber, every weight of both residual streams turned and every pair smoothed."""
    copy = Path(shutil.copytree(bundle(request.param, "hf"), tmp_path_factory.mktemp("turned") / request.param))
    made = quantize_bundle(copy, parse_recipe(TURNED, "turned", where="test"), threads=1)
    variant = made.manifest.variants["turned"]
    assert {variant.encoder, variant.decoder_init}.isdisjoint({"encoder.onnx", "decoder_init.onnx"})
    with Transcriber(copy, "turned") as asr:
        yield request.param, asr


@pytest.mark.parametrize("seconds", SECONDS)
def test_features_logits_and_ids(turned: tuple[str, Transcriber], seconds: float, expected: Expectation) -> None:
    name, asr = turned
    want = expected(name, seconds)
    (features,) = asr.encoder.encode([want.mel])
    np.testing.assert_allclose(features, want.features, rtol=0, atol=FEATURE_TOLERANCE)
    start = want.prompt_ids.index(SHAPES[name].token_id("<|audio_pad|>"))
    prompt = asr.embeddings.splice(np.array(want.prompt_ids), want.features, start)
    np.testing.assert_allclose(logits_after(asr.decoder, prompt), want.first_logits, rtol=0, atol=LOGIT_TOLERANCE)
    transcript = asr.transcribe(synthetic_clip(seconds), TranscribeOptions(max_new_tokens=MAX_NEW_TOKENS))
    assert transcript.token_ids == want.token_ids
