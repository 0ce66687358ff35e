"""What is published of a bundle: archives of the same bytes every time, whole again when unpacked, and their card."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("zstandard", reason="needs the publish extra")

import zstandard

from qwen3_asr_onnx import Bundle, BundleError, OptionsError, Transcriber
from qwen3_asr_onnx.bundle.writing import atomic_directory
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx_export.publishing import archives
from qwen3_asr_onnx_export.publishing.archives import write_archive
from qwen3_asr_onnx_export.publishing.card import Packed, model_card
from qwen3_asr_onnx_export.publishing.package import package_bundle


@pytest.fixture
def two(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle with a second variant, whose encoder is a file of its own, and with files of no variant."""
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "two"))
    manifest = Bundle.open(path).manifest
    shutil.copy(path / "encoder.onnx", path / "encoder.other.onnx")
    (path / "merges.txt").write_text("merges\n", encoding="utf-8")
    size, digest = 7, hashlib.sha256(b"merges\n").hexdigest()
    files = {
        **manifest.files,
        "encoder.other.onnx": manifest.files["encoder.onnx"],
        "merges.txt": replace(manifest.files["encoder.onnx"], size=size, sha256=digest),
    }
    other = replace(manifest.variants["fp32"], encoder="encoder.other.onnx")
    replace(manifest, files=files, variants={**manifest.variants, "other": other}).save(path)
    return path


def unpacked(parts: list[Path], target: Path) -> list[tarfile.TarInfo]:
    data = b"".join(part.read_bytes() for part in parts)
    if ".tar.zst" in parts[0].name:
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
        members = tar.getmembers()
        tar.extractall(target, filter="data")
    return members


@pytest.mark.parametrize("compression", ["tar.zst", "tar.gz"])
def test_every_variant_is_a_bundle_of_its_own_again(two: Path, tmp_path: Path, compression: str) -> None:
    out = tmp_path / "out"
    made = package_bundle(two, out, compression=compression)
    name = Bundle.open(two).manifest.name
    assert [path.name for path in made] == sorted(
        ["README.md", "SHA256SUMS", f"{name}-fp32.{compression}", f"{name}-other.{compression}"]
    )
    for line in (out / "SHA256SUMS").read_text(encoding="ascii").splitlines():
        digest, _, file = line.partition("  ")
        assert hashlib.sha256((out / file).read_bytes()).hexdigest() == digest
    for variant, not_there in (("fp32", "encoder.other.onnx"), ("other", "encoder.onnx")):
        members = unpacked([out / f"{name}-{variant}.{compression}"], tmp_path)
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
            (0, 0, 0, "", 0o644)
        }
        bundle = Bundle.open(tmp_path / f"{name}-{variant}")
        assert list(bundle.manifest.variants) == [variant]
        assert bundle.verify() == []
        assert not (bundle.path / not_there).exists()
        assert (bundle.path / "merges.txt").exists()
        with Transcriber(bundle.path) as asr:
            asr.transcribe(np.zeros(1600, np.float32))


