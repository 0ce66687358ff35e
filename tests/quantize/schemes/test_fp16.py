"""The float16 variant: made for CUDA, checked here on the CPU provider, where its operators exist too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tests.quantize.test_apply import encoded, logits, relative_rms
from tests.support.clips import synthetic_clip
from tests.support.logits import logits_after
from tests.support.manifests import edit_manifest

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.errors import OptionsError, ProviderError
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe, parse_recipe


@pytest.fixture
def half(bundle: Path) -> Path:
    """The bundle with the variant, which is allowed on the CPU for once."""
    quantize_bundle(bundle, load_recipe("fp16"))
    edit_manifest(bundle, lambda body: body["variants"]["fp16"].update(devices=["cuda", "cpu"]))
    return bundle


def test_it_computes_what_float32_does(half: Path) -> None:
    assert relative_rms(encoded(half, "fp16"), encoded(half, "fp32")) < 0.01
    assert relative_rms(logits(half, "fp16"), logits(half, "fp32")) < 0.02
    with Transcriber(half, "fp16", threads=1) as asr, Transcriber(half, "fp32", threads=1) as full:
        assert asr.manifest.decoder.cache_dtype == "float16"
        assert full.manifest.decoder.cache_dtype == "float32"
        assert asr.transcribe(synthetic_clip(2.5), TranscribeOptions(max_new_tokens=8)).token_ids


def test_weights_and_cache_are_half_and_angles_are_not(half: Path) -> None:
    graph = ir.load(half / "decoder_step.fp16.onnx").graph
    whole = {str(v.name) for v in graph.initializers.values() if v.dtype == ir.DataType.FLOAT}
    assert whole == {"model.inv_freq"}
    types = {str(v.name): v.dtype for v in (*graph.inputs, *graph.outputs)}
    assert {types["inputs_embeds"], types["logits"]} == {ir.DataType.FLOAT}
    assert {t for name, t in types.items() if name.startswith(("past_", "present_"))} == {ir.DataType.FLOAT16}
    size = (half / "decoder_weights.fp16.data").stat().st_size
    assert size < 0.55 * (half / "decoder_weights.data").stat().st_size + 4096 * 40


def test_it_is_for_cuda_alone(bundle: Path) -> None:
    variant = quantize_bundle(bundle, load_recipe("fp16")).manifest.variants["fp16"]
    assert variant.devices == ("cuda",)
    assert variant.cache_dtype == "float16"
    with pytest.raises(ProviderError, match="was made for cuda, not cpu"):
        Transcriber(bundle, "fp16")


@pytest.mark.parametrize(
    "text",
    [
        '[step]\nscheme = "fp16"\n[head]\nscheme = "int8"',
        'rotation = true\n[step]\nscheme = "fp16"',
        '[step]\nscheme = "int4"\n[init]\nscheme = "fp16"',
    ],
)
def test_a_decoder_is_half_throughout_or_not_at_all(text: str) -> None:
    with pytest.raises(OptionsError, match="whole decoder"):
        parse_recipe(text, "mine", where="here")


def test_the_positions_of_a_long_recording_stay_apart(half: Path) -> None:
    """Half precision has no odd numbers beyond 2,048: angles must not be computed in it."""
    with Transcriber(half, "fp16", threads=1) as asr, Transcriber(half, "fp32", threads=1) as full:
        prompt = (0.1 * np.random.default_rng(0).standard_normal((2300, 32))).astype(np.float32)
        found, exact = (logits_after(one.decoder, prompt) for one in (asr, full))
    assert relative_rms(found, exact) < 0.05
