"""The programs themselves, on the miniature: the text of our runtime on every clip, or what their rule makes of it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes
from tests.support.traces import traced_once

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.loading import load_model
from qwen3_asr_onnx.text.tokenizer import Tokenizer
from qwen3_asr_onnx_eval.bench.random_checkpoint import BenchShape, ensure_checkpoint
from qwen3_asr_onnx_export.layouts.packaging import write_layout
from qwen3_asr_onnx_export.pipeline import export_checkpoint

from .conftest import CLIPS, STOPS, MakeLayout

pytestmark = pytest.mark.conformance

LONG = "en_story_70s"
"""Cut by sherpa-onnx and daobidao, heard in one piece by wyoming-faster-whisper; our runtime cuts it at pauses."""

NAMES = sorted(path.stem for path in CLIPS.glob("*.flac") if path.stem != LONG)

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def reference(mini: Path) -> Iterator[Transcriber]:
    with Transcriber(mini, variant="fp32") as loaded:
        yield loaded


def recognizer(folder: Path, **options: Any) -> Ask:
    sherpa_onnx = pytest.importorskip("sherpa_onnx", reason="needs the conformance extra")
    files = [
        str(folder / name) for name in ("conv_frontend.onnx", "encoder.int8.onnx", "decoder.int8.onnx", "tokenizer")
    ]
    loaded = sherpa_onnx.OfflineRecognizer.from_qwen3_asr(*files, num_threads=1, **options)

    def ask(samples: np.ndarray, **settings: str) -> str:
        stream = loaded.create_stream()
        for name, value in settings.items():
            stream.set_option(name, value)
        stream.accept_waveform(16_000, samples)
        loaded.decode_stream(stream)
        return str(stream.result.text)

    return ask


def plainly(mini: Path, samples: np.ndarray, limit: int = 128) -> str:
    """What our runtime's model writes where nobody watches it for loops and asks again in pieces."""
    model = load_model(mini, "fp32", "cpu", 1)
    (features,) = model.encoder.encode([log_mel(samples)])
    embedded, cache, past = Prompter(model).embed(features), KvCache(model.decoder.dims, 1, 1200), 0
    written: list[int] = []
    while len(written) < limit:
        (logits,) = model.decoder.extend(cache, 0, embedded, past)
        past += len(embedded)
        token = int(logits.argmax())
        if token in STOPS:
            break
        written.append(token)
        embedded = model.embeddings.rows(np.array([token]))
    return model.tokenizer.decode(written).rpartition("<asr_text>")[2].strip()


def samples_of(name: str) -> np.ndarray:
    return load_audio(CLIPS / f"{name}.flac")


@pytest.fixture(scope="module")
def sherpa(layout_of: MakeLayout) -> Ask:
    return recognizer(layout_of("sherpa", "fp32"))


@pytest.mark.parametrize("name", NAMES)
def test_sherpa_onnx(sherpa: Ask, reference: Transcriber, name: str) -> None:
    assert sherpa(samples_of(name)) == reference.transcribe(CLIPS / f"{name}.flac").text


@pytest.mark.parametrize("variant", ["int8", "int4"])
def test_sherpa_onnx_quantized(layout_of: MakeLayout, mini: Path, variant: str) -> None:
    ask = recognizer(layout_of("sherpa", variant))
    with Transcriber(mini, variant=variant) as ours:
        for name in ("en_1", "de_2", "zh_1", "silence"):
            assert ask(samples_of(name)) == ours.transcribe(CLIPS / f"{name}.flac").text