def test_the_same_bundle_gives_the_same_bytes(two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package_bundle(two, tmp_path / "a")
    for path in two.iterdir():
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    real = zstandard.ZstdCompressor
    monkeypatch.setattr(zstandard, "ZstdCompressor", lambda level, threads: real(level=level, threads=3))
    package_bundle(two, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_large_archive_is_cut_and_its_parts_are_told(two: Path, tmp_path: Path) -> None:
    made = package_bundle(two, tmp_path / "out", variants=["fp32"], part_bytes=30_000)
    parts = [path for path in made if ".tar.zst" in path.name]
    assert len(parts) > 2
    assert [path.name[-3:] for path in parts] == [f".{n:02d}" for n in range(len(parts))]
    assert {path.stat().st_size for path in parts[:-1]} == {30_000}
    whole = unpacked(parts, tmp_path)
    assert len(whole) == len(Bundle.open(tmp_path / whole[0].name.partition("/")[0]).manifest.files) + 1
    assert len((tmp_path / "out" / "SHA256SUMS").read_text(encoding="ascii").splitlines()) == len(parts)
    assert f"cat {parts[0].name[:-3]}.?? > {parts[0].name[:-3]}" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_float32_that_came_from_bfloat16_halves(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal(1 << 18).astype(np.float32).view(np.uint32)
    (tmp_path / "weights").write_bytes((values & 0xFFFF0000).tobytes())
    (path,) = write_archive({"weights": tmp_path / "weights"}, "x", tmp_path / "x.tar.zst")
    assert path.stat().st_size < 0.55 * 4 * (1 << 18)


def test_the_command_line_and_another_layout(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_asr_onnx_export.layouts import packaging

    asked: list[tuple[str, str | None]] = []

    def write(origin: Path, output: Path, layout: str, *, variant: str | None = None) -> None:
        assert origin == two
        asked.append((layout, variant))
        with atomic_directory(output) as folder:
            (folder / "tokenizer").mkdir()
            (folder / "tokenizer" / "vocab.json").write_text("{}", encoding="utf-8")
            (folder / "decoder.int8.onnx").write_bytes(b"graph")

    monkeypatch.setattr(packaging, "write_layout", write)
    measured = tmp_path / "table.md"
    measured.write_text("| WER |\n|---|\n| 4.2 |\n", encoding="utf-8")
    arguments = ["--layout", "bundle", "--layout", "sherpa", "--variant", "other", "--measured", str(measured)]
    assert cli.main(["package", str(two), str(tmp_path / "out"), *arguments, "--base-model", "me/base"]) == 0
    out, err = capsys.readouterr()
    assert asked == [("sherpa", "other")]
    assert [Path(line).name for line in out.splitlines()] == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert err.rstrip().endswith("in 4 files")
    name = Bundle.open(two).manifest.name
    members = unpacked([tmp_path / "out" / f"{name}-other-sherpa.tar.zst"], tmp_path)
    folder = f"{name}-other-sherpa"
    assert [member.name for member in members] == [f"{folder}/decoder.int8.onnx", f"{folder}/tokenizer/vocab.json"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert '\nbase_model: "me/base"\n' in card
    assert "| 4.2 |" in card
    assert f'encoder="{folder}/encoder.int8.onnx"' in card
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_what_cannot_be_packed_is_refused_and_leaves_nothing(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionsError, match=r"no variant 'int5'; this bundle has: fp32, other"):
        package_bundle(two, out, variants=["int5"])
    with pytest.raises(BundleError, match="nowhere"):
        package_bundle(tmp_path / "nowhere", out)
    assert cli.main(["package", str(two), str(out), "--measured", str(tmp_path / "none.md")]) == 2
    graph = two / "encoder.other.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"encoder\.other\.onnx: .*export or download the bundle again"):
        package_bundle(two, out)
    package_bundle(two, out, variants=["fp32"])  # which is intact
    with pytest.raises(BundleError, match="out"):
        package_bundle(two, out, variants=["fp32"])
    package_bundle(two, out, variants=["fp32"], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "two"]


def test_without_zstandard_there_is_gzip(two: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from qwen3_asr_onnx.commands.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    run = [sys.executable, "-c", script, "package", str(two), str(tmp_path / "out"), "--variant", "fp32"]
    failed = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert failed.returncode != 0
    assert "pip install 'qwen3-asr-onnx[publish]', or give --format tar.gz" in failed.stderr
    assert subprocess.run([*run, "--format", "tar.gz", "-q"], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("name", ["qwen3-asr-0.6b", "mine"])
def test_the_card_names_base_and_licence_where_they_are_known(two: Path, name: str) -> None:
    manifest = replace(Bundle.open(two).manifest, name=name)
    card = model_card(manifest, [Packed("x-fp32", "fp32", "bundle", {"x-fp32.tar.zst": 10}, 20)])
    assert ('license: "apache-2.0"' in card) == (name != "mine")
    assert ('base_model: "Qwen/Qwen3-ASR-0.6B"' in card) == (name != "mine")
    assert "Nothing was measured on these files" in card
    assert "- `fp32` (cpu" in card
    assert "| x-fp32.tar.zst | fp32 | bundle | 0.0 MB | 0.0 MB |" in card
    assert archives.PART_BYTES < 2**31
