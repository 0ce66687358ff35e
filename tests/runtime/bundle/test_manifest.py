from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import FULL_RANGE_INT8, MANIFEST_FILE, Manifest
from qwen3_asr_onnx.bundle.writing import atomic_directory
from qwen3_asr_onnx.errors import BundleError, LimitError


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_manifest_survives_a_round_trip(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert Manifest.from_json(manifest.to_json(), tiny_bundle) == manifest


def test_a_bundle_made_before_needs_were_recorded_gets_them_from_its_recipe(bundle_copy: Path) -> None:
    body = json.loads((bundle_copy / MANIFEST_FILE).read_text(encoding="utf-8"))
    plain = body["variants"]["fp32"] | {"recipe": {"step": {"scheme": "int4"}, "encoder": {"scheme": "w8a8"}}}
    plain.pop("needs", None)
    reduced = plain | {"recipe": {"scheme": "quantized", "encoder": {"scheme": "w8a8", "reduce_range": True}}}
    edit(bundle_copy, variants={"full": plain, "reduced": reduced, "told": plain | {"needs": []}})
    needs = {name: variant.needs for name, variant in Bundle.open(bundle_copy).manifest.variants.items()}
    assert needs == {"full": (FULL_RANGE_INT8,), "reduced": (), "told": ()}


@pytest.mark.parametrize("changes", [{"family": "other"}, {"answer": {"kind": "json", "tag": "|"}}])
def test_another_family_or_grammar_is_refused(bundle_copy: Path, changes: dict[str, Any]) -> None:
    edit(bundle_copy, **changes)
    with pytest.raises(BundleError, match=r"this version knows '(qwen3-asr|language-tag)'"):
        Bundle.open(bundle_copy)


def test_every_file_is_listed_and_sound(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert {p.name for p in tiny_bundle.iterdir()} == {*bundle.manifest.files, MANIFEST_FILE}
    hashed: list[int] = []
    assert bundle.verify(hashed.append) == []
    assert sum(hashed) == sum(record.size for record in bundle.manifest.files.values())


def test_no_tensor_is_stored_twice(tiny_bundle: Path) -> None:
    """The float32 decoder has one weight file, however many graphs there are."""
    variant = Bundle.open(tiny_bundle).variant("fp32")
    assert variant.weights == ("encoder.data", "decoder_weights.data")


@pytest.mark.parametrize("file", ["encoder.onnx", "encoder.data", "decoder_weights.data", "embed_tokens.bin"])
def test_a_missing_file_is_named(bundle_copy: Path, file: str) -> None:
    (bundle_copy / file).unlink()
    bundle = Bundle.open(bundle_copy)
    with pytest.raises(BundleError, match=rf"{file}: missing; export or download"):
        bundle.variant("fp32")
    assert any(file in problem for problem in bundle.verify())


def test_a_truncated_file_is_named(bundle_copy: Path) -> None:
    path = bundle_copy / "decoder_weights.data"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"decoder_weights.data: \d+ bytes, the manifest says \d+ \(truncated"):
        Bundle.open(bundle_copy).variant("fp32")


def test_a_flipped_bit_is_found_by_verify(bundle_copy: Path) -> None:
    path = bundle_copy / "encoder.data"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    bundle = Bundle.open(bundle_copy)
    bundle.variant("fp32")  # sizes alone cannot tell
    (problem,) = bundle.verify()
    assert "encoder.data: contents differ" in problem


def test_an_absent_variant_raises_and_lists_what_there_is(tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="no variant 'int4'; this bundle has: fp32"):
        Bundle.open(tiny_bundle).variant("int4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a qwen3-asr-onnx bundle"),
        ('{"thinker_config": {}}', "looks like a checkpoint; run: qwen3-asr-onnx export"),
        ('{"format": "qwen3-asr-onnx", "format_version": 99}', "bundle format 99, this version reads 2; upgrade"),
        ('{"format": "qwen3-asr-onnx", "format_version": 1}', "bundle format 1, this version reads 2; export"),
        ('{"format": "qwen3-asr-onnx", "format_version": 2}', "no field kind; export or download the bundle again"),
    ],
)
def test_a_bad_manifest_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["../encoder.onnx", "/etc/passwd", "a\\b", ""])
def test_a_manifest_cannot_reach_outside_its_directory(bundle_copy: Path, name: str) -> None:
    variants = json.loads((bundle_copy / MANIFEST_FILE).read_text(encoding="utf-8"))["variants"]
    variants["fp32"]["encoder"] = name
    edit(bundle_copy, variants=variants)
    with pytest.raises(BundleError, match="is not a plain file name"):
        Bundle.open(bundle_copy)


def test_what_is_not_a_bundle_directory(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no config\.json, so this is not a bundle"):
        Bundle.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="is a file"):
        Bundle.open(tmp_path / "file")


# --- atomic_directory ---


def test_a_directory_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with atomic_directory(target) as partial:
        (partial / "a").write_text("1", encoding="utf-8")
        assert not target.exists()
    assert (target / "a").read_text(encoding="utf-8") == "1"
    assert [p.name for p in target.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    def write(partial: Path) -> None:
        (partial / "a").write_text("1", encoding="utf-8")
        raise error

    with pytest.raises(type(error)), atomic_directory(tmp_path / "bundle") as partial:
        write(partial)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_with_the_path_that_was_given(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with (
        pytest.raises(LimitError, match=rf"{target}: the disk is full, [0-9,.]+ MB are free"),
        atomic_directory(target) as partial,
    ):
        raise OSError(28, "No space left on device", str(partial / "a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_permissions_are_those_of_any_new_directory(tmp_path: Path, mask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the mask is never touched: another thread may just be making a file."""
    before = os.umask(mask)
    try:
        monkeypatch.setattr(os, "umask", None)
        with atomic_directory(tmp_path / "bundle") as partial:
            (partial / "a").touch()
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "bundle" / "a").stat().st_mode & 0o777 == 0o666 & ~mask


def test_an_error_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), atomic_directory(target, overwrite=True):
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["old"]


def test_overwriting_is_asked_for_and_complete(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(BundleError, match="exists and is not empty"), atomic_directory(target):
        raise AssertionError
    with atomic_directory(target, overwrite=True) as partial:
        (partial / "new").touch()
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_failed_rename_puts_the_old_directory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def fail_for_partial(self: Path, other: Path) -> Path:
        if ".partial-" in self.name:
            raise PermissionError
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_for_partial)
    with pytest.raises(PermissionError), atomic_directory(target, overwrite=True):
        pass
    assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.touch()
    with pytest.raises(BundleError, match="is a file"), atomic_directory(target, overwrite=True):
        raise AssertionError
