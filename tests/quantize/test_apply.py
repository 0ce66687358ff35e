"""Whole variants of the checked-in bundle: what is stored, what is shared, what is refused, and how far logits move."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from tests.support.clips import synthetic_clip
from tests.support.graphs import SATURATES, Array
from tests.support.logits import logits_after
from tests.support.manifests import edit_manifest

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle import staging
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.errors import BundleError, LimitError, OptionsError
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx_quantize import apply
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.published import published_recipes
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, load_recipe
from qwen3_asr_onnx_quantize.schemes import Dynamic, Keep, Scheme, Stem, WeightOnly
from qwen3_asr_onnx_quantize.weights.files import WeightFiles
from qwen3_asr_onnx_quantize.weights.pending import Job

INT4, INT8 = WeightOnly("int4", 32), WeightOnly("int8", 32, search=False)


def recipe(name: str, step: Scheme, encoder: Scheme | None = None, init: Scheme | None = None) -> Recipe:
    head = replace(step, exclude=()) if isinstance(step, WeightOnly) else INT8
    return Recipe(name, encoder or Keep(), init or step, step, head)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def tensors(bundle: Path, graph: str) -> dict[str, ir.ExternalTensor]:
    values = ir.load(bundle / graph).graph.initializers.values()
    return {str(v.name): v.const_value for v in values if isinstance(v.const_value, ir.ExternalTensor)}


def add(bundle: Path, *names: str) -> Bundle:
    for name in names:
        quantize_bundle(bundle, load_recipe(name), calibration=heard(load_recipe(name)))
    return Bundle.open(bundle)


def heard(asked: Recipe) -> tuple[Waveform, ...]:
    """Return calibration audio where a recipe needs it."""
    return (synthetic_clip(1.3), synthetic_clip(0.8, 1)) if asked.calibrated else ()


# --- what is stored ---


@pytest.mark.parametrize("name", sorted(published_recipes().keys() - {"fp16"}))  # fp16 is for CUDA: test_half_graph
def test_a_published_variant_loads_verifies_and_transcribes(bundle: Path, name: str) -> None:
    made = add(bundle, name)
    assert list(made.manifest.variants) == ["fp32", name]
    assert made.verify() == []
    # Quantised weights must be rearranged at load.
    assert made.manifest.variants[name].mapped == (("decoder_init.onnx",) if name == "lossless" else ())
    asr = Transcriber(bundle, name, threads=1)
    result = asr.transcribe(synthetic_clip(2.5), TranscribeOptions(max_new_tokens=8))
    assert 1 <= len(result.token_ids) <= 8
    assert (asr.decoder.init is asr.decoder.step) == (name not in ("fast", "lossless"))


@pytest.mark.parametrize("name", sorted(published_recipes()))
def test_no_tensor_is_stored_twice(bundle: Path, name: str) -> None:
    variant = add(bundle, name).manifest.variants[name]
    graphs = dict.fromkeys((variant.encoder, variant.decoder_init, variant.decoder_step))
    places: dict[str, set[tuple[str, int]]] = {}
    used = 0
    seen = set()
    for graph in graphs:
        for key, tensor in tensors(bundle, graph).items():
            place = (str(tensor.location), tensor.offset or 0)
            places.setdefault(key, set()).add(place)
            used += 0 if place in seen else tensor.nbytes
            seen.add(place)
    assert {key for key, where in places.items() if len(where) > 1} == set()
    sizes = sum((bundle / file).stat().st_size for file in variant.weights)
    assert used <= sizes < used + len(seen) * 4096  # nothing but tensors and padding
    # A weight is stored quantised or in float32, not both, unless float32 judges what is drafted.
    twice = {key for key in places if f"{key}.int4" in places or f"{key}.int8" in places}
    assert bool(twice) == (name == "lossless")


def test_prefill_and_step_of_one_scheme_are_the_same_bytes(bundle: Path) -> None:
    add(bundle, "int4")
    assert (bundle / "decoder_init.int4.onnx").read_bytes() == (bundle / "decoder_step.int4.onnx").read_bytes()


def test_fast_names_both_weight_files_and_shares_head_and_norms(bundle: Path) -> None:
    variant = add(bundle, "fast").manifest.variants["fast"]
    assert variant.weights == ("encoder.fast.data", "decoder_weights.fast.data", "decoder_init_weights.fast.data")
    init, step = tensors(bundle, variant.decoder_init), tensors(bundle, variant.decoder_step)
    assert {str(t.location) for t in step.values()} == {"decoder_weights.fast.data"}
    for name in ("lm_head.weight.int4", "lm_head.weight.int4_scales", "residual.rotation"):
        assert (init[name].location, init[name].offset) == (step[name].location, step[name].offset)
    assert {n for n, t in init.items() if t.location == "decoder_init_weights.fast.data"} == {
        *(n for n in init if n.endswith((".int8", ".int8_scales"))),
        "lm_head.weight.gain",  # of what the rescored judge hands out
    }


def test_an_encoder_left_alone_is_the_source_by_name(bundle: Path) -> None:
    variant = quantize_bundle(bundle, recipe("mine", INT4)).manifest.variants["mine"]
    assert variant.encoder == "encoder.onnx"
    assert variant.weights == ("encoder.data", "decoder_weights.mine.data")
    assert not list(bundle.glob("encoder.mine.*"))


def test_a_decoder_left_alone_is_the_source_by_name(bundle: Path) -> None:
    only_encoder = Recipe("mine", Dynamic(reduce_range=SATURATES), Keep(), Keep(), Keep())
    variant = quantize_bundle(bundle, only_encoder).manifest.variants["mine"]
    assert (variant.decoder_init, variant.decoder_step) == ("decoder_init.onnx", "decoder_step.onnx")
    assert variant.mapped == ("decoder_init.onnx", "decoder_step.onnx")
    assert variant.weights == ("decoder_weights.data", "encoder.mine.data")
    Transcriber(bundle, "mine", threads=1).transcribe(synthetic_clip(1.0), TranscribeOptions(max_new_tokens=2))


def test_the_stem_alone_can_be_stored_in_half(bundle: Path) -> None:
    quantize_bundle(bundle, Recipe("mine", Keep(), Keep(), Keep(), Keep(), stem=Stem("fp16")))
    names = tensors(bundle, "encoder.mine.onnx")
    assert "audio_tower.conv2d2.weight.fp16" in names
    assert "audio_tower.conv2d2.bias" in names
    assert relative_rms(encoded(bundle, "mine"), encoded(bundle, "fp32")) < 1e-3


def test_the_stem_can_compute_in_integers(bundle: Path) -> None:
    quantize_bundle(bundle, Recipe("mine", Keep(), Keep(), Keep(), Keep(), stem=Stem("w8a8")))
    names = tensors(bundle, "encoder.mine.onnx")
    assert {"audio_tower.conv2d1.weight.fp16", "audio_tower.conv2d2.weight.int8"} < set(names)
    assert "audio_tower.conv2d2.weight" not in names
    assert 0 < relative_rms(encoded(bundle, "mine"), encoded(bundle, "fp32")) < 0.05


def test_excluded_weights_stay_float32(bundle: Path) -> None:
    quantize_bundle(bundle, recipe("mine", WeightOnly("int4", 32, exclude=("model.layers.1.*", "*.v_proj.weight"))))
    names = tensors(bundle, "decoder_step.mine.onnx")
    assert "model.layers.1.mlp.up_proj.weight" in names
    assert "model.layers.0.self_attn.v_proj.weight" in names
    assert "model.layers.0.self_attn.q_proj.weight.int4" in names


def test_the_same_input_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(bundle, tmp_path / "twin"))
    for name in sorted(published_recipes()):
        made = load_recipe(name)
        quantize_bundle(bundle, made, threads=1, calibration=heard(made))
        quantize_bundle(twin, made, threads=3, calibration=heard(made))
    assert contents(bundle) == contents(twin)


def test_the_manifest_records_recipe_and_inputs(bundle: Path) -> None:
    made = add(bundle, "int4")
    record = made.manifest.variants["int4"].recipe
    assert record["step"]["block"] == load_recipe("int4").to_dict()["step"]["block"]
    assert record["name"] == "int4"
    source = made.manifest.variants["fp32"]
    assert record["inputs"] == {name: made.manifest.files[name].sha256 for name in source.files}


# --- what variants share ---


def test_variants_share_parts_made_alike(bundle: Path) -> None:
    variants = add(bundle, "int4", "int8", "fast").manifest.variants
    assert {variants[name].encoder for name in ("int4", "int8", "fast")} == {"encoder.int4.onnx"}
    assert variants["fast"].decoder_step == "decoder_step.int4.onnx"
    assert variants["fast"].weights == (
        "encoder.int4.data",
        "decoder_weights.int4.data",
        "decoder_init_weights.fast.data",
    )
    sizes = {path.name: path.stat().st_size for path in bundle.iterdir()}
    assert sizes["decoder_init_weights.fast.data"] < sizes["decoder_weights.int8.data"]


def test_sharing_does_not_change_what_a_variant_computes(bundle: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(bundle, tmp_path / "alone"))
    add(bundle, "int4", "fast")
    add(alone, "fast")
    np.testing.assert_array_equal(logits(bundle, "fast"), logits(alone, "fast"))
    np.testing.assert_array_equal(encoded(bundle, "fast"), encoded(alone, "fast"))


def test_a_variant_whose_files_another_needs_is_not_changed(bundle: Path) -> None:
    add(bundle, "int4", "fast")
    before = contents(bundle)
    with pytest.raises(BundleError, match=r"is shared with variant 'fast', which a new 'int4' would change"):
        quantize_bundle(bundle, recipe("int4", INT8, encoder=Dynamic(reduce_range=True)), force=True)
    assert contents(bundle) == before
    same = quantize_bundle(bundle, load_recipe("int4"), force=True)
    assert same.manifest.variants["int4"].decoder_step == "decoder_step.int4.onnx"
    assert same.verify() == []
    assert Transcriber(bundle, "fast", threads=1).variant == "fast"


# --- order, replacement, refusals ---


def test_a_new_variant_is_last_unless_it_shall_be_the_default(bundle: Path) -> None:
    quantize_bundle(bundle, recipe("one", INT8))
    assert list(Bundle.open(bundle).manifest.variants) == ["fp32", "one"]
    quantize_bundle(bundle, recipe("two", INT4), default=True)
    assert list(Bundle.open(bundle).manifest.variants) == ["two", "fp32", "one"]
    assert Transcriber(bundle, threads=1).variant == "two"


def test_an_existing_variant_is_replaced_only_by_force(bundle: Path) -> None:
    quantize_bundle(bundle, recipe("mine", INT4, encoder=Dynamic()))
    before = contents(bundle)
    with pytest.raises(BundleError, match="variant 'mine' exists; pass --overwrite"):
        quantize_bundle(bundle, recipe("mine", INT8))
    assert contents(bundle) == before
    replaced = quantize_bundle(bundle, recipe("mine", INT8), force=True)
    assert replaced.verify() == []
    assert list(replaced.manifest.variants) == ["fp32", "mine"]
    assert replaced.manifest.variants["mine"].recipe["step"]["scheme"] == "int8"
    assert not list(bundle.glob("encoder.mine.*"))  # the new recipe leaves the encoder alone
    assert set(contents(bundle)) == {*replaced.manifest.files, MANIFEST_FILE}


def test_a_bundle_without_float32_is_no_source(bundle: Path) -> None:
    add(bundle, "int4")
    edit_manifest(bundle, lambda body: body["variants"].pop("fp32"))
    with pytest.raises(BundleError, match=r"no float32 variant to quantise from \(it has: int4\)"):
        quantize_bundle(bundle, load_recipe("int8"))


def test_a_pattern_that_matches_nothing_is_refused(bundle: Path) -> None:
    before = contents(bundle)
    with pytest.raises(OptionsError, match=r"\[step\]: exclude pattern 'model.layer.0.\*' matches no weight"):
        quantize_bundle(bundle, recipe("mine", WeightOnly("int4", 32, exclude=("model.layer.0.*",))))
    assert contents(bundle) == before


def test_a_full_disk_is_foreseen(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(LimitError, match=r"bundle: [0-9.]+ MB free, the variant needs [0-9.]+ MB"):
        quantize_bundle(bundle, load_recipe("int4"))


@pytest.mark.parametrize("file", ["decoder_weights.data", "encoder.data", "encoder.onnx", "decoder_step.onnx"])
def test_a_damaged_source_is_found(bundle: Path, file: str) -> None:
    content = bytearray((bundle / file).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / file).write_bytes(content)
    before = contents(bundle)
    with pytest.raises(BundleError, match=rf"{file}: damaged or edited"):
        quantize_bundle(bundle, load_recipe("int4"))
    assert contents(bundle) == before


def test_a_missing_source_file_is_named(bundle: Path) -> None:
    (bundle / "decoder_weights.data").unlink()
    with pytest.raises(BundleError, match=r"decoder_weights\.data: missing"):
        quantize_bundle(bundle, load_recipe("int4"))


# --- interruption ---


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    ("moment", "calls"), [("compute", 2), ("save", 2), ("rename", 3), ("replace", 0), ("replace", 1)]
)
def test_an_interruption_leaves_the_bundle_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, moment: str, calls: int, error: BaseException
) -> None:
    before = contents(bundle)
    fail_after(monkeypatch, moment, calls, error)
    # A full disk is reported with the path that the user gave.
    with pytest.raises(LimitError if isinstance(error, OSError) else KeyboardInterrupt):
        quantize_bundle(bundle, load_recipe("fast"))
    assert contents(bundle) == before
    monkeypatch.undo()
    assert add(bundle, "fast").verify() == []


@pytest.mark.parametrize(
    ("moment", "calls"), [("rename", 0), ("rename", 2), ("replace", 1), ("replace", 3), ("unlink", 0)]
)
def test_an_interrupted_replacement_keeps_the_old_variant(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, moment: str, calls: int
) -> None:
    quantize_bundle(bundle, recipe("mine", INT4, encoder=Dynamic()))
    before = contents(bundle)
    fail_after(monkeypatch, moment, calls, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(bundle, recipe("mine", INT8), force=True)
    monkeypatch.undo()
    made = Bundle.open(bundle)
    assert made.verify() == []
    if moment == "unlink":  # past the point of no return: the new variant is there, and files nobody needs are left
        assert made.manifest.variants["mine"].encoder == "encoder.onnx"
    else:
        assert contents(bundle) == before


def test_a_variant_added_meanwhile_is_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = staging.publish

    def late(*arguments: Any) -> Bundle:
        monkeypatch.undo()
        quantize_bundle(bundle, recipe("other", INT8))
        return publish(*arguments)

    monkeypatch.setattr(apply, "publish", late)
    made = quantize_bundle(bundle, recipe("mine", INT4))
    assert list(made.manifest.variants) == ["fp32", "other", "mine"]
    assert made.verify() == []


# --- how far the numbers move (random weights of width 32: quality is judged elsewhere, order and bounds here) ---


def test_logits_stay_near_float32_and_int8_nearer_than_int4(bundle: Path) -> None:
    add(bundle, "int4", "int8")
    reference = logits(bundle, "fp32")
    distance = {name: relative_rms(logits(bundle, name), reference) for name in ("int4", "int8")}
    # Measured 0.61 and 0.065: sums over 32 weights average nothing out, and random logits have no structure to keep.
    assert distance["int8"] < 0.1
    assert distance["int8"] < 0.2 * distance["int4"]
    assert distance["int4"] < 0.8


def test_finer_blocks_are_nearer(bundle: Path) -> None:
    quantize_bundle(bundle, recipe("coarse", WeightOnly("int4", 128)))
    quantize_bundle(bundle, recipe("fine", WeightOnly("int4", 16)))
    quantize_bundle(bundle, recipe("unsearched", WeightOnly("int4", 16, search=False)))
    reference = logits(bundle, "fp32")
    distance = {n: relative_rms(logits(bundle, n), reference) for n in ("coarse", "fine", "unsearched")}
    assert distance["fine"] < distance["coarse"]


def test_the_encoder_in_8_bits_is_near_float32(bundle: Path) -> None:
    add(bundle, "fast")
    quantize_bundle(bundle, recipe("tensor", INT8, encoder=Dynamic(activations="tensor", reduce_range=SATURATES)))
    reference = encoded(bundle, "fp32")
    assert relative_rms(encoded(bundle, "fast"), reference) < 0.05  # measured 0.022
    assert relative_rms(encoded(bundle, "tensor"), reference) < 0.1


def test_prefill_in_8_bits_is_nearer_than_a_step_in_4(bundle: Path) -> None:
    add(bundle, "int4", "fast")
    reference = logits(bundle, "fp32")
    assert relative_rms(logits(bundle, "fast"), reference) < relative_rms(logits(bundle, "int4"), reference)


def relative_rms(values: Array, reference: Array) -> float:
    return float(np.sqrt(((values - reference) ** 2).mean()) / reference.std())


def logits(bundle: Path, variant: str) -> Array:
    """Return the logits after each of a few random prompts, (prompts, vocab)."""
    asr = Transcriber(bundle, variant, threads=1)
    rng = np.random.default_rng(0)
    hidden = asr.manifest.decoder.hidden
    prompts = [(0.1 * rng.standard_normal((length, hidden))).astype(np.float32) for length in (3, 17, 40)]
    return np.stack([logits_after(asr.decoder, prompt) for prompt in prompts])


def encoded(bundle: Path, variant: str) -> Array:
    asr = Transcriber(bundle, variant, threads=1)
    return asr.encoder.encode([log_mel(synthetic_clip(2.5), asr.manifest.mel)])[0]


def fail_after(monkeypatch: pytest.MonkeyPatch, moment: str, calls: int, error: BaseException) -> None:
    """Make the next call of a kind fail after some that do not."""
    owner, name = {
        "compute": (Job, "compute"),
        "save": (WeightFiles, "add"),
        "rename": (Path, "rename"),
        "replace": (Path, "replace"),
        "unlink": (Path, "unlink"),
    }[moment]
    original = getattr(owner, name)
    count = 0

    def failing(*arguments: Any, **keywords: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls + 1:
            raise error
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, failing)
