from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from tests.clips import synthetic_clip

from qwen3_asr_onnx.bundle import Bundle
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx_quantize.cli import COMMAND, SWEEP


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    return COMMAND.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_variant_is_added_and_summed_up(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, "--recipe", "int4", "--threads", "1") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{bundle}: variant int4, 0.2 MB in 5 files\n"
    assert list(Bundle.open(bundle).manifest.variants) == ["fp32", "int4"]


def test_quiet_says_nothing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, "--recipe", "int8", "--default", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert list(Bundle.open(bundle).manifest.variants) == ["int8", "fp32"]


def test_a_recipe_file_names_its_variant(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny-blocks.toml"
    file.write_text('[step]\nscheme = "int4"\nblock = 16\n', encoding="utf-8")
    assert run(bundle, "--recipe", file, "--quiet") == 0
    assert "tiny-blocks" in Bundle.open(bundle).manifest.variants


def test_refusals(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="did you mean 'int8'"):
        run(bundle, "--recipe", "int88")
    with pytest.raises(BundleError, match="does not exist"):
        run(tmp_path / "absent", "--recipe", "int4")
    run(bundle, "--recipe", "int4", "--quiet")
    with pytest.raises(BundleError, match="--force"):
        run(bundle, "--recipe", "int4")
    assert run(bundle, "--recipe", "int4", "--force", "--quiet") == 0


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_must_be_a_number(bundle: Path, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(bundle, "--recipe", "int4", "--threads", threads)
    assert "is not a number of cores" in capsys.readouterr().err or threads == "-1"


def test_a_sweep_prints_its_table(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import wave

    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((synthetic_clip(1.0) * 32767).astype("<i2").tobytes())
    parser = argparse.ArgumentParser()
    SWEEP.add_arguments(parser)
    arguments = ["--recipes", "int4, int8", "--audio", str(tmp_path / "clip.wav"), "--max-new-tokens", "4"]
    output = ["--output", str(tmp_path / "rows.jsonl"), "--threads", "1"]
    assert SWEEP.run(parser.parse_args([str(bundle), *arguments, *output])) == 0
    out, err = capsys.readouterr()
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == ["| fp32", "| int4", "| int8"]
    assert "measuring int4" in err
