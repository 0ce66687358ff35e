"""Our bundle against transformers: mel, encoder, logits within tolerance, greedy token ids exactly equal.

The expected side is `oracle.py`; the checkpoints are made by `tests/checkpoints.py`. Neither touches our code.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from tests.parity.conftest import BundleMaker, CheckpointMaker, Expectation, TranscriberMaker
from tests.parity.oracle import CLIP_SECONDS, reference, synthetic_clip
from tests.support.checkpoints import SHAPES, Layout
from tests.support.logits import logits_after

from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.transcriber import Transcriber

pytestmark = pytest.mark.torch

MAX_NEW_TOKENS = 24

WHOLE = 1200.0
"""Seconds given to the model at once: no clip is cut, as none is by the oracle."""

LAYOUTS: tuple[Layout, ...] = ("original", "hf")

# Absolute. The features' deviation is about 0.7, the logits' about 3.
MEL_TOLERANCE = 1e-4
FEATURE_TOLERANCE = 1e-3
LOGIT_TOLERANCE = 2e-3


@pytest.mark.parametrize("seconds", CLIP_SECONDS)
def test_mel(seconds: float, expected: Expectation) -> None:
    mel = log_mel(synthetic_clip(seconds))

    np.testing.assert_allclose(mel, expected("grouped", seconds).mel, rtol=0, atol=MEL_TOLERANCE)


@pytest.mark.parametrize("seconds", CLIP_SECONDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHAPES)
def test_features_logits_and_ids(
    name: str, layout: Layout, seconds: float, transcriber: TranscriberMaker, expected: Expectation
) -> None:
    asr = transcriber(name, layout)
    want = expected(name, seconds)

    (features,) = asr.encoder.encode([want.mel])
    np.testing.assert_allclose(features, want.features, rtol=0, atol=FEATURE_TOLERANCE)

    ids = np.array(want.prompt_ids)
    start = want.prompt_ids.index(SHAPES[name].token_id("<|audio_pad|>"))
    prompt = asr.embeddings.splice(ids, want.features, start)
    np.testing.assert_allclose(logits_after(asr.decoder, prompt), want.first_logits, rtol=0, atol=LOGIT_TOLERANCE)

    options = TranscribeOptions(max_new_tokens=MAX_NEW_TOKENS, max_segment_s=WHOLE)
    transcript = asr.transcribe(synthetic_clip(seconds), options)
    assert transcript.token_ids == want.token_ids
    assert (transcript.stop_reason == "length") == (not want.stopped)


@pytest.fixture(scope="module")
def lossless(bundle: BundleMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranscriberMaker]:
    """Return a function (shape name, layout) -> loaded transcriber: four bits draft, float32 judges."""
    pytest.importorskip("onnx_ir", reason="needs the quantize extra")
    from qwen3_asr_onnx_quantize.apply import quantize_bundle
    from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

    loaded: dict[tuple[str, Layout], Transcriber] = {}

    def load(name: str, layout: Layout) -> Transcriber:
        if (name, layout) not in loaded:
            copy = tmp_path_factory.mktemp("lossless") / name
            shutil.copytree(bundle(name, layout), copy)
            quantize_bundle(copy, load_recipe("lossless"), threads=1)
            loaded[name, layout] = Transcriber(copy, "lossless")
        return loaded[name, layout]

    yield load
    for one in loaded.values():
        one.close()


@pytest.mark.parametrize("seconds", CLIP_SECONDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SHAPES)
def test_ids_of_lossless(
    name: str, layout: Layout, seconds: float, lossless: TranscriberMaker, expected: Expectation
) -> None:
    asr = lossless(name, layout)
    assert asr.decoder.verified
    options = TranscribeOptions(max_new_tokens=MAX_NEW_TOKENS, max_segment_s=WHOLE)
    transcript = asr.transcribe(synthetic_clip(seconds), options)
    assert transcript.token_ids == expected(name, seconds).token_ids


@pytest.mark.parametrize("name", SHAPES)
def test_a_batch_of_mixed_lengths(
    name: str, transcriber: TranscriberMaker, lossless: TranscriberMaker, expected: Expectation
) -> None:
    clips = [synthetic_clip(seconds) for seconds in CLIP_SECONDS]
    options = TranscribeOptions(max_new_tokens=MAX_NEW_TOKENS, batch_size=len(clips), max_segment_s=WHOLE)

    for make in (transcriber, lossless):
        transcripts = list(make(name, "original").transcribe_many(clips, options))
        assert [t.token_ids for t in transcripts] == [expected(name, seconds).token_ids for seconds in CLIP_SECONDS]


@pytest.mark.parametrize("name", ["grouped", "realvocab"])
def test_context_and_language(name: str, transcriber: TranscriberMaker, checkpoint: CheckpointMaker) -> None:
    clip = synthetic_clip(1.0, seed=1)
    context = "\nAnna, Ben 交易 停滞 "
    want = reference(checkpoint(name, "hf"), clip, context, "German", MAX_NEW_TOKENS)
    options = TranscribeOptions(context=context, language="de", max_new_tokens=MAX_NEW_TOKENS)

    assert transcriber(name, "hf").transcribe(clip, options).token_ids == want.token_ids
