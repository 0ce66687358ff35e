"""Bundles of quantised variants alone: nothing of the source's that they do not need, and the source untouched."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_FILE, EMBEDDINGS_INT8_FILE
from qwen3_asr_onnx.errors import BundleError, LimitError
from qwen3_asr_onnx_quantize.apply import quantize_bundle, quantize_into
from qwen3_asr_onnx_quantize.cli import COMMAND
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_only_the_variant_is_there(bundle: Path, tmp_path: Path) -> None:
    before = contents(bundle)
    made = quantize_into(tmp_path / "new", bundle, load_recipe("int4"))
    assert contents(bundle) == before
    assert made.verify() == []
    assert list(made.manifest.variants) == ["int4"]
    found = {path.name for path in (tmp_path / "new").iterdir()}
    assert found == {*made.manifest.files, "config.json"}
    assert not any(path.is_symlink() for path in (tmp_path / "new").iterdir())
    assert {name for name in found if name.endswith((".onnx", ".data", ".bin"))} == {
        *made.manifest.variants["int4"].files
    }
    assert "tokenizer.json" in found


def test_it_is_the_same_variant(bundle: Path, tmp_path: Path) -> None:
    quantize_into(tmp_path / "new", bundle, load_recipe("fast"))
    quantize_bundle(bundle, load_recipe("fast"))
    options = TranscribeOptions(max_new_tokens=8)
    for path in (bundle, tmp_path / "new"):
        assert Transcriber(path, "fast", threads=1).transcribe(synthetic_clip(2.5), options).token_ids
    ours, theirs = (Bundle.open(path).manifest.variants["fast"] for path in (tmp_path / "new", bundle))
    assert ours == theirs
    for file in ours.files:
        assert (tmp_path / "new" / file).read_bytes() == (bundle / file).read_bytes()


def test_compact_leaves_the_half_precision_table_out(bundle: Path, tmp_path: Path) -> None:
    made = quantize_into(tmp_path / "new", bundle, load_recipe("compact"))
    assert EMBEDDINGS_FILE not in made.manifest.files
    assert (tmp_path / "new" / EMBEDDINGS_INT8_FILE).is_file()
    with Transcriber(tmp_path / "new", threads=1) as compact, Transcriber(bundle, "fp32", threads=1) as full:
        ids = np.arange(full.manifest.decoder.vocab_size)
        rows, exact = compact.embeddings.rows(ids), full.embeddings.rows(ids)
    assert rows.dtype == np.float32
    # Half a code is the most a value can be off.
    assert (np.abs(rows - exact) <= 0.51 * np.abs(exact).max(axis=1, keepdims=True) / 127).all()


def test_refusals_leave_nothing_behind(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="is the bundle itself"):
        quantize_into(bundle, bundle, load_recipe("int4"), force=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("keep")
    with pytest.raises(BundleError, match="exists and is not empty"):
        quantize_into(tmp_path / "full", bundle, load_recipe("int4"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(LimitError):
        quantize_into(tmp_path / "new", bundle, load_recipe("int4"))
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "full"}


def test_from_the_command_line(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    COMMAND.add_arguments(parser)
    output = tmp_path / "new"
    argv = [str(bundle), "--recipe", "compact", "--output", str(output), "--threads", "1"]
    assert COMMAND.run(parser.parse_args(argv)) == 0
    assert capsys.readouterr().err == f"{output}: variant compact, 0.2 MB in 6 files\n"
    assert list(Bundle.open(bundle).manifest.variants) == ["fp32"]
    with pytest.raises(BundleError, match="exists"):
        COMMAND.run(parser.parse_args(argv))
