from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("torch", reason="needs the export extra")

import numpy as np
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
        assert np.array_equal(original.read(name), native.read(name)), name


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
        assert np.array_equal(found.read(name), expected.read(name)), name
    assert np.array_equal(found.read_rows(EMBED, 3, 7), expected.read(EMBED)[3:7])


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
        assert np.array_equal(original.read(name), native.read(name)), name


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
    assert not np.array_equal(untied.read(HEAD), untied.read(EMBED))


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
    with pytest.raises(BundleError, match=rf"no field thinker_config\.(audio_config\.)?{field}"):
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
    with pytest.raises(BundleError, match=r"config\.json: not valid JSON"):
        Checkpoint.open(original)


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("config.json", "thinker_config", []),
        ("config.json", "thinker_config.audio_config", [1]),
        ("config.json", "thinker_config.text_config", "text"),
        ("config.json", "thinker_config.audio_config.d_model", "64"),
        ("config.json", "thinker_config.audio_config.encoder_layers", None),
        ("config.json", "thinker_config.audio_config.n_window", 30),
        ("config.json", "thinker_config.audio_config.n_window_infer", 400),
        ("config.json", "thinker_config.audio_config.num_mel_bins", [128]),
        ("config.json", "thinker_config.text_config.hidden_size", 2**31),
        ("config.json", "thinker_config.text_config.num_key_value_heads", 0),
        ("config.json", "thinker_config.text_config.vocab_size", True),
        ("config.json", "thinker_config.text_config.rope_theta", "big"),
        ("config.json", "thinker_config.text_config.rope_scaling", [1]),
        ("config.json", "thinker_config.text_config.rope_parameters", "default"),
        ("config.json", "thinker_config.text_config.rms_norm_eps", {}),
        ("config.json", "thinker_config.text_config.tie_word_embeddings", "yes"),
        ("config.json", "thinker_config.audio_token_id", -1),
        ("config.json", "support_languages", "English"),
        ("config.json", "support_languages", [1]),
        ("config.json", "architectures", 5),
        ("generation_config.json", "eos_token_id", -1),
        ("generation_config.json", "eos_token_id", []),
        ("generation_config.json", "eos_token_id", [None]),
        ("generation_config.json", "eos_token_id", "end"),
        ("generation_config.json", "eos_token_id", [True]),
        ("generation_config.json", "eos_token_id", 10**9),
        ("preprocessor_config.json", "hop_length", 320),
        ("preprocessor_config.json", "sampling_rate", "16000"),
        ("preprocessor_config.json", "n_fft", None),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_field_that_cannot_be_is_refused_by_name(original: Path, file: str, field: str, value: object) -> None:
    *outer, last = field.split(".")

    def change(config: Config) -> None:
        for name in outer:
            config = config[name]
        config[last] = value

    edit(original, change, file)
    if field == "architectures":  # nothing depends on it here
        Checkpoint.open(original)
        return
    with pytest.raises(BundleError, match=rf"{file}: .*{last}"):
        Checkpoint.open(original)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ["[1]", "[" * 100_000, '{"a": NaN}', "5"])
def test_json_that_is_no_config_is_refused(original: Path, name: str, text: str) -> None:
    (original / name).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=name):
        Checkpoint.open(original)


def test_a_stop_token_by_itself_or_twice_counts_once(original: Path) -> None:
    stop = SHAPE.token_id("<|im_end|>")
    for value in (stop, [stop, stop]):
        edit(original, partial(dict.update, eos_token_id=value), "generation_config.json")
        assert Checkpoint.open(original).eos_tokens == (stop,)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x.safetensors", 5, ["a"], "weights.bin"]
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, name: object) -> None:
    directory = make_checkpoint(tmp_path / "sharded", SHAPE, CheckpointOptions(shards=3))
    index = "model.safetensors.index.json"
    edit(directory, lambda config: config["weight_map"].update({"thinker.lm_head.weight": name}), index)
    with pytest.raises(BundleError, match=r"index\.json: weight_map names"):
        Checkpoint.open(directory)


def test_one_file_comes_before_a_stale_index(original: Path, tmp_path: Path) -> None:
    """As in transformers: `save_pretrained` of a smaller model leaves the old index where it is."""
    sharded = make_checkpoint(tmp_path / "sharded", SHAPE, CheckpointOptions(shards=3))
    for path in sharded.glob("model*"):
        shutil.copyfile(path, original / path.name)
    weights = original / "model.safetensors"
    tensors = load_file(weights)
    tensors["thinker.model.norm.weight"] += 1
    save_file(tensors, weights)
    norm = tensors["thinker.model.norm.weight"].float().numpy()
    assert np.array_equal(Checkpoint.open(original).read("model.norm.weight"), norm)
    next(original.glob("model-00001*")).unlink()
    Checkpoint.open(original)


@pytest.mark.parametrize(("outer", "inner"), [(True, False), (False, True)])
@pytest.mark.parametrize("layout", ["original", "hf"])
def test_the_outer_config_says_whether_the_head_is_tied(
    tmp_path: Path, layout: Literal["original", "hf"], outer: bool, inner: bool
) -> None:
    directory = make_checkpoint(tmp_path / "one", SHAPE, CheckpointOptions(layout=layout, head="both"))

    def change(config: Config) -> None:
        config = config.get("thinker_config", config)
        config["tie_word_embeddings"] = outer
        config["text_config"]["tie_word_embeddings"] = inner

    edit(directory, change)
    if layout == "original" or outer:
        assert Checkpoint.open(directory).tied is outer
        return
    with pytest.raises(BundleError, match=r"1 tensors missing, first: lm_head\.weight"):  # transformers stores it once
        Checkpoint.open(directory)


def test_a_lora_adapter_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen3-ASR-0.6B"}')
    (tmp_path / "adapter_model.safetensors").touch()
    message = r"LoRA adapter of Qwen/Qwen3-ASR-0\.6B, not a model; .qwen3-asr-onnx get .* merges it"
    with pytest.raises(BundleError, match=message):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", "as a pickle, which can run code"),
        ("model.pth", "as a pickle"),
        ("model.gguf", "llama.cpp"),
        ("x.txt", "is the download complete"),
    ],
)
def test_weights_of_another_kind_are_called_by_name(original: Path, name: str, message: str) -> None:
    (original / "model.safetensors").rename(original / name)
    with pytest.raises(BundleError, match=message):
        Checkpoint.open(original)


def test_quantized_checkpoints_are_called_so(original: Path) -> None:
    file = original / "model.safetensors"
    tensors = load_file(file)
    tensors["thinker.model.norm.weight"] = tensors["thinker.model.norm.weight"].to(torch.int8)
    save_file(tensors, file)
    with pytest.raises(BundleError, match=r"model\.norm\.weight is stored as I8, which is a quantized checkpoint's"):
        Checkpoint.open(original)
    edit(original, lambda config: config.update(quantization_config={"bits": 4}))
    with pytest.raises(BundleError, match="quantization_config says"):
        Checkpoint.open(original)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_opened(original: Path, name: str) -> None:
    (original / name).unlink()
    os.mkfifo(original / name)
    with pytest.raises(BundleError, match=rf"{name}: is a named pipe"):
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
