from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the export extra")

import torch
from safetensors.torch import load_file, save_file
from tests.support.checkpoints import SHAPES, CheckpointOptions, Defect, make_aligner, make_checkpoint

from qwen3_asr_onnx.bundle.manifest import TimestampHead
from qwen3_asr_onnx.bundle.names import HEAD
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_export.checkpoint import EMBED, Checkpoint

pytestmark = pytest.mark.torch

SHAPE = SHAPES["grouped"]
Config = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("sound") / "original", SHAPE, CheckpointOptions())


@pytest.fixture
def original(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound checkpoint in the original layout, to damage."""
    return Path(shutil.copytree(sound, tmp_path / "original"))


def edit(checkpoint: Path, change: Callable[[Config], object], name: str = "config.json") -> None:
    path = checkpoint / name
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_both_layouts_say_the_same(sound: Path, tmp_path: Path) -> None:
    native = Checkpoint.open(make_checkpoint(tmp_path / "native", SHAPE, CheckpointOptions(layout="hf")))
    original = Checkpoint.open(sound)
    assert (original.layout, native.layout) == ("original", "native")
    assert original.encoder == native.encoder
    assert original.decoder == native.decoder
    assert (original.audio_token, original.eos_tokens) == (native.audio_token, native.eos_tokens)
    assert original.tied
    assert native.tied
    for name in native.tensors:
        assert torch.equal(original.read(name), native.read(name)), name


def test_dimensions_are_the_config_s(sound: Path) -> None:
    checkpoint = Checkpoint.open(sound)
    assert checkpoint.decoder.layers == SHAPE.layers
    assert checkpoint.decoder.head_dim == SHAPE.head_dim
    assert checkpoint.decoder.rope_theta == SHAPE.rope_theta
    assert checkpoint.encoder.d_model == SHAPE.d_model
    assert checkpoint.encoder.output_dim == SHAPE.hidden
    assert checkpoint.audio_token == SHAPE.token_id("<|audio_pad|>")
    assert set(checkpoint.eos_tokens) == {SHAPE.token_id("<|endoftext|>"), SHAPE.token_id("<|im_end|>")}


@pytest.mark.parametrize(
    "options",
    [
        CheckpointOptions(shards=3),
        CheckpointOptions(storage="float32"),
        CheckpointOptions(head="embed"),
        CheckpointOptions(layout="hf", shards=2),
    ],
    ids=str,
)
def test_every_way_of_storing_gives_the_same_tensors(sound: Path, tmp_path: Path, options: CheckpointOptions) -> None:
    expected = Checkpoint.open(sound)
    found = Checkpoint.open(make_checkpoint(tmp_path / "other", SHAPE, options))
    found.verify_tied_head()
    for name in (EMBED, HEAD, "audio_tower.proj2.bias", "model.layers.1.mlp.down_proj.weight"):
        assert torch.equal(found.read(name).float(), expected.read(name).float()), name
    assert torch.equal(found.read_rows(EMBED, 3, 7).float(), expected.read(EMBED)[3:7].float())


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("missing_tensor", r"1 tensors missing, first: \S+; download it again"),
        ("wrong_shape", r"\S+ has shape \[[\d, ]+\], config\.json implies \[[\d, ]+\]"),
        ("unknown_architecture", r"model_type is '\w+'; this exporter knows 'qwen3_asr'"),
    ],
)
def test_defects_are_named(tmp_path: Path, defect: Defect, message: str) -> None:
    directory = make_checkpoint(tmp_path / "bad", SHAPE, CheckpointOptions(defect=defect))
    with pytest.raises(BundleError, match=message):
        Checkpoint.open(directory)


def test_both_layouts_of_an_aligner_say_the_same(tmp_path: Path) -> None:
    original = Checkpoint.open(make_aligner(tmp_path / "original", SHAPE))
    native = Checkpoint.open(make_aligner(tmp_path / "native", SHAPE, layout="hf"))
    assert original.timestamps == native.timestamps == TimestampHead(50, 80, SHAPE.timestamp_id)
    assert (original.decoder, original.encoder) == (native.decoder, native.encoder)
    assert original.languages == native.languages
    assert len(original.languages) == 11
    assert not original.tied
    assert original.head_rows == native.head_rows == 50
    assert set(original.tensors) == set(native.tensors)
    for name in native.tensors:
        assert torch.equal(original.read(name), native.read(name)), name


def test_a_recogniser_has_no_time_classes(sound: Path) -> None:
    assert Checkpoint.open(sound).timestamps is None


def test_an_aligner_without_its_class_count_is_damaged(tmp_path: Path) -> None:
    directory = make_aligner(tmp_path / "aligner", SHAPE)
    edit(directory, lambda config: config["thinker_config"].pop("classify_num"))
    with pytest.raises(BundleError, match="classify_num"):
        Checkpoint.open(directory)


def test_a_head_of_another_width_is_named(tmp_path: Path) -> None:
    directory = make_aligner(tmp_path / "aligner", SHAPE)
    edit(directory, lambda config: config["thinker_config"].update(classify_num=60))
    with pytest.raises(BundleError, match=r"lm_head.weight has shape \[50, 96\]"):
        Checkpoint.open(directory)


@pytest.mark.parametrize(("key", "value"), [("timestamp_segment_time", 0), ("timestamp_segment_time", 12.5)])
def test_impossible_time_steps_are_refused(tmp_path: Path, key: str, value: float) -> None:
    directory = make_aligner(tmp_path / "aligner", SHAPE)
    edit(directory, lambda config: config.update({key: value}))
    with pytest.raises(BundleError, match="whole milliseconds"):
        Checkpoint.open(directory)


def test_a_bias_on_the_time_classes_is_refused(tmp_path: Path) -> None:
    directory = make_aligner(tmp_path / "aligner", SHAPE, layout="hf")
    edit(directory, lambda config: config.update(token_classification_bias=True))
    with pytest.raises(BundleError, match="token_classification_bias"):
        Checkpoint.open(directory)


def test_a_bundle_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": "qwen3-asr-onnx"}', encoding="utf-8")
    with pytest.raises(BundleError, match="exported bundle already"):
        Checkpoint.open(tmp_path)


def test_an_adapter_is_not_dropped_in_silence(original: Path) -> None:
    file = original / "model.safetensors"
    save_file({**load_file(file), "thinker.model.layers.0.lora_A.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(BundleError, match=r"does not have, first: model\.layers\.0\.lora_A\.weight; merge adapters"):
        Checkpoint.open(original)


def test_a_head_that_differs_from_its_table_is_refused(original: Path) -> None:
    file = original / "model.safetensors"
    tensors = load_file(file)
    tensors["thinker.lm_head.weight"] = tensors["thinker.lm_head.weight"].clone()
    tensors["thinker.lm_head.weight"][-1, -1] += 1
    save_file(tensors, file)
    with pytest.raises(BundleError, match="differs from embed_tokens"):
        Checkpoint.open(original).verify_tied_head()
    edit(original, lambda c: c["thinker_config"]["text_config"].update(tie_word_embeddings=False))
    untied = Checkpoint.open(original)
    untied.verify_tied_head()
    assert not torch.equal(untied.read(HEAD), untied.read(EMBED))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("text_config", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("text_config", {"attention_bias": True}, "attention_bias is True"),
        ("text_config", {"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ("text_config", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("audio_config", {"activation_function": "relu"}, "activation_function is 'relu'"),
        ("audio_config", {"scale_embedding": True}, "scale_embedding is True"),
    ],
)
def test_maths_we_do_not_know_is_refused(original: Path, section: str, change: Config, message: str) -> None:
    edit(original, lambda c: c["thinker_config"][section].update(change))
    with pytest.raises(BundleError, match=message):
        Checkpoint.open(original)


@pytest.mark.parametrize("field", ["d_model", "n_window", "audio_token_id"])
def test_a_missing_field_is_named(original: Path, field: str) -> None:
    def remove(config: Config) -> None:
        thinker = config["thinker_config"]
        thinker.pop(field, None)
        thinker["audio_config"].pop(field, None)

    edit(original, remove)
    with pytest.raises(BundleError, match=f"no field {field}"):
        Checkpoint.open(original)


def test_files_that_are_missing_or_damaged_are_named(original: Path, tmp_path: Path) -> None:
    weights = original / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=r"model\.safetensors: damaged or truncated"):
        Checkpoint.open(original)
    weights.unlink()
    with pytest.raises(BundleError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        Checkpoint.open(original)
    with pytest.raises(BundleError, match=r"no config\.json, so this is not a checkpoint"):
        Checkpoint.open(tmp_path)
    (original / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match=r"config\.json: cannot be read"):
        Checkpoint.open(original)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "sharded", SHAPE, CheckpointOptions(shards=3))
    (directory / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model-00002-of-00003\.safetensors: missing"):
        Checkpoint.open(directory)


def test_weights_of_another_layout_are_refused(original: Path, sound: Path, tmp_path: Path) -> None:
    native = make_checkpoint(tmp_path / "native", SHAPE, CheckpointOptions(layout="hf"))
    shutil.copyfile(native / "model.safetensors", original / "model.safetensors")
    with pytest.raises(BundleError, match=r"unknown tensor .* is config\.json of another checkpoint"):
        Checkpoint.open(original)
