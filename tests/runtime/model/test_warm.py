"""Prepared weights: the same results from mapped files, and no use of what is damaged, foreign or not to be written."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import OptionsError, Transcriber
from qwen3_asr_onnx.bundle import prepared
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.model import loading, preparing, session, warm

CLIP = synthetic_clip(2.0)


@pytest.fixture
def folder(store: Path) -> Path:
    """Where the entries of this test lie; the folder is not there yet."""
    return store.parent / "warm"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The graphs that onnxruntime opens from here on."""
    paths: list[Path] = []
    original = session.opened

    def noted(ort: object, path: Path, options: object, provider: str) -> object:
        paths.append(path)
        return original(ort, path, options, provider)

    monkeypatch.setattr(session, "opened", noted)
    return paths


def prepare(bundle: Path, variant: str | None = None) -> bool:
    opened = Bundle.open(bundle)
    return warm.prepare(opened, opened.variant(variant or next(iter(opened.manifest.variants))))


def heard(bundle: Path, variant: str | None = None) -> tuple[str, object]:
    with Transcriber(bundle, variant, threads=1) as asr:
        result = asr.transcribe(CLIP, max_new_tokens=6, language="English")
        return result.text, [segment.token_ids for segment in result.segments]


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def test_a_load_maps_what_was_prepared_and_hears_the_same(tiny_bundle: Path, folder: Path, opened: list[Path]) -> None:
    expected = heard(tiny_bundle)
    assert not folder.exists()  # a load makes nothing
    assert prepare(tiny_bundle)
    (entry,) = entries(folder)  # the encoder alone: the decoder's float32 weights are mapped as they are
    assert sorted(path.name for path in entry.iterdir()) == ["entry.json", "graph.onnx", "weights.bin"]
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    opened.clear()
    assert heard(tiny_bundle) == expected
    assert entry / "graph.onnx" in opened
    assert tiny_bundle / "encoder.onnx" not in opened
    opened.clear()
    assert prepare(tiny_bundle)  # there already
    assert opened == []


