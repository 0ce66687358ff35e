"""Bundles on the hub: only what a variant needs, only what is undamaged, going on where a download stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.hub_server import COMMIT, FakeHub, used_hub

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.bundle import pull
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.pull import fetch_variant, open_on_hub, pull_to_cache, pull_to_folder
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.compat import Qwen3ASRModel, Qwen3ForcedAligner
from qwen3_asr_onnx.errors import BundleError, LimitError, MissingExtra

REPO = "owner/tiny"
SMALL = ("encoder.small.onnx", "decoder_init.small.onnx", "decoder_step.small.onnx", "decoder_weights.small.data")
COMMON = ("embed_tokens.bin", "tokenizer.json")
PIECE = 10 << 20
"""Bytes that huggingface_hub writes at a time."""
FP32 = ("decoder_init.onnx", "decoder_step.onnx", "decoder_weights.data", "encoder.data", "encoder.onnx")


@pytest.fixture
def hub(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the tiny bundle, which has a second variant there, and huggingface_hub pointed at it."""
    with used_hub(tmp_path / "cache", monkeypatch) as running:
        running.files[REPO] = two_variants(tiny_bundle, tmp_path / "two")
        yield running


def two_variants(tiny_bundle: Path, work: Path) -> dict[str, bytes]:
    """Return the files of the tiny bundle with a variant `small` added, and some that no variant needs."""
    work.mkdir()
    body = json.loads((tiny_bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    files = {path.name: path.read_bytes() for path in tiny_bundle.iterdir() if path.name != MANIFEST_FILE}
    generator = np.random.default_rng(0)
    for name in SMALL:
        files[name] = generator.bytes(3000)
        (work / name).write_bytes(files[name])
        record = file_record(work / name)
        body["files"][name] = {"size": record.size, "sha256": record.sha256}
    encoder, init, step, weights = SMALL
    body["variants"]["small"] = {"encoder": encoder, "decoder_init": init, "decoder_step": step, "weights": [weights]}
    return files | {MANIFEST_FILE: json.dumps(body).encode(), "README.md": b"# tiny", "model.safetensors": b"tensors"}


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def pulled(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)


def test_only_the_files_of_the_variant_are_fetched(hub: FakeHub) -> None:
    folder = fetch_variant(REPO, "small")
    assert pulled(folder) == sorted([*SMALL, *COMMON])
    assert sorted(set(hub.fetched())) == sorted([*SMALL, *COMMON, MANIFEST_FILE])
    assert all((folder / name).read_bytes() == hub.files[REPO][name] for name in pulled(folder))
    assert folder.name == COMMIT
    assert not hub.leaked


def test_the_first_variant_is_the_default_and_runs_without_the_hub(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tiny_expected: dict[str, Any]
) -> None:
    folder = fetch_variant(REPO)
    assert pulled(folder) == sorted([*FP32, *COMMON])
    hub.asked.clear()
    offline(monkeypatch)
    assert fetch_variant(REPO) == folder
    assert fetch_variant(REPO, "fp32", revision="main") == folder
    assert hub.asked == []
    with Transcriber(folder) as asr:
        assert asr.variant == "fp32"


def test_the_drop_in_takes_hub_names(hub: FakeHub) -> None:
    model = Qwen3ASRModel.from_pretrained(REPO, variant="fp32", revision="main")
    assert model.model.variant == "fp32"
    assert not set(hub.fetched()) & {*SMALL, "model.safetensors"}
    with pytest.raises(BundleError, match="cannot align"):
        Qwen3ForcedAligner.from_pretrained(REPO)
    with pytest.raises(BundleError, match="no variant 'int5'; this bundle has: fp32, small"):
        Qwen3ASRModel.from_pretrained(REPO, variant="int5")


def test_a_second_variant_fetches_what_the_first_has_not(hub: FakeHub) -> None:
    fetch_variant(REPO, "small")
    hub.asked.clear()
    fetch_variant(REPO, "fp32")
    # Prefill and step graph are equal here, so their content is fetched and stored once.
    assert sorted(hub.fetched()) == sorted(set(FP32) - {"decoder_step.onnx"})
    hub.asked.clear()
    fetch_variant(REPO, "fp32")
    assert hub.fetched() == []


def test_a_folder_is_returned_as_it_is(tiny_bundle: Path) -> None:
    assert fetch_variant(tiny_bundle, "no such variant") == tiny_bundle
    assert fetch_variant(str(tiny_bundle)) == tiny_bundle
    with pytest.raises(BundleError, match="no such folder, and not a hub id"):
        fetch_variant("./nowhere")


def test_a_wrong_variant_is_refused_before_anything_large_moves(hub: FakeHub) -> None:
    with pytest.raises(BundleError, match=r"owner/tiny: no variant 'int5'; this bundle has: fp32, small"):
        fetch_variant(REPO, "int5")
    assert set(hub.fetched()) == {MANIFEST_FILE}


def test_an_interrupted_download_goes_on_where_it_stopped(hub: FakeHub) -> None:
    name = SMALL[-1]
    hub.cuts[name] = 1000
    with pytest.raises(BundleError, match="owner/tiny: fetching it failed: "):
        fetch_variant(REPO, "small")
    hub.cuts.clear()
    hub.asked.clear()
    folder = fetch_variant(REPO, "small")
    assert [(method, wanted) for method, file, wanted in hub.asked if file == name and method == "GET"] == [
        ("GET", "bytes=1000-")
    ]
    assert (folder / name).read_bytes() == hub.files[REPO][name]
    assert not list(folder.parent.parent.rglob("*.incomplete"))
    assert not hub.leaked


def test_a_killed_pull_goes_on_where_it_stopped(hub: FakeHub, tmp_path: Path) -> None:
    name = SMALL[-1]
    make_larger(hub, name, PIECE + 4000)
    hub.held[name] = PIECE + 2000
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "qwen3_asr_onnx", "pull", REPO, "--variant", "small"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert hub.reached.wait(60)
        wait_for_bytes(tmp_path / "cache", PIECE, process)
        process.send_signal(signal.SIGKILL)
    hub.held.clear()
    hub.release.set()
    hub.asked.clear()
    folder = fetch_variant(REPO, "small")
    assert ("GET", name, f"bytes={PIECE}-") in hub.asked
    assert (folder / name).read_bytes() == hub.files[REPO][name]


def make_larger(hub: FakeHub, name: str, size: int) -> None:
    """Give a file of the bundle another content."""
    content = np.random.default_rng(1).bytes(size)
    body = json.loads(hub.files[REPO][MANIFEST_FILE])
    body["files"][name] = {"size": size, "sha256": hashlib.sha256(content).hexdigest()}
    hub.files[REPO] |= {name: content, MANIFEST_FILE: json.dumps(body).encode()}


def wait_for_bytes(cache: Path, n_bytes: int, process: subprocess.Popen[bytes]) -> None:
    """Return once an unfinished file of that many bytes is on disk."""
    while n_bytes not in [path.stat().st_size for path in cache.rglob("*.incomplete")]:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_server_without_ranges_starts_again(hub: FakeHub) -> None:
    name = SMALL[-1]
    hub.cuts[name] = 1000
    with pytest.raises(BundleError):
        fetch_variant(REPO, "small")
    hub.cuts.clear()
    hub.ranges = False
    assert (fetch_variant(REPO, "small") / name).read_bytes() == hub.files[REPO][name]


def test_the_steps_are_logged(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "qwen3_asr_onnx.bundle"):
        fetch_variant(REPO, "small")
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith(f"{REPO}: commit ")
    assert any(
        f"{REPO}: {SMALL[-1]} of " in line and line.endswith(" bytes, 0 of them from an earlier attempt")
        for line in told
    )


def test_damaged_content_is_refused_removed_and_fetched_anew(hub: FakeHub) -> None:
    name = SMALL[-1]
    hub.sent_instead[name] = b"x" * 3000
    with pytest.raises(BundleError, match=rf"owner/tiny: {name} arrived damaged: its digest is not the one"):
        fetch_variant(REPO, "small")
    cache = Path(hub_cache())
    assert not list(cache.rglob(name))
    assert not list(cache.rglob("*.incomplete"))
    hub.sent_instead.clear()
    assert (fetch_variant(REPO, "small") / name).read_bytes() == hub.files[REPO][name]


def hub_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def test_a_truncated_file_in_the_cache_is_fetched_again(hub: FakeHub) -> None:
    folder = fetch_variant(REPO, "small")
    (folder / SMALL[-1]).resolve().write_bytes(b"short")
    hub.asked.clear()
    fetch_variant(REPO, "small")
    assert hub.fetched() == [SMALL[-1]]


def test_pull_checks_digests_of_what_is_there(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch_variant(REPO, "small")
    (folder / SMALL[0]).resolve().write_bytes(b"y" * 3000)
    hub.asked.clear()
    assert cli.main(["pull", REPO, "--variant", "small"]) == 0
    assert hub.fetched() == [SMALL[0]]
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "owner/tiny: small, " in err
    assert "digests checked" in err
    assert cli.main(["pull", REPO, "--all", "-q"]) == 0
    assert pulled(folder) == sorted([*SMALL, *COMMON, *FP32])
    assert capsys.readouterr().err == ""


def test_offline_names_what_is_missing(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_variant(REPO, "small")
    offline(monkeypatch)
    with pytest.raises(BundleError, match=r"owner/tiny: encoder\.onnx, .* are not here or damaged, and HF_HUB_OFF"):
        fetch_variant(REPO, "fp32")
    with pytest.raises(BundleError, match="no earlier download of it"):
        fetch_variant("owner/other")


def test_no_network_uses_what_is_there(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    folder = fetch_variant(REPO, "small")
    template = "http://127.0.0.1:1/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert fetch_variant(REPO, "small") == folder
    with pytest.raises(BundleError, match=r"owner/tiny: fetching it failed: .*refused"):
        fetch_variant(REPO, "fp32")


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            404,
            "RepoNotFound",
            "no such public model on the hub; check the spelling, or log in: hf auth login, or set HF_TOKEN",
        ),
        (401, "", r"the hub refuses access \(401\); log in: hf auth login, or set HF_TOKEN, as somebody"),
        (401, "GatedRepo", "access is gated; accept its conditions on the hub, then log in"),
        (403, "GatedRepo", "access is gated; accept its conditions on the hub, then log in"),
        (403, "", r"the hub refuses access \(403\)"),
        (500, "", "fetching it failed|cannot be reached"),
    ],
)
def test_refusals_are_explained(hub: FakeHub, status: int, code: str, message: str) -> None:
    hub.refusals["owner/closed"] = (status, code)
    with pytest.raises(BundleError, match=f"owner/closed: .*({message})"):
        fetch_variant("owner/closed")


def test_a_wrong_revision_is_explained(hub: FakeHub) -> None:
    with pytest.raises(BundleError, match="the hub has no revision 'v9' of it"):
        fetch_variant(REPO, revision="v9")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b'{"model_type": "qwen3_asr", "architectures": ["X"]}', "make a model of it: qwen3-asr-onnx get owner/other"),
        (b'{"format": "qwen3-asr-onnx", "format_version": 99}', "upgrade qwen3-asr-onnx"),
        (b"[1]", "not a qwen3-asr-onnx bundle"),
        (b"{", "not valid JSON"),
        (None, "it has no config.json; check the name"),
    ],
)
def test_what_is_no_bundle_is_refused(hub: FakeHub, config: bytes | None, message: str) -> None:
    hub.files["owner/other"] = {"model.safetensors": b"tensors"} | ({MANIFEST_FILE: config} if config else {})
    with pytest.raises(BundleError, match=message):
        fetch_variant("owner/other")
    assert set(hub.fetched()) <= {MANIFEST_FILE}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", {"../../x": {"size": 1, "sha256": "0" * 64}}),
        ("files", {"encoder.onnx": {"size": 1, "sha256": "../" * 21 + "x"}}),
        ("files", {"encoder.onnx": {"size": 1, "sha256": ["0"] * 64}}),
        ("files", {"encoder.onnx": {"size": "1", "sha256": "0" * 64}}),
        ("files", {"encoder.onnx": "0" * 64}),
        ("files", [["encoder.onnx", 1]]),
        ("variants", {"small": {"encoder": "/etc/passwd"}}),
        ("variants", {"../small": {}}),
        ("variants", {"small": None}),
    ],
    ids=str,
)
def test_a_hostile_manifest_on_the_hub_is_refused(hub: FakeHub, tmp_path: Path, field: str, value: object) -> None:
    body = json.loads(hub.files[REPO][MANIFEST_FILE])
    hub.files[REPO][MANIFEST_FILE] = json.dumps(body | {field: value}).encode()
    for arguments in ([], ["--all"], ["-o", str(tmp_path / "out")]):
        assert cli.main(["pull", REPO, *arguments]) == 2
    assert set(hub.fetched()) == {MANIFEST_FILE}
    assert not (tmp_path / "out").exists()


