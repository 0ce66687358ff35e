"""What the options of `get` become; what it does with them is tested beside what does it."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from qwen3_asr_onnx.bundle import getting
from qwen3_asr_onnx.bundle import store as shelves
from qwen3_asr_onnx.bundle.choices import Origin
from qwen3_asr_onnx.bundle.getting import GetOptions
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.model.recommended import recommended_recipe


@pytest.fixture
def asked(store: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, GetOptions]]:
    """What is asked for; the tiny bundle is got every time."""
    calls: list[tuple[str, GetOptions]] = []

    def get(source: str, options: GetOptions, say: Callable[[str], object]) -> Path:
        calls.append((source, options))
        folder = shutil.copytree(tiny_bundle, store / (options.name or "tiny"))
        shelves.record(folder.name, Origin(source))
        say("said on the way")
        return Path(folder)

    monkeypatch.setattr(getting, "get_model", get)
    return calls


def test_nothing_is_asked_for_that_was_not_given(
    asked: list[tuple[str, GetOptions]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["get", "owner/name"]) == 0
    ((source, options),) = asked
    assert (source, options) == ("owner/name", GetOptions(calibration=[], recommend=recommended_recipe))
    out, err = capsys.readouterr()
    assert out == "tiny\n"
    assert err.splitlines()[0] == "qwen3-asr-onnx: said on the way"
    assert "fp32, the default model; use it: qwen3-asr-onnx transcribe talk.mp3" in err


def test_every_option_arrives(
    asked: list[tuple[str, GetOptions]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.wav", "b.wav"):
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(bytes(3200))
    given = ["--recipe", "int4-gptq", "--name", "mine", "--revision", "v1", "--base", "some/base", "--keep-float32"]
    given += ["--check", "--overwrite", "--threads", "2", "-q", "--calibration", str(tmp_path)]
    assert cli.main(["get", "owner/name", *given]) == 0
    assert capsys.readouterr() == ("mine\n", "")
    ((_, options),) = asked
    assert [waveform.shape for waveform in options.calibration] == [(1600,), (1600,)]
    expected = GetOptions("int4-gptq", "mine", "v1", "some/base", True, options.calibration, True, True, True, 2)
    expected = replace(expected, recommend=recommended_recipe)
    assert options == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["a", "b"], "unrecognized arguments: b"),
        (["a", "--threads", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_wrong_usage_gets_nothing(
    asked: list[tuple[str, GetOptions]], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["get", *arguments])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert asked == []


def test_calibration_audio_that_is_not_there_is_told(
    asked: list[tuple[str, GetOptions]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["get", "a", "--calibration", "nowhere"]) == 2
    assert "--calibration nowhere: no such file" in capsys.readouterr().err
    assert asked == []


def test_a_second_model_is_named_in_the_line_that_uses_it(
    asked: list[tuple[str, GetOptions]], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["get", "owner/name", "-q"])
    assert cli.main(["get", "owner/name", "--name", "second"]) == 0
    assert capsys.readouterr().err.endswith("fp32, asr; use it: qwen3-asr-onnx transcribe talk.mp3 -m second\n")
