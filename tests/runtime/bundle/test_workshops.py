"""The join of the workshops: what comes out is what export and quantize make one after the other."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="needs the get extra")

from tests.support.clips import synthetic_clip
from tests.support.stored import rewritten

from qwen3_asr_onnx.bundle import workshops
from qwen3_asr_onnx.bundle.workshops import make_variant
from qwen3_asr_onnx.errors import BundleError, LimitError, MissingExtra, OptionsError
from qwen3_asr_onnx_export import stored_file, templates, weights
from qwen3_asr_onnx_export.pipeline import export_checkpoint
from qwen3_asr_onnx_quantize import workshop
from qwen3_asr_onnx_quantize.apply import quantize_into
from qwen3_asr_onnx_quantize.checks import checks
from qwen3_asr_onnx_quantize.recipes.published import published_recipes
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe
from qwen3_asr_onnx_quantize.weights import pending

DATA = Path(__file__).parents[2] / "data"
CHECKPOINT = DATA / "mini-asr"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_package_registers_its_workshops() -> None:
    assert {point.name for point in importlib.metadata.entry_points(group=workshops.GROUP)} == {"export", "quantize"}


@pytest.mark.parametrize("value", ["no_such_package:WORKSHOP", None])
def test_what_is_not_installed_names_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    points = [] if value is None else [EntryPoint("export", value, workshops.GROUP)]
    monkeypatch.setattr(workshops, "entry_points", lambda group: points)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[get\]'"):
        make_variant(CHECKPOINT, tmp_path / "out", "int4")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionsError, match="no recipe 'int5'"):
        make_variant(CHECKPOINT, out, "int5")
    clip = [synthetic_clip(1.0)]
    for keep, calibration in ((False, []), (True, []), (False, clip)):
        with pytest.raises(OptionsError, match="'int4-gptq' is calibrated"):
            make_variant(CHECKPOINT, out, "int4-gptq", keep_float32=keep, calibration=calibration)
    with pytest.raises(OptionsError, match="'int4' is not calibrated"):
        make_variant(CHECKPOINT, out, "int4", calibration=clip)
    with pytest.raises(BundleError, match=r"no config\.json"):
        make_variant(tmp_path, out, "int4")
    assert list(tmp_path.iterdir()) == []


# --- one pass ---


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks take longer than the rest: once is enough."""
    monkeypatch.setattr(workshop, "check_variant", lambda *_: None)


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function: name of a miniature -> its float32 bundle. Read only."""
    folder = tmp_path_factory.mktemp("float32")

    def make(model: str) -> Path:
        if not (folder / model).exists():
            export_checkpoint(DATA / model, folder / model, check=False, name="model")
        return folder / model

    return make


def rounded(bundle: Path, output: Path, recipe: str) -> dict[str, bytes]:
    quantize_into(output, bundle, load_recipe(recipe))
    return contents(output)


@pytest.mark.parametrize("recipe", [name for name in published_recipes() if not load_recipe(name).calibrated])
@pytest.mark.parametrize("model", ["mini-asr", "mini-aligner"])
def test_one_pass_gives_the_bytes_of_export_and_quantize(
    tmp_path: Path, float32: Callable[[str], Path], unchecked: None, model: str, recipe: str
) -> None:
    made = make_variant(DATA / model, tmp_path / "one", recipe, name="model")
    assert made.verify() == []
    assert contents(tmp_path / "one") == rounded(float32(model), tmp_path / "two", recipe)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("model", "storage"),
    [
        ("mini-asr", {"native": True}),
        ("mini-aligner", {"native": True, "precision": "F32"}),
        ("mini-asr", {"precision": "F16", "shards": 3}),
        ("mini-asr", {"precision": "F32"}),
    ],
    ids=str,
)
def test_however_a_checkpoint_is_stored(tmp_path: Path, unchecked: None, model: str, storage: dict[str, Any]) -> None:
    checkpoint = rewritten(DATA / model, tmp_path / "checkpoint", **storage)
    make_variant(checkpoint, tmp_path / "one", "int4", name="model")
    export_checkpoint(checkpoint, tmp_path / "float32", check=False, name="model")
    assert contents(tmp_path / "one") == rounded(tmp_path / "float32", tmp_path / "two", "int4")


def test_weights_larger_than_a_slice(
    tmp_path: Path, float32: Callable[[str], Path], unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rounded(float32("mini-asr"), tmp_path / "two", "fast")
    monkeypatch.setattr(pending, "SLICE_BYTES", 1 << 16)
    monkeypatch.setattr(weights, "SLICE_BYTES", 1 << 17)
    monkeypatch.setattr(stored_file, "READ_BYTES", 1 << 15)
    make_variant(CHECKPOINT, tmp_path / "one", "fast", name="model", threads=3)
    assert contents(tmp_path / "one") == expected


def test_parts_that_stay_float32_are_written(tmp_path: Path, float32: Callable[[str], Path], unchecked: None) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[step]\nscheme = "int8"\nblock = 32\n', encoding="utf-8")
    made = make_variant(CHECKPOINT, tmp_path / "one", str(recipe), name="model")
    assert made.manifest.variants["mine"].encoder == "encoder.onnx"
    assert made.verify() == []
    assert contents(tmp_path / "one") == rounded(float32("mini-asr"), tmp_path / "two", str(recipe))


def test_float32_can_be_kept(tmp_path: Path, float32: Callable[[str], Path]) -> None:
    kept = make_variant(CHECKPOINT, tmp_path / "kept", "int4", keep_float32=True, name="model")
    assert list(kept.manifest.variants) == ["int4", "fp32"]
    assert kept.verify() == []
    alone = rounded(float32("mini-asr"), tmp_path / "alone", "int4")
    del alone["config.json"]
    assert alone.items() <= contents(tmp_path / "kept").items()


def test_a_calibrated_recipe_listens_to_the_float32_that_is_kept(tmp_path: Path, unchecked: None) -> None:
    clips = [synthetic_clip(1.0)]
    made = make_variant(CHECKPOINT, tmp_path / "made", "int4-gptq", keep_float32=True, calibration=clips)
    assert made.manifest.name == "mini-asr"
    assert made.manifest.variants["int4-gptq"].recipe["calibration"]["clips"] == 1


def test_what_is_there_stays_unless_told_otherwise(tmp_path: Path, unchecked: None) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(BundleError, match="exists and is not empty"):
        make_variant(CHECKPOINT, tmp_path / "out", "int4")
    make_variant(CHECKPOINT, tmp_path / "out", "int4", overwrite=True)
    assert "precious" not in contents(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- what can go wrong ---


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("thinker.model.layers.1.mlp.up_proj.weight", np.nan),
        ("thinker.audio_tower.ln_post.bias", np.inf),
        ("thinker.model.embed_tokens.weight", 1e30),
    ],
)
def test_weights_that_are_no_numbers_are_named_and_leave_nothing(tmp_path: Path, tensor: str, value: float) -> None:
    def change(tensors: dict[str, Any]) -> None:
        tensors[tensor] = tensors[tensor].copy()
        tensors[tensor].flat[-1] = value

    checkpoint = rewritten(CHECKPOINT, tmp_path / "checkpoint", precision="F32", change=change)
    with pytest.raises(BundleError, match=re.escape(tensor.removeprefix("thinker."))):
        make_variant(checkpoint, tmp_path / "one", "int4")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pending.Job, "compute", fail)
    with pytest.raises(LimitError if isinstance(error, OSError) else KeyboardInterrupt):
        make_variant(CHECKPOINT, tmp_path / "one", "int4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(LimitError, match=r"MB free, the variant needs"):
        make_variant(CHECKPOINT, tmp_path / "one", "int4")
    assert list(tmp_path.iterdir()) == []


WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "onnxscript", "safetensors", "scipy"):
    sys.modules[name] = None  # as if it were not installed
from pathlib import Path
from qwen3_asr_onnx.bundle.workshops import make_variant
make_variant(Path(sys.argv[1]), Path("out"), "int4", name="model")
"""