def test_nesting_on_the_hub_is_refused(hub: FakeHub) -> None:
    hub.files[REPO][MANIFEST_FILE] = b"[" * 100_000
    with pytest.raises(BundleError, match="levels deep"):
        fetch_variant(REPO)


def test_an_etag_cannot_lead_out_of_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = namedtuple("metadata", "size etag")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda url: metadata(None, "../../../../x"))
    with pytest.raises(BundleError, match="which is no digest"):
        fetch_variant(REPO, "small")


@pytest.mark.parametrize("to_folder", [False, True])
@pytest.mark.parametrize("variants", [["--all"], ["--variant", "small"], []])
def test_what_was_pulled_verifies(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], variants: list[str], to_folder: bool
) -> None:
    """Although the manifest lists files that no variant reads, and so does nobody download."""
    arguments = ["-o", str(tmp_path / "out")] if to_folder else []
    assert cli.main(["pull", REPO, *variants, *arguments]) == 0
    folder = capsys.readouterr().out.strip()
    assert cli.main(["info", folder, "--verify"]) == 0
    assert "files are as the manifest says" in capsys.readouterr().out


def test_a_hub_id_verifies(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pull", REPO, "--all"]) == 0
    assert cli.main(["info", REPO, "--verify"]) == 0
    assert cli.main(["info", REPO]) == 0
    assert "missing" not in capsys.readouterr().out


def test_without_a_connection_it_fails_at_once_in_one_line(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    def wait(_: float) -> None:
        pytest.fail("it waits for another attempt")

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:1/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", wait)
    assert cli.main(["pull", REPO]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "the hub cannot be reached (no connection to http://127.0.0.1:1)" in err


def test_without_a_connection_what_is_cached_is_used(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    folder = fetch_variant(REPO, "small")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    hub.asked.clear()
    assert fetch_variant(REPO, "small") == folder
    assert hub.asked == []


def test_a_host_that_never_answers_is_given_up_on(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops what it gets, or a name server that does."""
    from qwen3_asr_onnx.bundle import hub as hub_module

    release = threading.Event()

    def hang(*_: object) -> None:
        release.wait(10)
        raise TimeoutError

    monkeypatch.setattr(hub_module, "REACH_S", 0.05)
    monkeypatch.setattr("socket.create_connection", hang)
    assert not hub_module.is_reachable()
    release.set()


def test_a_proxy_is_what_must_be_reachable(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from qwen3_asr_onnx.bundle.hub import is_reachable

    assert is_reachable()
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda host: False)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"http": "http://127.0.0.1:1"})
    assert not is_reachable()


def test_attempts_of_dead_processes_are_removed(hub: FakeHub, tmp_path: Path) -> None:
    """huggingface_hub 2 never comes back to a file that it has begun."""
    import filelock

    folder = fetch_variant(REPO, "small")
    blobs, locks = folder.parents[1] / "blobs", tmp_path / "cache" / ".locks" / "models--owner--tiny"
    ours = blobs / f"{'a' * 64}.incomplete"
    dead, alive = (blobs / f"{etag * 40}.0123abcd.incomplete" for etag in "bc")
    for path in (ours, dead, alive):
        path.write_bytes(b"part")
    locks.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(locks / f"{'c' * 40}.lock"):
        fetch_variant(REPO, "small")
    assert (ours.exists(), dead.exists(), alive.exists()) == (True, False, True)


def test_what_a_killed_pull_left_in_a_folder_goes(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    unfinished = (f"{'a' * 64}.incomplete", f"{MANIFEST_FILE}.incomplete", "tokenizer.json.incomplete")
    for name in unfinished:
        (folder / name).write_bytes(b"part")
    pull_to_folder(open_on_hub(REPO), ["small"], folder)
    assert pulled(folder) == sorted([*SMALL, *COMMON])


def test_a_repository_that_contradicts_its_manifest_is_named(hub: FakeHub) -> None:
    hub.files[REPO][SMALL[0]] = b"another length"
    with pytest.raises(BundleError, match=r"encoder\.small\.onnx has 14 bytes on the hub, 3000 in config\.json"):
        fetch_variant(REPO, "small")
    del hub.files[REPO][SMALL[0]]
    with pytest.raises(BundleError, match=r"config\.json names encoder\.small\.onnx, which is not in the repository"):
        fetch_variant(REPO, "small")


def test_too_little_disk_is_refused_before_the_download(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5000, 0, 5000))
    with pytest.raises(BundleError, match=r"0\.0 MB are to be downloaded and .* has 0\.0 MB free; free some space"):
        fetch_variant(REPO, "small")
    assert set(hub.fetched()) == {MANIFEST_FILE}


def test_a_disk_that_fills_up_is_explained(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    said = rf"{hub_cache()}: the disk is full, [0-9,.]+ MB are free; free some space or set HF_HOME to a folder on"
    with pytest.raises(LimitError, match=said):
        fetch_variant(REPO, "small")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)  # the small files
    with pytest.raises(LimitError, match=said):
        fetch_variant(REPO, "small")


def test_a_folder_s_full_disk_is_named(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    found = open_on_hub(REPO)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(LimitError, match=rf"{tmp_path / 'out'}: the disk is full, [0-9,.]+ MB are free"):
        pull_to_folder(found, ["small"], tmp_path / "out")


def test_without_the_extra_the_pip_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[hub\]'"):
        fetch_variant("owner/name")


def test_a_folder_becomes_a_bundle_of_its_own(hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "to" / "bundle"
    assert cli.main(["pull", REPO, "--variant", "fp32", "-o", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    bundle = Bundle.open(folder)
    assert list(bundle.manifest.variants) == ["fp32"]
    assert sorted(bundle.manifest.files) == pulled(folder) == sorted([*FP32, *COMMON])
    assert bundle.verify() == []
    with Transcriber(folder) as asr:
        assert asr.variant == "fp32"
    hub.asked.clear()
    pull_to_folder(open_on_hub(REPO), ["small"], folder)
    assert sorted(set(hub.fetched()) - {MANIFEST_FILE}) == sorted(SMALL)
    assert list(Bundle.open(folder).manifest.variants) == ["fp32", "small"]
    assert Bundle.open(folder).verify() == []


def test_a_folder_is_filled_from_the_cache_without_the_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_variant(REPO, "small")
    hub.asked.clear()
    offline(monkeypatch)
    folder = pull_to_folder(open_on_hub(REPO), ["small"], tmp_path / "bundle")
    assert Bundle.open(folder).verify() == []
    assert hub.asked == []
    with pytest.raises(BundleError, match="HF_HUB_OFFLINE is set"):
        pull_to_folder(open_on_hub(REPO), ["fp32"], tmp_path / "bundle")


def test_without_links_the_snapshot_holds_the_files(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda cache: False)
    hub.cuts[SMALL[-1]] = 500
    with pytest.raises(BundleError):
        fetch_variant(REPO, "small")
    hub.cuts.clear()
    folder = fetch_variant(REPO, "small")
    assert all((folder / name).read_bytes() == hub.files[REPO][name] for name in (*SMALL, *COMMON))
    assert not [path for path in folder.iterdir() if path.is_symlink()]
    assert not set(hub.files[REPO]).intersection(path.name for path in folder.parent.parent.glob("blobs/*"))
    (folder / SMALL[0]).write_bytes(b"short")
    assert fetch_variant(REPO, "small") == folder
    assert Bundle.open(folder).manifest.files[SMALL[0]] == file_record(folder / SMALL[0])


def test_a_folder_with_something_else_is_left_alone(hub: FakeHub, bundle_copy: Path, tmp_path: Path) -> None:
    found = open_on_hub(REPO)
    (bundle_copy / MANIFEST_FILE).write_bytes(hub.files[REPO][MANIFEST_FILE].replace(b'"tiny"', b'"other"'))
    with pytest.raises(BundleError, match="holds another bundle, or another revision of it"):
        pull_to_folder(found, ["small"], bundle_copy)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "encoder.onnx").write_bytes(b"my own")
    with pytest.raises(BundleError, match=r"encoder\.onnx exists and is not a file of owner/tiny"):
        pull_to_folder(found, ["fp32"], mine)
    assert [path.read_bytes() for path in mine.iterdir()] == [b"my own"]


def test_an_incomplete_folder_is_no_bundle_and_is_completed(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    hub.cuts[SMALL[-1]] = 500
    found = open_on_hub(REPO)
    with pytest.raises(BundleError):
        pull_to_folder(found, ["small"], folder)
    with pytest.raises(BundleError, match=r"no config\.json"):
        Bundle.open(folder)
    hub.cuts.clear()
    hub.asked.clear()
    pull_to_folder(found, ["small"], folder)
    assert set(hub.fetched()) == {SMALL[-1], "embed_tokens.bin"}
    assert Bundle.open(folder).verify() == []
    assert pulled(folder) == sorted([*SMALL, *COMMON])


def test_two_at_once_fetch_every_file_once(hub: FakeHub) -> None:
    from concurrent.futures import ThreadPoolExecutor

    found = open_on_hub(REPO)
    hub.asked.clear()
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: pull_to_cache(found, ["small"]), range(2)))
    assert folders[0] == folders[1]
    assert sorted(hub.fetched()) == sorted([*SMALL, *COMMON])


@pytest.mark.parametrize("arguments", [["bundle/"], ["name"], [REPO, "--all", "--variant", "x"]])
def test_wrong_usage_of_pull(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main(["pull", *arguments])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status == 2
    err = capsys.readouterr().err
    assert "not the name of a repository on the hub" in err or "not allowed with argument" in err


def test_partial_files_that_are_too_long_are_dropped(hub: FakeHub) -> None:
    found = open_on_hub(REPO)
    record = found.needs(["small"])[SMALL[-1]]
    blobs = found.bundle.path.parent.parent / "blobs"
    blobs.mkdir(exist_ok=True)
    (blobs / f"{record.sha256}.incomplete").write_bytes(b"z" * 4000)
    folder = pull_to_cache(found, ["small"])
    assert (folder / SMALL[-1]).read_bytes() == hub.files[REPO][SMALL[-1]]
    assert pull.fetch_variant(REPO, "small") == folder
