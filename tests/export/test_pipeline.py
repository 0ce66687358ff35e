from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter, namedtuple
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")

import onnx
import torch
from safetensors.torch import load_file
from tests.support.checkpoints import SHAPES, CheckpointOptions, make_checkpoint
from tests.support.clips import synthetic_clip
from tests.support.traces import traced_once

from qwen3_asr_onnx import Bundle, BundleError, LimitError, TranscribeOptions, Transcriber
from qwen3_asr_onnx_export import parity, pipeline, templates, trace, weights
from qwen3_asr_onnx_export.checkpoint import Checkpoint
from qwen3_asr_onnx_export.pipeline import export_checkpoint
from qwen3_asr_onnx_export.stored_file import Floats, TensorRef
from qwen3_asr_onnx_export.templates import released
from qwen3_asr_onnx_export.templates.released import ReleasedShape

pytestmark = pytest.mark.torch

SHAPE = SHAPES["multiquery"]
MINIATURE = Path(__file__).parents[1] / "data" / "mini-asr"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "original", SHAPE, CheckpointOptions())


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with traced_once(tmp_path_factory):
        return export_checkpoint(checkpoint, tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture
def shared_trace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with traced_once(tmp_path_factory):
        yield


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_the_bundle_is_complete_and_sound(bundle: Bundle) -> None:
    assert bundle.verify() == []
    assert bundle.manifest.variants["fp32"].recipe == {"scheme": "fp32", "checked_against_transformers": True}
    assert bundle.manifest.source["layout"] == "original"


def test_the_decoder_uses_the_fused_operators(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path / "decoder_init.onnx", load_external_data=False).graph
    count = Counter(node.op_type for node in graph.node)
    layers = SHAPE.layers
    assert count["GroupQueryAttention"] == layers
    assert count["SkipSimplifiedLayerNormalization"] == 2 * layers
    assert count["SimplifiedLayerNormalization"] == 2 * layers + 1
    assert count["MatMul"] == 7 * layers + 1
    assert {i.name for i in graph.input} >= {"inputs_embeds", "seqlens_k", "total_sequence_length", "past_key.0"}


def test_graphs_carry_no_paths_or_weights(bundle: Bundle, checkpoint: Path) -> None:
    for name in ("encoder.onnx", "decoder_init.onnx", "decoder_step.onnx"):
        data = (bundle.path / name).read_bytes()
        assert b"site-packages" not in data
        assert str(checkpoint).encode() not in data
        model = onnx.load_model_from_string(data)
        inline = sum(len(t.raw_data) for t in model.graph.initializer)
        assert inline < 1000
        stored = [t for t in model.graph.initializer if t.external_data]
        assert {e.value for t in stored for e in t.external_data if e.key == "location"} <= {
            "encoder.data",
            "decoder_weights.data",
        }


def test_no_tensor_is_stored_twice(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "decoder_init.onnx", load_external_data=False)
    spans = sorted(
        (int(entry["offset"]), int(entry["length"]))
        for entry in ({e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data)
    )
    assert all(start + length <= following for (start, length), (following, _) in pairwise(spans))
    used = sum(length for _, length in spans)
    assert used <= (bundle.path / "decoder_weights.data").stat().st_size < used + 4096 * len(spans)


def test_the_embedding_table_is_the_checkpoint_s(bundle: Bundle, checkpoint: Path) -> None:
    table = np.fromfile(bundle.path / "embed_tokens.bin", np.float16).reshape(SHAPE.vocab_rows, SHAPE.hidden)
    stored = load_file(checkpoint / "model.safetensors")["thinker.model.embed_tokens.weight"]
    np.testing.assert_allclose(table, stored.float().numpy(), rtol=5e-4, atol=1e-7)


def test_an_untied_head_and_float16_storage(shared_trace: None, tmp_path: Path) -> None:
    """The head may be a tensor of its own: then its logits are, and the table is not."""
    from safetensors.torch import save_file

    directory = make_checkpoint(tmp_path / "untied", SHAPE, CheckpointOptions())
    config = directory / "config.json"
    config.write_text(
        config.read_text(encoding="utf-8").replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'),
        encoding="utf-8",
    )
    tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(directory / "model.safetensors").items()}
    tensors["thinker.lm_head.weight"] = tensors["thinker.lm_head.weight"].flip(0).contiguous()
    save_file(tensors, directory / "model.safetensors")
    untied = export_checkpoint(directory, tmp_path / "bundle")  # the check compares the logits with this head
    assert untied.manifest.source["tied_head"] is False


def test_a_template_gives_the_bytes_of_a_trace(
    bundle: Bundle, checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Checkpoint.open(checkpoint)
    shape = ReleasedShape("tiny", opened.encoder, opened.decoder, opened.head_rows, opened.mel.n_mels)
    (tmp_path / "templates").mkdir()
    released.write(released.traced([shape]), tmp_path / "templates")
    monkeypatch.setattr(templates, "FOLDER", tmp_path / "templates")
    with monkeypatch.context() as patch:
        patch.delattr(trace, "trace_encoder")
        patch.delattr(trace, "trace_decoder")
        by_template = export_checkpoint(checkpoint, tmp_path / "by_template")
    by_trace = export_checkpoint(checkpoint, tmp_path / "by_trace", trace=True)
    assert files(by_template.path) == files(by_trace.path) == files(bundle.path)


# --- the check ---


def damage(bundle: Bundle, folder: Path, graph: str, name: str) -> Path:
    """Return a graph of a copy of the bundle in which the last element of one weight is 3 too large."""
    copy = Path(shutil.copytree(bundle.path, folder / "damaged"))
    model = onnx.load(copy / graph, load_external_data=False)
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (copy / place["location"]).open("r+b") as file:
        end = int(place["offset"]) + int(place["length"])
        file.seek(end - 4)
        value = np.frombuffer(file.read(4), np.float32) + np.float32(3)
        file.seek(end - 4)
        file.write(value.tobytes())
    return copy / graph


@pytest.mark.parametrize("name", ["model.layers.2.self_attn.k_norm.weight", "lm_head.weight", "model.norm.weight"])
def test_the_check_finds_a_wrong_decoder_weight(bundle: Bundle, checkpoint: Path, tmp_path: Path, name: str) -> None:
    graph = damage(bundle, tmp_path, "decoder_init.onnx", name)
    with pytest.raises(BundleError, match=r"decoder_init\.onnx, (layer 2|logits): differs from transformers by"):
        parity.check_decoder(graph, Checkpoint.open(checkpoint))


@pytest.mark.parametrize("name", ["audio_tower.conv2d2.bias", "audio_tower.layers.1.fc2.weight"])
def test_the_check_finds_a_wrong_encoder_weight(bundle: Bundle, checkpoint: Path, tmp_path: Path, name: str) -> None:
    graph = damage(bundle, tmp_path, "encoder.onnx", name)
    with pytest.raises(BundleError, match=r"encoder\.onnx, window of \d+ frames: differs from transformers by"):
        parity.check_encoder(graph, Checkpoint.open(checkpoint))


def test_the_check_does_not_read_through_what_it_checks(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that mixes up two tensors writes them both wrong; the same reader would not notice."""
    reference = Checkpoint._ref

    def mixed_up(self: Checkpoint, name: str) -> TensorRef:
        return reference(self, name.replace("layers.0.self_attn.q_norm", "layers.1.self_attn.q_norm"))

    monkeypatch.setattr(Checkpoint, "_ref", mixed_up)
    with pytest.raises(BundleError, match=r"decoder_init\.onnx, layer 0: differs from transformers"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_a_failed_check_publishes_nothing(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    with pytest.raises(BundleError, match="differs from transformers"):
        export_checkpoint(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []
    unchecked = export_checkpoint(checkpoint, tmp_path / "bundle", check=False)
    assert unchecked.manifest.variants["fp32"].recipe["checked_against_transformers"] is False


# --- what can go wrong ---


def test_a_full_disk_is_foreseen(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    with pytest.raises(LimitError, match=r"bundle: [0-9.]+ MB free, the bundle needs [0-9.]+ MB"):
        export_checkpoint(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_nothing_behind(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(weights, "write_embeddings", fail)
    with pytest.raises(LimitError if isinstance(error, OSError) else type(error)):
        export_checkpoint(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_trace_stops_the_writer(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trace, "trace_encoder", interrupt)  # when the decoder's weights are being written
    with pytest.raises(KeyboardInterrupt):
        export_checkpoint(checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    read_rows = Checkpoint.read_rows

    def broken(self: Checkpoint, name: str, start: int, stop: int) -> Floats:
        rows = read_rows(self, name, start, stop)
        if name == "audio_tower.ln_post.bias":
            rows[0] = value
        return rows

    monkeypatch.setattr(Checkpoint, "read_rows", broken)
    with pytest.raises(BundleError, match=r"audio_tower\.ln_post\.bias holds NaN or infinity"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_absurd_weights_are_refused_by_name(
    checkpoint: Path, shared_trace: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_rows = Checkpoint.read_rows

    def absurd(self: Checkpoint, name: str, start: int, stop: int) -> Floats:
        return read_rows(self, name, start, stop) * np.float32(1e9 if name == "audio_tower.ln_post.weight" else 1)

    monkeypatch.setattr(Checkpoint, "read_rows", absurd)
    with pytest.raises(BundleError, match=r"audio_tower\.ln_post\.weight holds .*e\+0[89]; no weight of a sound model"):
        export_checkpoint(checkpoint, tmp_path / "bundle")


def test_the_table_must_fit_fp16(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_rows = Checkpoint.read_rows
    monkeypatch.setattr(Checkpoint, "read_rows", lambda self, *where: read_rows(self, *where) * 1e6)
    with pytest.raises(BundleError, match=r"values that FP16 cannot"):
        weights.write_embeddings(Checkpoint.open(checkpoint), tmp_path / "table")


def test_an_existing_bundle_is_kept_unless_told_otherwise(bundle: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "precious").touch()
    with pytest.raises(BundleError, match="exists and is not empty"):
        export_checkpoint(checkpoint, target)
    assert [p.name for p in target.iterdir()] == ["precious"]


# --- the command ---


@pytest.mark.slow
def test_export_and_transcribe_as_a_user_would(mini_bundle: Path, tmp_path: Path) -> None:
    """The command line, in processes of its own, gives the same bytes as the function does here."""
    import wave

    clip = synthetic_clip(2.0)
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((clip * 32767).astype("<i2").tobytes())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qwen3_asr_onnx", *arguments]
        env = {**os.environ, "PYTHONWARNINGS": "ignore"}  # torch warns about its own use of itself
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=env)

    exported = run("export", str(MINIATURE), "bundle")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout == ""
    assert exported.stderr.startswith("bundle: ")
    assert files(tmp_path / "bundle") == files(mini_bundle)
    transcribed = run("transcribe", "-m", "bundle", "clip.wav", "--max-new-tokens", "5", "--format", "json")
    assert transcribed.returncode == 0, transcribed.stderr
    assert '"token_ids": [' in transcribed.stdout
    refused = run("export", str(MINIATURE), "bundle")
    assert refused.returncode == 2
    assert "exists and is not empty" in refused.stderr


def test_the_command_passes_its_arguments_on(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, tmp_path: Path) -> None:
    from qwen3_asr_onnx_export.cli import COMMAND

    seen: dict[str, Any] = {}

    def fake(*arguments: Any, **keywords: Any) -> Bundle:
        seen.update(keywords, paths=arguments)
        return bundle

    monkeypatch.setattr(pipeline, "export_checkpoint", fake)
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    options = ["--no-check", "--overwrite", "--trace", "--quiet"]
    assert COMMAND.run(parser.parse_args([str(tmp_path), "out", *options])) == 0
    named = {"check": False, "overwrite": True, "trace": True, "progress": False}
    assert seen == {"paths": (tmp_path, Path("out")), **named}


def test_parity_runs_without_prepacked_copies(bundle: Bundle, checkpoint: Path) -> None:
    """The exported graphs pass the check on their own as well: it reads nothing but the bundle and the checkpoint."""
    opened = Checkpoint.open(checkpoint)
    done: list[None] = []
    parity.check_encoder(bundle.path / "encoder.onnx", opened)
    parity.check_decoder(bundle.path / "decoder_step.onnx", opened, lambda: done.append(None))
    assert len(done) == SHAPE.layers + 1


def test_all_languages_and_prompts_are_in_the_manifest(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert len(manifest.languages) == 30
    assert "{context}" in manifest.prompt.template
    asr = Transcriber(bundle)
    assert asr.transcribe(synthetic_clip(0.5), TranscribeOptions(language="Thai", max_new_tokens=1)).language == "Thai"
