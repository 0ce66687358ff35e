"""The check of a finished variant: passed by what is rounded, failed by what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.workshops import Float32Source
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.loading import load_model
from qwen3_asr_onnx_export.streamed import streamed_bundle
from qwen3_asr_onnx_quantize.apply import quantize_streamed
from qwen3_asr_onnx_quantize.checks.checks import built_in_clip, check_variant
from qwen3_asr_onnx_quantize.checks.reference import encode
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, load_recipe, parse_recipe

DATA = Path(__file__).parents[1] / "data"
FAST = load_recipe("fast")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Float32Source]:
    with streamed_bundle(DATA / "mini-asr", tmp_path_factory.mktemp("small")) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(source: Float32Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant `fast` of the miniature: integer products, 4 bits, and two decoder graphs. Read only."""
    folder = tmp_path_factory.mktemp("made")
    quantize_streamed(folder, source, FAST)
    check_variant(folder, source, FAST, 1)
    return folder


def spoil(bundle: Path, graph: str, name: str) -> None:
    """Turn the numbers of one stored tensor around."""
    tensor = ir.load(bundle / graph).graph.initializers[name].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    file = bundle / str(tensor.location)
    data = np.fromfile(file, np.uint8)
    part = slice(tensor.offset or 0, (tensor.offset or 0) + tensor.nbytes)
    data[part] = data[part][::-1]
    data.tofile(file)


@pytest.mark.parametrize(
    ("graph", "name", "what"),
    [
        ("encoder.fast.onnx", "audio_tower.layers.2.fc1.weight.int8", "features"),
        ("encoder.fast.onnx", "audio_tower.conv2d2.weight.int8", "features"),
        ("encoder.fast.onnx", "audio_tower.proj2.weight.int8_scales", "features"),
        ("decoder_init.fast.onnx", "model.layers.0.mlp.down_proj.weight.int8", "first layer"),
        ("decoder_step.fast.onnx", "model.layers.0.self_attn.v_proj.weight.int4", "first layer"),
    ],
)
def test_a_wrong_weight_is_found(
    made: Path, source: Float32Source, tmp_path: Path, graph: str, name: str, what: str
) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    spoil(copy, graph, name)
    with pytest.raises(BundleError, match=rf"{graph}: its {what} differ from the checkpoint's by \S+%, and rounding"):
        check_variant(copy, source, FAST, 1)


def test_weights_of_another_checkpoint_are_found(made: Path, tmp_path: Path) -> None:
    """Both miniatures have the same shapes."""
    with (
        streamed_bundle(DATA / "mini-aligner", tmp_path) as other,
        pytest.raises(BundleError, match="its features differ"),
    ):
        check_variant(made, other, FAST, 1)


def test_what_answers_with_no_numbers_is_found(made: Path, source: Float32Source, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    model = ir.load(copy / "decoder_step.fast.onnx")
    tensor = model.graph.initializers["lm_head.weight.int4_scales"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    data = np.fromfile(copy / str(tensor.location), np.float16)
    data[(tensor.offset or 0) // 2 : ((tensor.offset or 0) + tensor.nbytes) // 2] = np.inf
    data.tofile(copy / str(tensor.location))
    with pytest.raises(BundleError, match="are not numbers"):
        check_variant(copy, source, FAST, 1)


@pytest.mark.parametrize("recipe", ["fp16", '[step]\nscheme = "int8"\n', 'smoothing = true\n[step]\nscheme = "fp32"\n'])
def test_other_recipes_pass(source: Float32Source, tmp_path: Path, recipe: str) -> None:
    parsed: Recipe = load_recipe(recipe) if recipe == "fp16" else parse_recipe(recipe, "mine", where="test")
    quantize_streamed(tmp_path, source, parsed)
    check_variant(tmp_path, source, parsed, 1)


def test_an_aligner_passes(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "made").mkdir()
    with streamed_bundle(DATA / "mini-aligner", tmp_path / "small") as aligner:
        quantize_streamed(tmp_path / "made", aligner, load_recipe("compact"))
        check_variant(tmp_path / "made", aligner, load_recipe("compact"), 1)


def test_numpy_s_encoder_is_the_float32_graph_s(mini_bundle: Path, source: Float32Source) -> None:
    """So small is the difference that every wrong step would show."""
    manifest = Bundle.open(mini_bundle).manifest
    model = load_model(mini_bundle, "fp32", "cpu", 1)
    mel = log_mel(np.tile(built_in_clip(), 3), manifest.mel)
    (found,) = model.encoder.encode([mel])
    expected = encode(source, manifest.encoder, mel)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
