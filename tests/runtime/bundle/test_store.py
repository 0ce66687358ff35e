"""The model store: names, defaults, origins, removal that is whole, and what is broken stays visible."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.bundle import store as shelves
from qwen3_asr_onnx.bundle.choices import Origin, home, read_choices, update_choices
from qwen3_asr_onnx.bundle.locks import locked
from qwen3_asr_onnx.errors import BundleError


@pytest.fixture
def filled(store: Path, tiny_bundle: Path) -> Path:
    """A store with three models: `one`, `two`, and `aligner`, whose bundle says so."""
    for name in ("one", "two", "aligner"):
        shutil.copytree(tiny_bundle, store / name)
    manifest = store / "aligner" / "config.json"
    body = json.loads(manifest.read_text(encoding="utf-8"))
    body |= {"kind": "aligner", "timestamps": {"token": 3, "classes": 4, "segment_ms": 80}}
    manifest.write_text(json.dumps(body), encoding="utf-8")
    return store


def test_the_home_is_that_of_the_system_or_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == Path(os.environ["QWEN3_ASR_HOME"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QWEN3_ASR_HOME", "here")
    assert home() == tmp_path / "here"
    monkeypatch.setenv("QWEN3_ASR_HOME", "~/models")
    assert home() == Path.home() / "models"
    monkeypatch.setenv("QWEN3_ASR_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "qwen3-asr-onnx" in home().parts
    if sys.platform == "linux":
        assert home() == tmp_path / "data" / "qwen3-asr-onnx"


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "ü", "-x", "x" * 97, "a\0b", "a\n"])
def test_only_plain_names_are_names(store: Path, name: str) -> None:
    store.mkdir(parents=True)
    assert not shelves.is_name(name)
    assert shelves.find(name) is None
    with pytest.raises(BundleError, match="no name for a model"):
        shelves.folder_of(name)


def test_the_first_of_a_family_is_its_default(filled: Path) -> None:
    assert shelves.default_name("asr") is None  # two, and none was chosen
    assert shelves.default_name("aligner") == "aligner"  # the only one
    shelves.record("two", Origin("Qwen/Two", "c" * 40, "int4"))
    shelves.record("one", Origin("Qwen/One", "d" * 40))
    assert shelves.default_name("asr") == "two"
    assert read_choices().defaults == {"asr": "two"}
    assert shelves.set_default("one") == "asr"
    assert shelves.default_folder("asr") == filled / "one"
    assert [(entry.name, entry.is_default) for entry in shelves.entries()] == [
        ("aligner", True),
        ("one", True),
        ("two", False),
    ]
    shelves.remove("one")
    assert shelves.default_name("asr") == "two"  # the only one that is left
    assert read_choices().origins.keys() == {"two"}


def test_models_are_known_by_where_they_came_from(filled: Path) -> None:
    for name in ("one", "two"):
        shelves.record(name, Origin("Qwen/Model", name * 4, "int4"))
    assert shelves.got_from("Qwen/Model") == ["one", "two"]
    shelves.set_default("two")
    assert shelves.got_from("Qwen/Model") == ["two", "one"]
    assert shelves.got_from("Qwen/Model", "oneone") == ["one"]
    assert shelves.got_from("Qwen/Other") == []
    shutil.rmtree(filled / "one")
    assert shelves.got_from("Qwen/Model", "one") == []


def test_a_model_that_is_in_use_can_be_removed(filled: Path, make_signal: object) -> None:
    with Transcriber("one") as asr:
        if sys.platform == "win32":
            with pytest.raises(BundleError, match="cannot be written"):
                shelves.remove("one")
            return
        n_bytes = sum(path.stat().st_size for path in (filled / "one").iterdir())
        assert shelves.remove("one") == n_bytes
        assert asr.embeddings is not None
    assert sorted(path.name for path in filled.iterdir() if not path.name.startswith(".")) == ["aligner", "two"]
    assert [path.name for path in filled.iterdir() if path.name.startswith(".")] == [".one.lock"]
    with pytest.raises(BundleError, match="one: no such model; here are aligner, two"):
        shelves.remove("one")
    with pytest.raises(BundleError, match=r"twp: no such model; did you mean two\?"):
        shelves.remove("twp")


def test_who_is_killed_while_removing_leaves_nothing_for_long(filled: Path) -> None:
    half = filled / ".one.partial-0123abcd"
    half.mkdir()
    (filled / "one").rename(half / "one")
    moved = filled / ".two.old-0123abcd"  # and this one while it was replaced
    moved.mkdir()
    (filled / "two").rename(moved / "two")
    with shelves.claimed("three"):
        pass
    assert sorted(path.name for path in filled.iterdir()) == [".three.lock", "aligner", "two"]


def test_what_is_being_made_is_left_alone(filled: Path) -> None:
    with shelves.claimed("one"), pytest.raises(BundleError, match="one: another process is making or removing"):
        shelves.remove("one")
    assert (filled / "one" / "config.json").is_file()
    shelves.remove("one")


def test_two_that_choose_at_once_lose_nothing(filled: Path) -> None:
    """Locks are held by open files, so threads stand for processes."""

    def choose(name: str) -> None:
        for _ in range(30):
            update_choices(lambda choices: choices.origins.update({name: Origin(name)}))

    with ThreadPoolExecutor() as pool:
        list(pool.map(choose, ("one", "two", "aligner")))
    assert read_choices().origins.keys() == {"one", "two", "aligner"}
    assert sorted(path.name for path in filled.parent.iterdir()) == [".models.json.lock", "models", "models.json"]


def test_a_lock_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as first, locked(tmp_path / "lock", 0.1) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "lock") as again:
        assert again


@pytest.mark.parametrize("text", ["", "{", "[]", '{"defaults": 3, "origins": {"one": []}}', '{"defaults": {"asr": 5}}'])
def test_a_damaged_file_of_choices_costs_the_choices_alone(filled: Path, text: str) -> None:
    (filled.parent / "models.json").write_text(text, encoding="utf-8")
    assert len(shelves.entries()) == 3
    assert shelves.default_name("asr") is None
    shelves.set_default("two")
    assert shelves.default_name("asr") == "two"


def test_broken_models_are_listed_as_such(filled: Path) -> None:
    (filled / "one" / "config.json").write_text("{", encoding="utf-8")
    next((filled / "two").glob("*.data")).unlink()
    (filled / "empty").mkdir()
    problems = {entry.name: entry.problem for entry in shelves.entries()}
    assert "not valid JSON" in problems["one"]
    assert "missing" in problems["two"]
    assert "no config.json" in problems["empty"]
    assert problems["aligner"] == ""
    with pytest.raises(BundleError, match="not valid JSON"):
        shelves.set_default("one")
    for name in ("one", "two", "empty"):
        shelves.remove(name)


def test_a_link_is_not_followed_to_its_end(filled: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    (filled / "linked").symlink_to(tiny_bundle)
    assert shelves.located("linked", "asr") == filled / "linked"
    with pytest.raises(BundleError, match="is a link"):
        shelves.remove("linked")


def test_a_store_that_cannot_be_written_says_so(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("qwen3_asr_onnx.bundle.locks.os.open", read_only)
    for action in (shelves.remove, shelves.set_default):
        with pytest.raises(BundleError, match=r"cannot be written \(Read-only file system\); set QWEN3_ASR_HOME"):
            action("one")
    assert shelves.default_name("aligner") == "aligner"  # and read it can be


def test_a_store_that_is_a_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("QWEN3_ASR_HOME", str(tmp_path / "file"))
    assert shelves.entries() == []
    for action in (lambda: shelves.claimed("one").__enter__(), lambda: update_choices(lambda _: None)):
        with pytest.raises(BundleError, match="QWEN3_ASR_HOME"):
            action()