def test_the_numbers_are_the_same_to_the_bit(tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mel = np.random.default_rng(0).standard_normal((1, 128, 200), dtype=np.float32)
    found = []
    for gigabytes in ("0", "1"):
        monkeypatch.setenv("QWEN3_ASR_WARM_GB", gigabytes)
        prepare(tiny_bundle)
        with Transcriber(tiny_bundle, threads=1) as asr:
            found.append(asr.encoder.encode([mel[0]])[0])
    assert entries(folder)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.torch
@pytest.mark.parametrize("recipe", ["int4", "fast"])
def test_quantized_weights_are_the_same_when_mapped(
    recipe: str, bundle_copy: Path, folder: Path, opened: list[Path]
) -> None:
    from qwen3_asr_onnx_quantize.apply import quantize_bundle
    from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

    quantize_bundle(bundle_copy, load_recipe(recipe), force=True)
    expected = heard(bundle_copy, recipe)
    assert prepare(bundle_copy, recipe)
    opened.clear()
    assert heard(bundle_copy, recipe) == expected
    assert {path.parent.parent for path in opened} == {folder}  # every session


def test_nothing_is_read_or_made_where_it_is_switched_off(
    tiny_bundle: Path, folder: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(tiny_bundle)
    monkeypatch.setenv("QWEN3_ASR_WARM_GB", "0")
    opened.clear()
    heard(tiny_bundle)
    assert tiny_bundle / "encoder.onnx" in opened
    shutil.rmtree(folder)
    assert not prepare(tiny_bundle)
    assert not folder.exists()
    monkeypatch.setenv("QWEN3_ASR_WARM_GB", "much")
    with pytest.raises(OptionsError, match="QWEN3_ASR_WARM_GB is 'much'"):
        Transcriber(tiny_bundle)


def damage_graph(entry: Path) -> None:
    (entry / "graph.onnx").write_bytes(bytes(100))


def damage_weights(entry: Path) -> None:
    with (entry / "weights.bin").open("r+b") as file:
        file.write(b"other")
    os.utime(entry / "weights.bin", (1, 1))


def truncate(entry: Path) -> None:
    with (entry / "weights.bin").open("r+b") as file:
        file.truncate(64)


def remove_weights(entry: Path) -> None:
    (entry / "weights.bin").unlink()


def of_another_version(entry: Path) -> None:
    (entry / "entry.json").write_text('{"format": 2}', encoding="utf-8")


def no_json(entry: Path) -> None:
    (entry / "entry.json").write_bytes(b"\xff\x00")


def moved_here(entry: Path) -> None:
    """What was made for other weights lies under this name."""
    noted = json.loads((entry / "entry.json").read_text(encoding="utf-8"))
    (entry / "entry.json").write_text(json.dumps({**noted, "key": "0" * 32}), encoding="utf-8")


@pytest.mark.parametrize(
    "harm", [damage_graph, damage_weights, truncate, remove_weights, of_another_version, no_json, moved_here]
)
def test_a_damaged_or_foreign_entry_is_never_used_and_made_again(
    harm: object, tiny_bundle: Path, folder: Path, opened: list[Path]
) -> None:
    expected = heard(tiny_bundle)
    assert prepare(tiny_bundle)
    (entry,) = entries(folder)
    assert callable(harm)
    harm(entry)
    opened.clear()
    assert heard(tiny_bundle) == expected
    assert tiny_bundle / "encoder.onnx" in opened
    assert prepare(tiny_bundle)
    opened.clear()
    assert heard(tiny_bundle) == expected
    assert entry / "graph.onnx" in opened


def test_another_processor_version_or_bundle_has_entries_of_its_own(
    tiny_bundle: Path, bundle_copy: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(tiny_bundle)
    assert prepare(bundle_copy)  # the same bytes elsewhere
    assert len(entries(folder)) == 1
    monkeypatch.setattr(warm, "processor", lambda: "another machine")
    assert prepare(tiny_bundle)
    monkeypatch.setattr(warm, "runtime_version", lambda: "0.1")
    assert prepare(tiny_bundle)
    assert len(entries(folder)) == 3


def test_an_entry_that_onnxruntime_cannot_load_costs_the_warm_start_alone(
    tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = heard(tiny_bundle)
    assert prepare(tiny_bundle)
    (entry,) = entries(folder)
    monkeypatch.setattr(loading, "prepared_graph", lambda *_: entry / "gone.onnx")
    with caplog.at_level(logging.WARNING, "qwen3_asr_onnx"):
        assert heard(tiny_bundle) == expected
    assert "loading without a warm start" in caplog.text


def disk_that_fills_up(graph: Path, target: Path, weights: str, example: object) -> None:
    target.with_name(weights).write_bytes(bytes(1000))
    raise BundleError("onnxruntime cannot write")


def other_numbers(session: object, inputs: object, calls: Iterator[int] = itertools.count()) -> object:  # noqa: B008
    return np.array([next(calls)])


@pytest.mark.parametrize("fault", ["file in the way", "small disk", "disk fills up", "other numbers", "read-only"])
def test_where_nothing_can_be_kept_one_warning_is_all(
    fault: str, tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()
    if fault == "file in the way":
        folder.write_text("", encoding="utf-8")
    elif fault == "small disk":
        monkeypatch.setattr(prepared, "free_bytes", lambda _: 1000)
    elif fault == "disk fills up":
        monkeypatch.setattr(warm, "save_prepared", disk_that_fills_up)
    elif fault == "other numbers":
        monkeypatch.setattr(preparing, "_first_output", other_numbers)
    else:
        folder.mkdir(mode=0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
    with caplog.at_level(logging.WARNING, "qwen3_asr_onnx"):
        path = loading.fetch_prepared(tiny_bundle, None)
    assert len(caplog.records) == 1
    assert f"{tiny_bundle}: no warm start: " in caplog.text
    assert heard(path)
    assert not list(folder.glob("*/*")) if folder.is_dir() else True


def test_entries_that_were_not_used_for_longest_make_room(
    tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare(tiny_bundle)
    (mine,) = entries(folder)
    for age_s, name in ((2e8, "old"), (1e8, "older"), (3e8, "new")):
        shutil.copytree(mine, folder / name)
        os.utime(folder / name / "entry.json", (age_s, age_s))
    size = prepared.prepared_size() // 4
    allowed = 4.5 * size
    monkeypatch.setattr(prepared, "room_for", lambda: int(allowed))
    prepared.keep_prepared("f" * 32, 2 * size, disk_of_one)
    assert {path.name for path in entries(folder)} == {mine.name, "new", "f" * 32}


def disk_of_one(folder: Path) -> None:
    (folder / "graph.onnx").write_bytes(b"graph")
    (folder / "weights.bin").write_bytes(b"weights")


def test_what_is_larger_than_all_that_is_allowed_is_not_made(
    tiny_bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QWEN3_ASR_WARM_GB", "0.0001")
    with caplog.at_level(logging.WARNING, "qwen3_asr_onnx"):
        assert not prepare(tiny_bundle)
    assert "set QWEN3_ASR_WARM_GB" in caplog.text
    assert not folder.exists()


def test_processes_that_prepare_at_once_make_one_entry(tiny_bundle: Path, folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(prepare, [tiny_bundle, tiny_bundle]) == [True, True]
    assert len(entries(folder)) == 1
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]


def test_a_damaged_bundle_is_told_whatever_was_prepared(bundle_copy: Path, folder: Path) -> None:
    assert prepare(bundle_copy)
    (bundle_copy / "encoder.onnx").write_bytes(bytes((bundle_copy / "encoder.onnx").stat().st_size))
    with pytest.raises(BundleError, match=r"encoder\.onnx: contents differ"):
        Transcriber(bundle_copy)
    with pytest.raises(BundleError, match=r"encoder\.onnx: contents differ"):
        prepare(bundle_copy)


def test_worker_serve_and_get_prepare_and_transcribe_does_not(
    tiny_bundle: Path, store: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen3_asr_onnx.bundle import getting
    from qwen3_asr_onnx.worker.host import Choice, Host

    with pytest.raises(BundleError):
        Host()._load(Choice(str(tmp_path / "nothing")))
    Host()._load(Choice(str(tiny_bundle), threads=1))
    assert entries(folder)
    shutil.rmtree(folder)
    monkeypatch.setattr(getting, "get_model", lambda *_: shutil.copytree(tiny_bundle, store / "tiny"))
    assert cli.main(["get", "tiny", "--warm"]) == 0
    assert entries(folder)
