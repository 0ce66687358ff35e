"""GGUF files: byte for byte what transcribe.cpp's own converter writes, and text by transcribe.cpp itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="needs the peers extra")

import gguf

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_eval.bench import gguf_file
from qwen3_asr_onnx_eval.bench.gguf_file import GgufKind, write_gguf
from qwen3_asr_onnx_eval.bench.random_checkpoint import BENCH_SHAPES, ensure_checkpoint
from qwen3_asr_onnx_eval.bench.recognizers import StageTimes
from qwen3_asr_onnx_eval.bench.transcribe_cpp import stage_times
from qwen3_asr_onnx_eval.bench.worker import TRANSCRIBE_CPP, Worker
from qwen3_asr_onnx_eval.machine.child_process import MeasurementError

DATA = Path(__file__).parents[2] / "data"
MINI = DATA / "mini-asr"

THEIRS_SHA256 = "e211dd91827b0a69de1806105131e69e87745d81d16e13bcc7419c9bb6a2562f"
"""Of tests/data/mini-asr in BF16, written by transcribe.cpp's own converter (transcribe-cpp 0.4.1)."""


def read(checkpoint: Path, target: Path, kind: GgufKind) -> gguf.GGUFReader:
    write_gguf(checkpoint, target, kind)
    return gguf.GGUFReader(target)


def test_keys_names_and_values_are_those_of_their_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(MINI, tmp_path / "whole.gguf", "BF16")
    assert hashlib.sha256((tmp_path / "whole.gguf").read_bytes()).hexdigest() == THEIRS_SHA256
    monkeypatch.setattr(gguf_file, "BLOCK_VALUES", 1000)  # rows of 256 values: blocks end everywhere
    write_gguf(MINI, tmp_path / "pieces.gguf", "BF16")
    assert (tmp_path / "pieces.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def test_kinds_differ_in_the_matrices_alone(tmp_path: Path) -> None:
    found = {kind: read(MINI, tmp_path / f"{kind}.gguf", kind) for kind in ("F32", "BF16", "Q8_0")}
    exact = {tensor.name: tensor for tensor in found["F32"].tensors}
    assert {tensor.tensor_type.name for tensor in exact.values()} == {"F32"}
    types = {tensor.name: tensor.tensor_type.name for tensor in found["Q8_0"].tensors}
    assert types == {tensor.name: tensor.tensor_type.name.replace("BF16", "Q8_0") for tensor in found["BF16"].tensors}
    assert types["dec.token_embd.weight"] == types["enc.blocks.0.ffn.fc1.weight"] == "Q8_0"
    for tensor in found["Q8_0"].tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(exact[tensor.name].data.shape)
        scale = abs(exact[tensor.name].data).max()
        np.testing.assert_allclose(values, exact[tensor.name].data, atol=scale / 100)
    assert [int(one.fields["general.file_type"].contents()) for one in found.values()] == [0, 32, 7]


def test_a_checkpoint_in_shards_with_its_head_stored_twice(tmp_path: Path) -> None:
    checkpoint, _ = ensure_checkpoint(BENCH_SHAPES["tiny"], tmp_path)
    found = read(checkpoint, tmp_path / "random.gguf", "Q8_0")
    assert len(found.tensors) == len(read(MINI, tmp_path / "mini.gguf", "BF16").tensors)
    texts = found.fields["tokenizer.ggml.tokens"].contents()
    assert len(texts) == len(set(texts)) == 1024
    assert {"system", "user", "assistant", "Ċ", "<|im_start|>"} <= set(texts)  # else it cannot be loaded


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="only transcribers"):
        write_gguf(DATA / "mini-aligner", tmp_path / "aligner.gguf", "BF16")
    broken = tmp_path / "broken"
    shutil.copytree(MINI, broken)
    config = json.loads((broken / "config.json").read_text(encoding="utf-8"))
    config["thinker_config"]["text_config"]["num_hidden_layers"] = 4
    (broken / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BundleError, match=r"no tensor 'thinker\.model\.layers\.3"):
        write_gguf(broken, tmp_path / "broken.gguf", "BF16")
    assert not list(tmp_path.glob("*.gguf"))


@pytest.mark.conformance
@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_transcribe_cpp_hears_what_we_hear(kind: GgufKind, mini_bundle: Path, tmp_path: Path) -> None:
    transcribe_cpp = pytest.importorskip("transcribe_cpp", reason="needs the peers extra")
    write_gguf(MINI, tmp_path / "mini.gguf", kind)
    asr = Transcriber(mini_bundle)
    session = transcribe_cpp.Model(str(tmp_path / "mini.gguf"), backend="cpu").session(n_threads=1)
    for name in ("en_1", "de_2", "zh_1"):
        waveform = load_audio(DATA / "mini-clips" / f"{name}.flac")
        assert session.run(waveform).text == asr.transcribe(waveform).text


@pytest.mark.conformance
def test_an_independent_program_writes_our_float32_text_of_every_clip_of_one_sentence(
    mini_bundle: Path, tmp_path: Path
) -> None:
    """The two longer ones differ behind 8 seconds, where our windows of the encoder end: up to there they do not."""
    transcribe_cpp = pytest.importorskip("transcribe_cpp", reason="needs the peers extra")
    write_gguf(MINI, tmp_path / "mini.gguf", "F32")
    session = transcribe_cpp.Model(str(tmp_path / "mini.gguf"), backend="cpu").session(n_threads=1)
    clips = sorted((DATA / "mini-clips").glob("*.flac"))
    assert len(clips) == 15
    with Transcriber(mini_bundle) as asr:
        for path in clips:
            waveform = load_audio(path)[: 8 * 16_000]
            assert session.run(waveform).text == asr.transcribe(waveform).text, path.name


LOG = """qwen3_asr perf breakdown:
  mel                  4.00 ms
  enc_build            2.73 ms  (graph + sched + uploads)
  enc_compute        461.50 ms
  prefill_build       10.33 ms  (kv_init + prompt + graph + sched + uploads)
  prefill_compute    772.10 ms  (T_prompt=28)
  step_loop          510.00 ms  (255 steps, 2.00 ms/step)
    compute          509.00 ms  (1.996 ms/step)"""


def test_stages_are_read_off_the_log_of_transcribe_cpp() -> None:
    times = stage_times(LOG, 4)
    assert times == StageTimes(4.0, 461.5, 772.1, (2.0, 2.0, 2.0), 28, n_written=256)
    assert times.to_dict()["n_written"] == 256
    for log in ("", LOG.replace("255 steps", "0 steps"), LOG.replace("prefill_compute", "prompt")):
        with pytest.raises(MeasurementError, match="does not tell"):
            stage_times(log, 4)


@pytest.mark.conformance
def test_transcribe_cpp_runs_in_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("transcribe_cpp", reason="needs the peers extra")
    write_gguf(MINI, tmp_path / "mini.gguf", "Q8_0")
    with Worker(TRANSCRIBE_CPP, tmp_path / "mini.gguf") as worker:
        answer = worker.ask("run", audio_s=2, n_tokens=4)
    assert answer["n_prompt"] == 26 + 15
    assert answer["n_written"] > 1
    assert len(answer["token_ms"]) == 3
    assert answer["memory"]["peak_rss"] > 0