def test_none_of_it_needs_torch(tmp_path: Path, float32: Callable[[str], Path]) -> None:
    command = [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(CHECKPOINT)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.stderr == ""
    assert contents(tmp_path / "out") == rounded(float32("mini-asr"), tmp_path / "two", "int4")


def test_a_shape_without_a_template_names_what_tracing_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "qwen3_asr_onnx_export.trace", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[export\]'"):
        make_variant(CHECKPOINT, tmp_path / "out", "int4")


def test_a_failed_check_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MARGIN", 1e-3)
    monkeypatch.setattr(checks, "EXACT", 1e-9)
    for keep in (False, True):
        with pytest.raises(BundleError, match="differ from the checkpoint's"):
            make_variant(CHECKPOINT, tmp_path / "one", "int4", keep_float32=keep)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_with_torch_it_can_be_compared_with_transformers(
    tmp_path: Path, float32: Callable[[str], Path], unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    parity = pytest.importorskip("qwen3_asr_onnx_export.parity")
    make_variant(CHECKPOINT, tmp_path / "compared", "int4", name="model", check=True)
    assert contents(tmp_path / "compared") == rounded(float32("mini-asr"), tmp_path / "plain", "int4")
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    with pytest.raises(BundleError, match="differs from transformers"):
        make_variant(CHECKPOINT, tmp_path / "out", "int4", check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compared", "plain"]
