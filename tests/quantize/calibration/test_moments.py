"""Calibration: moments against those of the whole graph run at once, variants against their uncalibrated twins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tests.support.clips import synthetic_clip
from tests.support.graphs import Array

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx.model.session import import_onnxruntime
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.calibration import moments
from qwen3_asr_onnx_quantize.calibration.moments import Calibration, CalibrationText, calibration_texts
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, parse_recipe
from qwen3_asr_onnx_quantize.schemes.products import constant_products
from qwen3_asr_onnx_quantize.sweep.fidelity import compare, trace_reference
from qwen3_asr_onnx_quantize.weights.derived import ScaledTensor
from qwen3_asr_onnx_quantize.weights.gptq import factor
from qwen3_asr_onnx_quantize.weights.rotation import RotatedTensor, rotation_matrix

CLIPS = tuple(synthetic_clip(seconds, seed) for seed, seconds in enumerate((2.0, 1.3, 0.7, 3.1)))


def recipe(text: str, name: str = "mine") -> Recipe:
    return parse_recipe(text, name, where="test")


CALIBRATED = recipe('rotation = true\nsmoothing = true\n[step]\nscheme = "int4"\nblock = 16\ncalibration = "gptq"\n')


def whole_graph_inputs(graph: Path, texts: list[CalibrationText]) -> dict[str, list[Array]]:
    """Return for each weight the inputs (n, K) of its product, one array per text, the graph run in one piece."""
    model = ir.load(graph)
    products = {str(weight.name): node.inputs[0] for node, weight, _ in constant_products(model)}
    names = list(dict.fromkeys(str(value.name) for value in products.values() if value is not None))
    for value in products.values():
        assert value is not None
        if value not in model.graph.outputs:
            model.graph.outputs.append(value)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    found: dict[str, list[Array]] = {name: [] for name in products}
    for text in texts:
        n = len(text.embeds)
        cache = {
            one.name: np.zeros((1, one.shape[1], n, one.shape[3]), dtype=np.float32)
            for one in session.get_inputs()
            if one.name.startswith("past_")
        }
        outputs = session.run(
            names,
            {
                "inputs_embeds": text.embeds[None],
                "seqlens_k": np.array([n - 1], dtype=np.int32),
                "total_sequence_length": np.array(n, dtype=np.int32),
                "logit_positions": np.arange(n - text.n_scored, n)[None],
                **cache,
            },
        )
        by_name = dict(zip(names, outputs, strict=True))
        for weight, value in products.items():
            assert value is not None
            found[weight].append(by_name[str(value.name)].reshape(-1, by_name[str(value.name)].shape[-1]))
    return found


def parts(bundle: Path) -> tuple[Path, list[CalibrationText], Calibration]:
    opened = Bundle.open(bundle)
    graph = bundle / opened.manifest.variants["fp32"].decoder_step
    texts = calibration_texts(bundle, "fp32", CLIPS[:2], threads=1)
    return graph, texts, Calibration(graph, opened.manifest.decoder, texts, 1)


def test_moments_are_those_of_the_whole_graph(bundle: Path) -> None:
    graph, texts, found = parts(bundle)
    inputs = whole_graph_inputs(graph, texts)
    tensors = {name: value.const_value for name, value in ir.load(graph).graph.initializers.items()}
    # Asked for from the last to the first, every layer but the last is run again: slow, and the same.
    for name in [*inputs, *reversed(inputs)]:
        weights = [np.ones((len(x), 1), dtype=np.float32) for x in inputs[name]]
        if name != "lm_head.weight":
            for text, weight in zip(texts, weights, strict=True):
                weight[-text.n_scored :] = math.sqrt(moments.TEXT_WEIGHT)
        x = np.concatenate([x * weight for x, weight in zip(inputs[name], weights, strict=True)])
        tensor = tensors[name]
        assert tensor is not None
        np.testing.assert_allclose(found.factor(name, tensor), factor(x.T @ x), rtol=2e-2, atol=1e-3)


def test_moments_follow_the_basis_of_the_weight() -> None:
    width = 48
    rng = np.random.default_rng(0)
    gain, rows = (rng.uniform(0.5, 2, width).astype(np.float32) for _ in range(2))
    gain[7] = 0  # silent: its inputs are not seen any more
    x = rng.standard_normal((60, width)).astype(np.float32)
    weight = ir.tensor(np.ones((width, 5), dtype=np.float32))
    turned = (x * np.divide(1, gain, out=np.zeros_like(gain), where=gain != 0)) @ rotation_matrix(width)
    found = RotatedTensor(weight, gain, "in").moments(x.T @ x)
    np.testing.assert_allclose(found, turned.T @ turned, rtol=1e-3, atol=1e-2)
    scaled = RotatedTensor(ScaledTensor(weight, rows, None), None, "out").moments(x.T @ x)
    np.testing.assert_allclose(scaled, (x / rows).T @ (x / rows), rtol=1e-3, atol=1e-2)


def test_what_the_decoder_was_shown_is_what_it_writes(bundle: Path) -> None:
    (text,) = calibration_texts(bundle, "fp32", CLIPS[:1], threads=1)
    with Transcriber(bundle, threads=1) as asr:
        (trace,) = trace_reference(asr, CLIPS[:1], moments.TOKENS_PER_PIECE)
        assert text.n_scored == 1 + len(trace.token_ids)
        written = asr.embeddings.rows(np.array(trace.token_ids, dtype=np.int64))
    np.testing.assert_array_equal(text.embeds[len(text.embeds) - len(trace.token_ids) :], written)


def test_a_calibrated_variant_is_nearer_to_float32(bundle: Path) -> None:
    plain = recipe('rotation = true\nsmoothing = true\n[step]\nscheme = "int4"\nblock = 16\n', "plain")
    quantize_bundle(bundle, plain)
    quantize_bundle(bundle, CALIBRATED, calibration=CLIPS, threads=1)
    manifest = Bundle.open(bundle).manifest
    assert manifest.variants["mine"].recipe["calibration"]["clips"] == len(CLIPS)
    assert manifest.variants["mine"].decoder_step != manifest.variants["plain"].decoder_step
    traces = trace_reference(
        Transcriber(bundle, "fp32", threads=1), [synthetic_clip(2.2, 9), synthetic_clip(1.1, 8)], 24
    )
    calibrated, rounded = (compare(Transcriber(bundle, name, threads=1), traces) for name in ("mine", "plain"))
    assert calibrated.kl_mean < 0.8 * rounded.kl_mean


def test_the_same_bytes_with_any_number_of_threads_and_other_bytes_on_other_audio(bundle: Path) -> None:
    digests = []
    for threads, clips in ((1, CLIPS), (2, CLIPS), (2, CLIPS[:2])):
        quantize_bundle(bundle, CALIBRATED, calibration=clips, threads=threads, force=True)
        manifest = Bundle.open(bundle).manifest
        digests.append([manifest.files[file].sha256 for file in manifest.variants["mine"].weights])
    assert digests[0] == digests[1] != digests[2]


def test_variants_calibrated_on_other_audio_share_no_decoder(bundle: Path) -> None:
    text = '[step]\nscheme = "int4"\nblock = 16\ncalibration = "gptq"\n'
    for name, clips in (("a", CLIPS), ("b", CLIPS), ("c", CLIPS[:2])):
        quantize_bundle(bundle, recipe(text, name), calibration=clips, threads=1)
    steps = {name: variant.decoder_step for name, variant in Bundle.open(bundle).manifest.variants.items()}
    assert steps["a"] == steps["b"] != steps["c"]


def test_refusals(bundle: Path) -> None:
    before = sorted(path.name for path in bundle.iterdir())
    with pytest.raises(OptionsError, match=r"'mine' is calibrated; name audio files with --calibration"):
        quantize_bundle(bundle, CALIBRATED)
    with pytest.raises(OptionsError, match=r"'mine' is calibrated"):
        quantize_bundle(bundle, CALIBRATED, calibration=[np.zeros(0, dtype=np.float32)])
    with pytest.raises(OptionsError, match=r"'plain' is not calibrated; leave --calibration out"):
        quantize_bundle(bundle, recipe('[step]\nscheme = "int4"\n', "plain"), calibration=CLIPS)
    with pytest.raises(OptionsError, match=r"\[encoder\]: calibration is for the decoder"):
        recipe('[encoder]\nscheme = "int4"\ncalibration = "gptq"\n[step]\nscheme = "int4"\n')
    with pytest.raises(OptionsError, match=r'calibration is \'awq\'; give "none" or "gptq"'):
        recipe('[step]\nscheme = "int4"\ncalibration = "awq"\n')
    assert sorted(path.name for path in bundle.iterdir()) == before


def test_a_graph_without_boundaries_says_so(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    model = ir.load(bundle / opened.manifest.variants["fp32"].decoder_step)
    for node in model.graph:
        for value in node.outputs:
            if value.name is not None and value.name.startswith("layer."):
                value.name = f"other.{value.name}"
    ir.save(model, bundle / "other.onnx")
    with pytest.raises(BundleError, match="no layer boundaries"):
        Calibration(bundle / "other.onnx", opened.manifest.decoder, [])


def test_an_interruption_while_it_listens_leaves_the_bundle_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    monkeypatch.setattr(Calibration, "_run_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(bundle, CALIBRATED, calibration=CLIPS, threads=1)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
