from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.manifests import edit_manifest, set_field

from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.manifest import (
    EMBEDDINGS_FILE,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    DecoderDims,
    EncoderDims,
    Manifest,
    MelParams,
    PromptPieces,
    SpecialTokens,
    Variant,
)
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.model import session

SIZES = {
    "encoder.onnx": 1_000,
    "encoder.data": 200_000,
    "decoder_init.onnx": 2_000,
    "decoder_step.onnx": 3_000,
    "decoder_weights.data": 4_000_000,
    "decoder_init.int4.onnx": 2_500,
    "decoder_step.int4.onnx": 3_500,
    "decoder_weights.int4.data": 1_000_000,
    TOKENIZER_FILE: 50_000,
    EMBEDDINGS_FILE: 600_000,
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of the right form whose graphs are empty: `info` never runs them. Two variants share an encoder."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, size in SIZES.items():
        (folder / name).write_bytes(name.encode() + bytes(size - len(name)))
    manifest = Manifest(
        name="Tiny-ASR",
        kind="asr",
        encoder=EncoderDims(2, 64, 4, 128, 16, 96),
        decoder=DecoderDims(3, 96, 192, 6, 2, 16, 300, 1e6, 1e-6, 65_536),
        mel=MelParams(),
        tokens=SpecialTokens(10, (11, 12)),
        prompt=PromptPieces("{context}{audio}{forced}", "language {language}"),
        languages=("English", "Chinese"),
        variants={
            "fp32": Variant(
                *("encoder.onnx", "decoder_init.onnx", "decoder_step.onnx"),
                weights=("encoder.data", "decoder_weights.data"),
                recipe={"dtype": "float32"},
                devices=("cpu", "cuda"),
            ),
            "int4": Variant(
                *("encoder.onnx", "decoder_init.int4.onnx", "decoder_step.int4.onnx"),
                weights=("encoder.data", "decoder_weights.int4.data"),
            ),
        },
        files={name: file_record(folder / name) for name in SIZES},
        source={"repo": "someone/tiny", "tied": True},
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def info(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return the exit status and stdout, having checked that stderr is empty."""
    status = cli.main(["info", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def info_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    status, out = info(capsys, *arguments, "--json")
    return status, json.loads(out)


def test_people_see_what_the_bundle_holds(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = info(capsys, bundle)
    assert status == 0
    text = " ".join(out.split())
    for expected in (
        f"bundle {bundle} ",
        "model Tiny-ASR (asr)",
        "source repo someone/tiny, tied true",
        "16000 Hz, 128 mel bands, windows of 8 s",
        "encoder 2 layers, width 64, 4 heads",
        "decoder 3 layers, width 96, 6 heads (2 for keys and values, 16 wide), vocabulary 300, 65536 positions",
        "languages 2: English, Chinese",
        "size 5.86 MB in 10 files",
        f"decoder_weights.data 4 MB {file_record(bundle / 'decoder_weights.data').sha256} ",
        "variant fp32: 4.86 MB with tokenizer and embeddings, for cpu, cuda",
        "weights encoder.data, decoder_weights.data recipe dtype float32",
        "variant int4: 1.86 MB with tokenizer and embeddings, for cpu",
        "recipe not recorded",
    ):
        assert expected in text
    assert "verified" not in text
    assert all(line == line.rstrip() for line in out.splitlines())


def test_machines_get_json(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, body = info_json(capsys, bundle)
    assert status == 0
    assert body["path"] == str(bundle)
    assert body["decoder"]["kv_heads"] == 2
    assert body["size"] == sum(SIZES.values())
    assert body["files"]["encoder.onnx"]["size"] == 1_000
    assert body["variants"]["int4"]["devices"] == ["cpu"]
    assert body["problems"] is None
    assert body["faults"] == {}


def test_a_shared_file_counts_once(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, body = info_json(capsys, bundle)
    shared = sum(SIZES[name] for name in ("encoder.onnx", "encoder.data", TOKENIZER_FILE, EMBEDDINGS_FILE))
    assert body["variants"]["fp32"]["size"] == shared + 4_005_000
    assert body["variants"]["int4"]["size"] == shared + 1_006_000
    assert body["size"] == shared + 4_005_000 + 1_006_000


def test_this_machine(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, body = info_json(capsys, bundle)
    assert body["machine"]["cpus"] >= 1
    assert body["machine"]["onnxruntime"] == session.runtime_version()
    assert "CPUExecutionProvider" in body["machine"]["providers"]


def test_a_machine_without_onnxruntime_still_gets_the_report(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, body = info_json(capsys, bundle)
    assert status == 0
    assert body["machine"]["onnxruntime"] is None
    assert body["machine"]["providers"] == []
    _, out = info(capsys, bundle)
    assert "pip install 'qwen3-asr-onnx[cpu]'" in out


def test_verify_a_sound_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = info(capsys, bundle, "--verify")
    assert status == 0
    assert "all 10 files are as the manifest says" in out
    assert info_json(capsys, bundle, "--verify")[1]["problems"] == []


def test_verify_names_every_damaged_file(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flipped = bytearray((bundle / "decoder_weights.data").read_bytes())
    flipped[1_234_567] ^= 1
    (bundle / "decoder_weights.data").write_bytes(flipped)
    (bundle / "encoder.data").write_bytes(b"short")
    (bundle / "decoder_step.int4.onnx").unlink()
    status, body = info_json(capsys, bundle, "--verify")
    assert status == 1
    assert len(body["problems"]) == 3
    for name in ("decoder_weights.data", "encoder.data", "decoder_step.int4.onnx"):
        assert any(name in problem for problem in body["problems"])
    status, out = info(capsys, bundle, "--verify")
    assert status == 1
    assert f"{bundle / 'decoder_weights.data'}: contents differ" in out


def test_missing_and_truncated_files_show_without_hashing(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "encoder.data").write_bytes(b"short")
    (bundle / TOKENIZER_FILE).unlink()
    status, out = info(capsys, bundle)
    assert status == 1
    assert "  5 bytes instead of 200000\n" in out
    assert "  missing\n" in out


def test_a_variant_that_names_an_unlisted_file_does_not_crash(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.from_json((bundle / MANIFEST_FILE).read_text(encoding="utf-8"), bundle)
    files = {name: record for name, record in manifest.files.items() if name != "encoder.data"}
    (bundle / MANIFEST_FILE).write_text(replace(manifest, files=files).to_json(), encoding="utf-8")
    status, body = info_json(capsys, bundle)
    assert (status, body["faults"]) == (1, {"encoder.data": "needed by a variant, not listed in the manifest"})
    status, out = info(capsys, bundle, "--verify")
    assert status == 1
    assert out.count("encoder.data: needed by a variant") == 2


def test_an_almost_empty_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.from_json((bundle / MANIFEST_FILE).read_text(encoding="utf-8"), bundle)
    bare = replace(manifest, files={}, variants={}, languages=(), source={})
    (bundle / MANIFEST_FILE).write_text(bare.to_json(), encoding="utf-8")
    status, out = info(capsys, bundle)
    assert status == 0
    assert "no variants" in out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no config.json, so this is not a bundle"),
        ("", "not valid JSON"),
        ("{}", "not a qwen3-asr-onnx bundle"),
        ('{"format": "qwen3-asr-onnx", "format_version": 99}', "bundle format 99"),
        ("[1]", "not a qwen3-asr-onnx bundle"),
        ("[" * 100_000, "levels deep"),
        ('{"format": "qwen3-asr-onnx", "format_version": 2, "name": "\\ud800", "mel": 1e999}', "too large a number"),
    ],
)
def test_what_is_no_bundle_is_reported_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / MANIFEST_FILE).write_text(content)
    (tmp_path / "encoder.data").write_bytes(b"12345")
    (tmp_path / "folder").mkdir()
    status, out = info(capsys, tmp_path)
    assert status == 1
    assert expected in out
    assert "  encoder.data  " in out
    assert "cpus" in out
    status, body = info_json(capsys, tmp_path, "--verify")
    assert status == 1
    assert expected in body["problems"][0]
    assert (body["files"]["encoder.data"], body["files"]["folder"]) == (5, -1)


def test_of_a_damaged_manifest_what_can_be_read_is_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_field(bundle, "decoder.layers", 0)
    status, out = info(capsys, bundle)
    assert status == 1
    assert "name         'Tiny-ASR'" in out
    assert "decoder.layers is 0, not a whole number from 1 to 512" in out


def test_a_variant_that_was_not_downloaded_is_no_fault(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `pull` leaves: the files of the variants asked for, and not those that no variant reads."""
    absent = ("decoder_init.int4.onnx", "decoder_step.int4.onnx", "decoder_weights.int4.data")
    for name in absent:
        (bundle / name).unlink()
    edit_manifest(bundle, lambda body: body["files"].update({"vocab.json": {"size": 5, "sha256": "0" * 64}}))
    status, out = info(capsys, bundle, "--verify")
    assert status == 0
    assert "all 7 files are as the manifest says" in out
    assert info_json(capsys, bundle)[1]["not_here"] == sorted([*absent, "vocab.json"])
    (bundle / absent[0]).touch()  # now somebody has begun with it
    assert info_json(capsys, bundle)[1]["faults"] == {
        "decoder_init.int4.onnx": "0 bytes instead of 2500",
        "decoder_step.int4.onnx": "missing",
        "decoder_weights.int4.data": "missing",
    }


def test_a_path_that_does_not_exist_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_without_a_bundle_every_place_that_is_written_to_is_listed(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/somewhere/hub")
    status, body = info_json(capsys)
    assert status == 0
    home = store.parent
    assert body["places"] == {
        "models": str(home),
        "warm start": str(home / "warm"),
        "journals": str(home / "state"),
        "hub": "/somewhere/hub",
    }
    (home / "warm" / "entry").mkdir(parents=True)
    (home / "warm" / "entry" / "weights.bin").write_bytes(bytes(2_000_000))
    status, out = info(capsys)
    assert f"{home / 'warm'} (2.0 MB; may be deleted at any time)" in out
    assert "onnxruntime" in out


def test_nothing_can_be_verified_without_a_bundle(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--verify"]) == 2
    assert "--verify needs the bundle to verify" in capsys.readouterr().err
