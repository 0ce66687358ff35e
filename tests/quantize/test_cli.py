from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.errors import AudioError, BundleError, OptionsError
from qwen3_asr_onnx_quantize.calibration.clips import load_clips
from qwen3_asr_onnx_quantize.cli import COMMAND, SWEEP


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    return COMMAND.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_variant_is_added_and_summed_up(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle, "--recipe", "int4", "--threads", "1") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{bundle}: variant int4, 0.2 MB in 6 files\n"
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
    with pytest.raises(BundleError, match="pass --overwrite"):
        run(bundle, "--recipe", "int4")
    assert run(bundle, "--recipe", "int4", "--overwrite", "-q") == 0
    assert run(bundle, "--recipe", "int4", "--force", "-q") == 0  # its name until now


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_must_be_a_number(bundle: Path, threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(bundle, "--recipe", "int4", "--threads", threads)
    assert "is not a whole number above 0" in capsys.readouterr().err or threads == "-1"


def write_clip(path: Path, seconds: float) -> Path:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((synthetic_clip(seconds) * 32767).astype("<i2").tobytes())
    return path


def write_manifest(folder: Path) -> Path:
    write_clip(folder / "a.wav", 1.0)
    write_clip(folder / "b.wav", 0.6)
    rows = [{"path": "a.wav", "text": "Hello there.", "language": "English"}, {"path": "b.wav", "text": ""}]
    manifest = folder / "data.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


def test_a_calibrated_recipe_takes_its_audio_from_a_manifest_or_files(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="'int4-gptq' is calibrated; name audio files with --calibration"):
        run(bundle, "--recipe", "int4-gptq")
    with pytest.raises(AudioError, match=r"absent\.wav"):
        run(bundle, "--recipe", "int4-gptq", "--calibration", tmp_path / "absent.wav")
    clip = write_clip(tmp_path / "c.wav", 0.5)
    assert run(bundle, "--recipe", "int4-gptq", "--calibration", write_manifest(tmp_path), clip, "--quiet") == 0
    record = Bundle.open(bundle).manifest.variants["int4-gptq"].recipe["calibration"]
    assert (record["clips"], record["seconds"]) == (3, 2.1)


def sweep(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    SWEEP.add_arguments(parser)
    return SWEEP.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_sweep_prints_its_table_and_draws_it(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jiwer", reason="needs the sweep extra")
    pytest.importorskip("matplotlib", reason="needs the sweep extra")
    outputs = ("--output", tmp_path / "rows.jsonl", "--plot", tmp_path / "plot.svg")
    limits = ("--max-new-tokens", "4", "--threads", "1", "--quiet")
    assert sweep(bundle, "--recipes", "int4, int8", "--data", write_manifest(tmp_path), *outputs, *limits) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| fp32", "| int4", "| int8"]
    assert all(heading in lines[0] for heading in ("MB", "step ms", "KL mean", "WER", "CER", "peak MB"))
    assert err == ""
    assert "int8" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert len((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 12


def test_a_sweep_that_is_interrupted_says_where_its_rows_are(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jiwer", reason="needs the sweep extra")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt(15)

    monkeypatch.setattr("qwen3_asr_onnx_quantize.sweep.sweep.run_sweep", interrupted)
    rows = tmp_path / "rows.jsonl"
    assert sweep(bundle, "--recipes", "int4", "--data", write_manifest(tmp_path), "--output", rows) == 143
    assert f"interrupted; what is measured is in {rows}, the same command goes on" in capsys.readouterr().err


@pytest.mark.parametrize("field", ["path", "file", "audio", "audio_filepath"])
def test_a_manifest_may_call_its_audio_as_other_tools_do(tmp_path: Path, field: str) -> None:
    write_clip(tmp_path / "a.wav", 0.2)
    manifest = tmp_path / "data.jsonl"
    manifest.write_text(json.dumps({field: "a.wav", "text": "a\u2028b"}, ensure_ascii=False) + "\n", encoding="utf-8")
    (clip,) = load_clips([str(manifest)])
    assert (clip.waveform.size, clip.text) == (3200, "a\u2028b")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", r"data.jsonl:1: not valid JSON"),
        ('{"text": "a"}', r"data.jsonl:1: names no audio"),
        ('{"path": 3}', r"data.jsonl:1: names no audio"),
        ('{"path": "a.wav", "file": "b.wav"}', r"data.jsonl:1: names no audio: path and file name different files"),
        ('{"path": "a.wav", "text": 3}', r"data.jsonl:1: text is 3"),
    ],
)
def test_a_manifest_that_is_none_says_so(bundle: Path, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "data.jsonl").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(OptionsError, match=message):
        sweep(bundle, "--recipes", "int4", "--data", tmp_path / "data.jsonl", "--output", tmp_path / "rows.jsonl")
    with pytest.raises(OptionsError, match="cannot be read as a UTF-8 manifest"):
        sweep(bundle, "--recipes", "int4", "--data", tmp_path / "none.jsonl", "--output", tmp_path / "rows.jsonl")