def test_sherpa_onnx_with_a_language_and_with_words(sherpa: Ask, reference: Transcriber) -> None:
    for language in ("English", "German"):
        expected = reference.transcribe(CLIPS / "en_2.flac", language=language).text
        assert sherpa(samples_of("en_2"), language=language) == expected
    for name in ("en_name_with_context", "de_name_with_context"):
        rows = map(json.loads, (CLIPS / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
        (context,) = (row["context"] for row in rows if row["file"] == f"{name}.flac")
        # sherpa-onnx joins them by spaces.
        expected = reference.transcribe(CLIPS / f"{name}.flac", context=context.replace(", ", " ")).text
        assert sherpa(samples_of(name), hotwords=context.replace(", ", ",")) == expected


def test_sherpa_onnx_with_half_logits(mini: Path, tmp_path: Path, sherpa: Ask) -> None:
    write_layout(mini, tmp_path / "half", "sherpa", variant="fp32", half_logits=True)
    ask = recognizer(tmp_path / "half")
    for name in ("en_1", "zh_2"):
        assert ask(samples_of(name)) == sherpa(samples_of(name))


def test_sherpa_onnx_on_a_short_and_a_long_clip(layout_of: MakeLayout, mini: Path) -> None:
    ask = recognizer(layout_of("sherpa", "fp32"), max_total_len=512)
    assert ask(samples_of("en_1")[:160]) == ""  # its own rule: under two frames
    story = samples_of(LONG)[: 30 * 16_000]
    expected = plainly(mini, story)  # sherpa-onnx ends where 512 positions are full
    found = ask(story)
    assert len(found) > 100
    assert expected.startswith(found)


@pytest.fixture(scope="module")
def daobidao(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    """The modules of daobidao that run the graphs. The package asks for a newer Python than they do."""
    folder = tmp_path_factory.mktemp("daobidao")
    wanted = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    wanted += ["--python-version", "3.12.13", "-d", str(folder), "daobidao==1.0.6"]
    if subprocess.run(wanted, capture_output=True, check=False).returncode:
        pytest.skip("daobidao cannot be downloaded")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    modules = {}
    for name in ("_onnx_runner", "_tokenizer", "_feature", "_prompt", "_postprocess"):
        path = folder / "daobidao" / "stt" / "qwen3" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"daobidao{name}", path)
        assert spec is not None
        assert spec.loader is not None
        modules[name] = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = modules[name]
        spec.loader.exec_module(modules[name])
    return modules


def asked_of_daobidao(modules: dict[str, ModuleType], folder: Path, samples: np.ndarray) -> str:
    """What `Qwen3ASRSTT.transcribe` does between its log messages."""
    runner = modules["_onnx_runner"].Qwen3ONNXRunner(folder, max_total_len=1200)
    tokenizer = modules["_tokenizer"].Qwen3Tokenizer(folder / "tokenizer")
    features = runner.encode_audio(modules["_feature"].log_mel_spectrogram(modules["_feature"].pad_or_trim(samples)))
    ids = tokenizer.encode(modules["_prompt"].build_prompt(features.shape[1]))
    caches, past, written = runner.alloc_decoder_caches(), 0, list[int]()
    while len(written) < 400:
        logits = runner.decoder_step(np.array([ids]), features, caches, past)
        assert np.isfinite(logits).all()
        assert logits.any()
        past += len(ids)
        ids = [int(np.argmax(logits[0, -1]))]
        if ids[0] == tokenizer.eos_id:
            break
        written += ids
    return str(modules["_postprocess"].parse_asr_output(tokenizer.decode(written, skip_special_tokens=True)))


@pytest.mark.parametrize("name", NAMES)
def test_daobidao(daobidao: dict[str, ModuleType], layout_of: MakeLayout, mini: Path, name: str) -> None:
    """It hears 30 seconds of every clip, silence included, watches no loops, and takes what the last tag is before."""
    samples = samples_of(name)
    whole = np.concatenate([samples, np.zeros(30 * 16_000, np.float32)])[: 30 * 16_000]
    assert asked_of_daobidao(daobidao, layout_of("sherpa", "fp32"), samples) == plainly(mini, whole, limit=400)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch, mini: Path) -> ModuleType:
    """The handler of wyoming-faster-whisper, with the miniature's ids in the place of those written into it."""
    module = handler_module()
    tokenizer = Tokenizer.from_file(mini / "tokenizer.json")
    names = ("_IM_START", "_IM_END", "_AUDIO_START", "_AUDIO_END", "_AUDIO_PAD", "_ASR_TEXT")
    ids = dict(zip(names, range(1017, 1023), strict=True))
    for name, text in {"_SYSTEM": "system", "_USER": "user", "_ASSISTANT": "assistant", "_NEWLINE": "\n"}.items():
        (ids[name],) = tokenizer.encode(text)
    for name, value in ids.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "_EOS_IDS", frozenset(STOPS))
    return module


def handler_module() -> ModuleType:
    name = "wyoming_faster_whisper.qwen3_asr_handler"
    return cast(ModuleType, pytest.importorskip(name, reason="needs the conformance extra"))


@pytest.mark.parametrize("layout", ["wyoming", "split"])
def test_wyoming_faster_whisper(
    handler: ModuleType, layout_of: MakeLayout, reference: Transcriber, tmp_path: Path, layout: str
) -> None:
    folder = layout_of(layout, "fp32")
    loaded = handler.Qwen3AsrTranscriber(model_id=str(folder), cache_dir=str(folder), cpu_threads=1)
    path = tmp_path / "clip.wav"
    for name in NAMES:
        path.write_bytes(wav_bytes(samples_of(name)))
        assert loaded.transcribe(path, None) == reference.transcribe(path).text, name
    expected = reference.transcribe(path, language="German", context="Anna, Otto").text
    assert loaded.transcribe(path, "de-DE", initial_prompt="Anna, Otto") == expected


@pytest.mark.torch
@pytest.mark.parametrize("layout", ["wyoming", "split"])
def test_wyoming_faster_whisper_with_its_own_ids(toy: Path, tmp_path: Path, layout: str) -> None:
    """Its ids are those of the released vocabulary: nothing of it is changed here but how much it may write."""
    module = handler_module()
    write_layout(toy, tmp_path / "out", layout)
    loaded = module.Qwen3AsrTranscriber(model_id=str(tmp_path / "out"), cache_dir=str(tmp_path), cpu_threads=1)
    written: list[int] = []
    decode = loaded._tokenizer.decode

    def listened(ids: list[int], **options: bool) -> str:
        written.extend(ids)
        return str(decode(ids, **options))

    loaded._tokenizer = SimpleNamespace(encode=loaded._tokenizer.encode, decode=listened)
    clip = synthetic_clip(3.0)
    (tmp_path / "clip.wav").write_bytes(wav_bytes(clip))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_NEW_TOKENS", 12)
        loaded.transcribe(tmp_path / "clip.wav", "de", initial_prompt="Küche, Büro 7")
    with Transcriber(toy) as ours:
        answer = ours.transcribe(tmp_path / "clip.wav", language="German", context="Küche, Büro 7", max_new_tokens=12)
    assert tuple(written) == answer.token_ids
    assert len(written) == 12


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, real_tokenizer_dir: Path) -> Path:
    """A bundle with the released vocabulary, 8 numbers a token."""
    folder = tmp_path_factory.mktemp("toy")
    shape = BenchShape("toy", 2, 8, 16, 2, 1, 16, 1, 16, 2, 32, 4, 151_643, 151_936, 1)
    checkpoint, _ = ensure_checkpoint(shape, folder)
    for path in real_tokenizer_dir.iterdir():
        shutil.copyfile(path, checkpoint / path.name)
    with traced_once(tmp_path_factory):
        export_checkpoint(checkpoint, folder / "bundle", check=False)
    return folder / "bundle"
