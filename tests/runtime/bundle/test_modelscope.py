"""Models of ModelScope: its list of files believed, its mirrors found, its downloads checked and gone on with."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.modelscope_server import FakeModelScope, fake_modelscope

from qwen3_asr_onnx.bundle.checkpoints import fetch_model, look_into
from qwen3_asr_onnx.bundle.choices import Origin, read_choices
from qwen3_asr_onnx.bundle.getting import get_model
from qwen3_asr_onnx.bundle.modelscope import open_modelscope
from qwen3_asr_onnx.errors import BundleError, LimitError

REPO = "Qwen/Qwen3-ASR-0.6B"
WEIGHTS = bytes(range(256)) * 20
NEEDED = {
    "config.json": json.dumps({"model_type": "qwen3_asr"}).encode(),
    "vocab.json": b"{}",
    "model.safetensors": WEIGHTS,
}
OTHERS = {"README.md": b"#", "assets/config.json": b"{}", "pytorch_model.bin": b"pickle"}


@pytest.fixture
def scope(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModelScope]:
    """A ModelScope with a checkpoint, an empty store, and the variables that lead to them."""
    pytest.importorskip("huggingface_hub", "1.5", reason="needs the hub extra")
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    with fake_modelscope() as running:
        running.files[REPO] = {**NEEDED, **OTHERS}
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


def fetched(repo_id: str = REPO) -> Path:
    return fetch_model(look_into(open_modelscope(repo_id), quiet=True), quiet=True)


def test_only_what_is_needed_is_fetched_and_stays_for_the_next(scope: FakeModelScope, tmp_path: Path) -> None:
    folder = fetched()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == NEEDED
    assert folder.is_relative_to(tmp_path / "modelscope")
    assert {name for name, _ in scope.asked} == NEEDED.keys()
    scope.asked.clear()
    assert fetched() == folder
    assert scope.asked == []
    (folder / "vocab.json").write_bytes(b"[]")  # of the same size
    fetched()
    assert [name for name, _ in scope.asked] == ["vocab.json"]


def test_a_broken_download_goes_on(scope: FakeModelScope) -> None:
    scope.cuts["model.safetensors"] = 1500
    with pytest.raises(
        BundleError, match=r"modelscope:Qwen/Qwen3-ASR-0\.6B: fetching it failed: .*; try again, it goes on"
    ):
        fetched()
    scope.cuts.clear()
    scope.asked.clear()
    fetched()
    assert scope.asked == [("model.safetensors", "bytes=1500-"), ("vocab.json", "")]


def test_a_damaged_file_is_refused_and_fetched_anew(scope: FakeModelScope) -> None:
    scope.sent_instead["model.safetensors"] = WEIGHTS[::-1]
    with pytest.raises(
        BundleError, match=r"model\.safetensors arrived damaged: its digest is not the one in ModelScope's"
    ):
        fetched()
    scope.sent_instead.clear()
    assert (fetched() / "model.safetensors").read_bytes() == WEIGHTS


def test_credentials_reach_their_owner_alone(scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
    scope.private.add(REPO)
    with pytest.raises(BundleError, match=r"ModelScope refuses access \(403\); set MODELSCOPE_API_TOKEN"):
        fetched()
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    fetched()
    assert not scope.leaked


def test_what_is_not_there_is_told(scope: FakeModelScope) -> None:
    with pytest.raises(BundleError, match=r"ModelScope has no such model; did you mean Qwen/Qwen3-ASR-1\.7B\?"):
        open_modelscope("Qwen/Qwen3-ASR-1.7")
    with pytest.raises(BundleError, match="no such model; check the name, and that it has a revision 'v2'"):
        open_modelscope(REPO, "v2")
    scope.files[REPO]["config.json"] = b'{"model_type": "llama"}'
    with pytest.raises(BundleError, match="no Qwen3-ASR model but one of the type 'llama'"):
        fetched()
    assert [name for name, _ in scope.asked] == ["config.json"]


@pytest.mark.parametrize("variable", ["MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"])
def test_a_mirror_is_named_as_the_sdk_names_it(
    scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    monkeypatch.setenv(variable, scope.url + "/")
    assert fetched().is_dir()


def test_without_a_connection_what_is_there_is_used(scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        BundleError, match=r"no earlier download of it, and http://127\.0\.0\.1:9 gives no list of files"
    ):
        fetched()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", scope.url)
    folder = fetched()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    assert fetched() == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"no weights that can be read; a part of it only is in .*cannot be reached"):
        fetched()


def test_a_full_disk_is_told_in_mb_with_the_place(scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(LimitError, match=r"modelscope.*: the disk is full, [0-9,.]+ MB are free; .*MODELSCOPE_CACHE"):
        fetched()


@pytest.mark.parametrize("digest", ["../../../evil", "a" * 63, 5, None])
def test_a_digest_that_is_none_names_no_file(
    scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch, digest: object
) -> None:
    files = [{"Path": name, "Size": 1, "Sha256": digest or ""} for name in NEEDED]
    body = json.dumps({"Data": {"Files": files}}).encode()
    monkeypatch.setattr("tests.support.modelscope_server.Handler.list_files", lambda self, _: self.reply(200, body))
    with pytest.raises(BundleError, match=r"what is no size and digest|neither a checkpoint nor an adapter"):
        fetched()
    assert scope.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        pytest.param(b"[" * 100_000, id="deep"),
        b"[]",
        b'{"Data": {"Files": [{"Path": "a"}]}}',
        b'{"Data": {"Files": [3]}}',
    ],
)
def test_a_list_that_cannot_be_read_is_told(
    scope: FakeModelScope, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr("tests.support.modelscope_server.Handler.list_files", lambda self, _: self.reply(200, body))
    with pytest.raises(BundleError, match=r"list of files|neither a checkpoint nor"):
        fetched()


def test_it_is_got_under_its_own_name(scope: FakeModelScope, tiny_bundle: Path, store: Path) -> None:
    scope.files["some/Bundle"] = {path.name: path.read_bytes() for path in tiny_bundle.iterdir()}
    told: list[str] = []
    assert get_model("modelscope:some/Bundle", say=told.append) == store / "bundle"
    assert read_choices().origins == {"bundle": Origin("modelscope:some/Bundle", "", "fp32")}
    assert told[0].endswith("remove that folder to free them")
