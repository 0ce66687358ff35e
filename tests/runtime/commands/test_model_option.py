"""How a verb finds its model: -m, the default, and what it says where there is none or a model stands elsewhere."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from qwen3_asr_onnx import Aligner, Transcriber
from qwen3_asr_onnx.bundle import store as shelves
from qwen3_asr_onnx.bundle.choices import Origin
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands.arguments import refuse_positional_model
from qwen3_asr_onnx.errors import BundleError


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    import wave

    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.random.default_rng(0).normal(0, 3000, 8000)).astype("<i2").tobytes())
    return path


@pytest.fixture
def tiny(store: Path, tiny_bundle: Path) -> Path:
    """The store with one model, `tiny`, which nobody chose."""
    return Path(shutil.copytree(tiny_bundle, store / "tiny"))


GIVEN = ["--max-new-tokens", "2", "-q"]


def test_a_model_of_the_store_is_named_or_meant(
    tiny: Path, tiny_bundle: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for model in ([], ["-m", "tiny"], ["--model", str(tiny_bundle)]):
        assert cli.main(["transcribe", str(clip), *model, *GIVEN]) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1
    assert cli.main(["stream", str(clip), "--fast", "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["info", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(tiny)


def test_python_means_the_same(tiny: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)  # where "tiny" is a path
    for given in ((), ("tiny",)):
        with Transcriber(*given) as asr, Transcriber.from_pretrained(*given) as other:
            assert asr.manifest == other.manifest
    monkeypatch.chdir(tiny_bundle.parent)
    with Transcriber("tiny", threads=1) as asr:
        assert asr.variant == "fp32"
    shelves.record("tiny", Origin("owner/name"))
    with Transcriber("owner/name") as asr, Transcriber.from_pretrained("owner/name") as other:
        assert asr.manifest == other.manifest
    for neither in ("owner/other", "x" * 5000, "a\0b", ""):
        with pytest.raises(BundleError):
            Transcriber(neither)
    with pytest.raises(BundleError, match=r"tini: .*did you mean tiny\?"):
        Transcriber("tini")
    with pytest.raises(BundleError, match=r"tini: .*did you mean tiny\?"):
        Transcriber.from_pretrained("tini")
    with pytest.raises(BundleError, match="does not exist; give the directory"):
        Transcriber(Path("tini"))  # a Path is a path
    with pytest.raises(BundleError, match=r"no aligner is here yet.*get Qwen/Qwen3-ForcedAligner-0\.6B"):
        Aligner()
    with pytest.raises(BundleError, match="no aligner is here yet"):
        Aligner.from_pretrained()
    with pytest.raises(BundleError, match="cannot align"):
        Aligner("tiny")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transcribe", "a.wav"], "no model is here yet; get one: qwen3-asr-onnx get Qwen/Qwen3-ASR-0.6B"),
        (["stream", "a.wav", "--fast"], "no model is here yet; get one: qwen3-asr-onnx get Qwen/Qwen3-ASR-0.6B"),
        (["align", "a.wav", "hi", "-l", "en"], "no aligner is here yet; get one: qwen3-asr-onnx get Qwen/Qwen3-Forced"),
        (["transcribe", "a.wav", "--timestamps", "word"], "get Qwen/Qwen3-ForcedAligner-0.6B"),
        (
            ["transcribe", "a.wav", "-m", "some"],
            "and not a hub id (owner/name) either; no such model, and none",
        ),
    ],
)
def test_without_a_model_the_line_that_gets_one_is_shown(
    store: Path,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(clip.parent)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["transcribe", "BUNDLE", "a.wav", "-q"], "transcribe -m BUNDLE a.wav -q"),
        (["transcribe", "-l", "en", "BUNDLE", "a b.wav"], "transcribe -m BUNDLE -l en 'a b.wav'"),
        (["transcribe", "BUNDLE"], "transcribe -m BUNDLE"),
        (["stream", "BUNDLE"], "stream -m BUNDLE"),
        (["stream", "BUNDLE", "-"], "stream -m BUNDLE -"),
        (["align", "BUNDLE", "a.wav", "it's", "-l", "en"], "align -m BUNDLE a.wav 'it'\"'\"'s' -l en"),
        (["align", "-l", "en", "BUNDLE", "a.wav", "hi"], "align -m BUNDLE -l en a.wav hi"),
        (["transcribe", "tiny", "a.wav"], "transcribe -m tiny a.wav"),
        (["transcribe", "owner/name", "a.wav"], "transcribe -m owner/name a.wav"),
        (["stream", "Qwen/Qwen3-ASR-0.6B", "-"], "stream -m Qwen/Qwen3-ASR-0.6B -"),
    ],
)
def test_a_model_where_the_audio_should_be_is_told_with_the_right_line(
    tiny: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    shelves.record("tiny", Origin("owner/name"))
    given = [str(tiny_bundle) if argument == "BUNDLE" else argument for argument in arguments]
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(
        f" is a model, which is named with -m: qwen3-asr-onnx {line}\n".replace("BUNDLE", str(tiny_bundle))
    )


def test_an_audio_is_never_taken_for_a_model(
    tiny: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = Path(shutil.copy(clip, clip.parent / "tiny"))  # as a model is called
    folder = clip.parent / "recordings"
    folder.mkdir()
    (folder / "config.json").write_text('{"device": "recorder"}', encoding="utf-8")
    shutil.copy(clip, folder)
    monkeypatch.chdir(clip.parent)
    assert cli.main(["transcribe", recording.name, "recordings", "-m", str(tiny), *GIVEN, "-f", "json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_several_models_need_a_choice(tiny: Path, tiny_bundle: Path) -> None:
    shutil.copytree(tiny_bundle, tiny.parent / "other")
    with pytest.raises(BundleError, match=r"which model\? other, tiny are here.*models default other"):
        shelves.default_folder("asr")
    shelves.set_default("tiny")
    assert shelves.default_folder("asr") == tiny


def test_a_verb_without_inputs_is_left_alone(tiny: Path) -> None:
    """Its inputs may come from elsewhere, a manifest for one."""
    refuse_positional_model(Namespace(first_input="inputs", inputs=[]), ["transcribe"])
    refuse_positional_model(Namespace(first_input="input", input=None), ["stream"])
    refuse_positional_model(Namespace(), ["info", "tiny"])
