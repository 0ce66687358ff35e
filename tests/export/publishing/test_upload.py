"""`upload`: the repository becomes what the folder is, nothing is sent twice, and no other model is touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.hub_server import FakeHub, used_hub
from tests.support.hub_uploads import TOKEN

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.getting import get_model
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.pull import fetch_variant, open_on_hub, pull_to_cache, pull_to_folder
from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.errors import BundleError, LimitError, OptionsError
from qwen3_asr_onnx_export.publishing.plan import UploadOptions, plan_upload
from qwen3_asr_onnx_export.publishing.upload import send

# huggingface_hub 2.4 itself calls httpx2 in a way that goes out.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "owner/tiny"
WEIGHTS = ["decoder_weights.data", "embed_tokens.bin", "encoder.data"]
"""The large files of the bundle, in the order in which they are sent."""
CHECKPOINT = b'{"model_type": "qwen3_asr", "thinker_config": {}}'
WHISPER = b'{"model_type": "whisper"}'
LAYOUT = b'{"model_type": "qwen3_asr", "name": "tiny", "exporter": "qwen3-asr-onnx 0.1.0"}'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An empty hub that takes large files as git does, and huggingface_hub pointed at it."""
    with used_hub(tmp_path / "cache", monkeypatch) as running:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield running


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the checked-in bundle, to change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Files as another program wants them, with a folder and without a config."""
    return written(
        tmp_path / "layout",
        {
            "encoder.onnx": b"graph",
            "decoder.onnx": b"graphs",
            "decoder.data": b"weights" * 99,
            "tokenizer/v.json": b"{}",
        },
    )


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_hub(hub: FakeHub, repo_id: str = REPO) -> dict[str, bytes]:
    return {name: content for name, content in hub.files[repo_id].items() if name != ".gitattributes"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sums(*paths: Path) -> bytes:
    return "".join(f"{sha256(path)}  {path.name}\n" for path in paths).encode()


def upload(folder: Path | str, repo_id: str = REPO, **options: Any) -> str:
    return send(plan_upload(folder, UploadOptions(repo_id, **options)))


def test_what_was_uploaded_is_pulled_and_got(
    hub: FakeHub, bundle: Path, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upload", str(bundle), "--repo", REPO]) == 0
    out, err = capsys.readouterr()
    assert out == f"{hub.url}/{REPO}\n"
    assert err == "qwen3-asr-onnx: owner/tiny, branch main: sent 14 of 14 files, 0.4 MB\n"
    assert on_hub(hub) == contents(bundle)
    assert len(hub.commits) == 1
    assert hub.commits[0].message.startswith("tiny, by qwen3-asr-onnx ")
    found = open_on_hub(REPO)
    cached = pull_to_cache(found, ["fp32"], check=True)
    assert contents(cached).items() <= contents(bundle).items()
    assert {*Bundle.open(bundle).manifest.variants["fp32"].files, MANIFEST_FILE} <= contents(cached).keys()
    pulled = pull_to_folder(found, ["fp32"], tmp_path / "pulled")
    assert Bundle.open(pulled).verify() == []
    assert contents(pulled).items() - contents(bundle).items() == {(MANIFEST_FILE, contents(pulled)[MANIFEST_FILE])}
    assert Bundle.open(get_model(REPO)).verify() == []
    assert not hub.leaked


def test_a_second_upload_sends_nothing(hub: FakeHub, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upload(bundle)
    hub.received.clear()
    assert cli.main(["upload", str(bundle), "--repo", REPO]) == 0
    out, err = capsys.readouterr()
    assert out == f"{hub.url}/{REPO}\n"
    assert err == "qwen3-asr-onnx: owner/tiny, branch main: sent nothing, for all of it is there\n"
    assert (len(hub.commits), hub.received) == (1, [])


@pytest.mark.parametrize("name", ["decoder.data", "tokenizer/v.json"])
def test_a_changed_file_is_sent_alone(hub: FakeHub, layout: Path, name: str) -> None:
    upload(layout)
    hub.received.clear()
    content = (layout / name).read_bytes()[::-1]  # of the same size
    (layout / name).write_bytes(content)
    (layout / "README.md").write_text("# new\n", encoding="utf-8")
    upload(layout, message="better weights")
    assert sorted(hub.commits[1].names) == sorted(["README.md", name])
    assert hub.commits[1].message == "better weights"
    assert len(hub.received) == (name == "decoder.data")
    assert on_hub(hub) == contents(layout)


def test_a_dry_run_tells_what_would_be_and_changes_nothing(
    hub: FakeHub, layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["upload", str(layout), "--repo", REPO, "--private", "--revision", "v2", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "create  owner/tiny (private)",
        "create  branch v2",
        "send    decoder.data            0.0 MB  new",
        "send    decoder.onnx            0.0 MB  new",
        "send    encoder.onnx            0.0 MB  new",
        "send    tokenizer/v.json        0.0 MB  new",
        "to owner/tiny, branch v2: 4 of 4 files, 0.0 MB",
    ]
    assert (hub.files, hub.commits, hub.objects) == ({}, [], {})
    upload(layout)
    hub.files[REPO]["older.onnx"] = b"older"
    (layout / "decoder.data").write_bytes(b"other")
    assert cli.main(["upload", str(layout), "--repo", REPO, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "send    decoder.data            0.0 MB  changed",
        "same    decoder.onnx            0.0 MB",
        "same    encoder.onnx            0.0 MB",
        "same    tokenizer/v.json        0.0 MB",
        "keep    older.onnx              0.0 MB  not here",
        "to owner/tiny, branch main: 1 of 4 files, 0.0 MB",
    ]
    assert err == f"qwen3-asr-onnx: owner/tiny keeps what {layout} lacks (0.0 MB): older.onnx\n"
    assert len(hub.commits) == 1


def test_an_interrupted_upload_goes_on_with_what_has_not_arrived(
    hub: FakeHub, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (sha256(bundle / name) for name in WEIGHTS)
    hub.cut_uploads[second] = 5000
    assert cli.main(["upload", str(bundle), "--repo", REPO]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "owner/tiny: the connection to the hub failed (" in err.splitlines()[-1]
    assert err.endswith("run the same command again: what has arrived is not sent again\n")
    assert (hub.received, hub.commits) == ([first, third], [])
    hub.cut_uploads.clear()
    upload(bundle)
    assert hub.received == [first, third, second]
    assert len(hub.commits) == 1
    assert on_hub(hub) == contents(bundle)


def test_the_folder_is_only_read_and_leftovers_stay(hub: FakeHub, bundle: Path) -> None:
    wanted = contents(bundle)
    leftovers = ["a.incomplete", "model.lock", ".cache/huggingface/x", ".DS_Store", "notes.txt~", "__pycache__/a.pyc"]
    written(bundle, dict.fromkeys(leftovers, b"not for others"))
    before = {path: path.stat().st_mtime_ns for path in (bundle, *bundle.rglob("*"))}
    upload(bundle)
    assert {path: path.stat().st_mtime_ns for path in (bundle, *bundle.rglob("*"))} == before
    assert on_hub(hub) == wanted


def test_without_a_token_nothing_is_read(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert cli.main(["upload", str(tmp_path / "not read"), "--repo", REPO]) == 2
    err = capsys.readouterr().err
    assert err == (
        "qwen3-asr-onnx: error: owner/tiny: nobody is logged in, and the hub takes files from its users only; "
        "log in: hf auth login, or set HF_TOKEN\n"
    )


def renamed(bundle: Path, **fields: str) -> bytes:
    return json.dumps({**json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8")), **fields}).encode()


@pytest.mark.parametrize(
    ("there", "held"),
    [
        ({"config.json": {"name": "other"}}, "the bundle other (asr), which is not the bundle tiny (asr)"),
        ({"config.json": {"kind": "aligner"}}, "the bundle tiny (aligner), which is not the bundle tiny (asr)"),
        ({"config.json": CHECKPOINT, "model.safetensors": b"w"}, "a checkpoint of Qwen3-ASR, which is not the bundle"),
        ({"config.json": LAYOUT}, "tiny for another program, which is not the bundle tiny (asr)"),
        ({"config.json": WHISPER}, "a model of the type whisper, which is not the bundle tiny (asr)"),
        ({"config.json": b'{"architectures": ["LlamaForCausalLM"]}'}, "a model of the type LlamaForCausalLM"),
        ({"config.json": b"no JSON"}, "a config.json that names no model"),
        ({"config.json": b"[]"}, "a config.json that names no model"),
        (
            {"b.gguf": b"", "a.safetensors": b"", "c.pt": b"", "d.bin": b""},
            "b.gguf, a.safetensors, c.pt and 1 more, of",
        ),
    ],
)
def test_a_repository_with_another_model_is_refused(
    hub: FakeHub, bundle: Path, there: dict[str, Any], held: str
) -> None:
    hub.files[REPO] = {name: renamed(bundle, **it) if isinstance(it, dict) else it for name, it in there.items()}
    before = dict(hub.files[REPO])
    with pytest.raises(BundleError, match="--overwrite to replace what has the same name") as refusal:
        upload(bundle)
    assert f"owner/tiny holds {held}" in str(refusal.value)
    assert (hub.files[REPO], hub.objects) == (before, {})
    upload(bundle, overwrite=True)
    assert on_hub(hub) == before | contents(bundle)


@pytest.mark.parametrize("config", [LAYOUT, CHECKPOINT, None])
def test_files_without_a_config_may_lie_beside_a_model_of_the_family(
    hub: FakeHub, layout: Path, bundle: Path, config: bytes | None
) -> None:
    hub.files[REPO] = {"config.json": config or (bundle / MANIFEST_FILE).read_bytes()}
    upload(layout)
    assert on_hub(hub).keys() == {"config.json", *contents(layout)}
    hub.files[REPO]["config.json"] = WHISPER
    with pytest.raises(BundleError, match="a model of the type whisper, which is not what is in this folder"):
        upload(layout)


def test_a_bundle_may_lie_beside_its_archives(hub: FakeHub, bundle: Path) -> None:
    hub.files[REPO] = {"tiny-fp32.tar.zst": b"packed", "SHA256SUMS": b""}
    upload(bundle)
    hub.files["owner/other"] = {"tinier-fp32.tar.zst": b"packed", "SHA256SUMS": b""}
    with pytest.raises(BundleError, match=r"owner/other holds tinier-fp32.tar.zst, of which"):
        upload(bundle, "owner/other")


def test_a_repository_without_a_model_is_filled(hub: FakeHub, bundle: Path) -> None:
    hub.files[REPO] = {".gitattributes": b"", "README.md": b"soon", "LICENSE": b"free"}
    upload(bundle)
    assert on_hub(hub) == contents(bundle) | {"README.md": b"soon", "LICENSE": b"free"}


def test_what_a_manifest_no_longer_lists_is_told(
    hub: FakeHub, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    body["variants"]["int4"] = body["variants"]["fp32"]
    hub.files[REPO] = {"config.json": json.dumps(body).encode()}
    assert cli.main(["upload", str(bundle), "--repo", REPO]) == 0
    assert "config.json lists no variant int4 any more, which the repository had" in capsys.readouterr().err


def test_a_damaged_bundle_is_not_published(hub: FakeHub, bundle: Path) -> None:
    weights = bundle / "encoder.data"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(BundleError, match=r"contents differ from the manifest's sha256 .*; nothing was sent"):
        upload(bundle)
    weights.unlink()
    with pytest.raises(BundleError, match=r"encoder.data: missing.*; nothing was sent"):
        upload(bundle)
    (bundle / MANIFEST_FILE).write_bytes(renamed(bundle, digest="0" * 64))
    with pytest.raises(BundleError, match="was edited or damaged"):
        upload(bundle)
    assert hub.files == {}


def test_archives_are_checked_by_their_sums(hub: FakeHub, tmp_path: Path) -> None:
    folder = written(tmp_path / "archives", {"tiny-fp32.tar.zst": b"packed", "README.md": b"# card"})
    archive = folder / "tiny-fp32.tar.zst"
    (folder / "SHA256SUMS").write_bytes(sums(archive))
    upload(folder)
    assert on_hub(hub) == contents(folder)
    archive.write_bytes(b"PACKED")
    with pytest.raises(BundleError, match=r"zst: contents differ from SHA256SUMS \(damaged or edited\); nothing was"):
        upload(folder)
    archive.unlink()
    with pytest.raises(BundleError, match="zst: missing, SHA256SUMS lists it; nothing was sent"):
        upload(folder)
    (folder / "SHA256SUMS").write_bytes(b"no sums\n")
    with pytest.raises(BundleError, match="'no sums' is no digest and name"):
        upload(folder)
    assert len(hub.commits) == 1


def test_a_part_of_a_bundle_goes_where_the_rest_is(hub: FakeHub, bundle: Path) -> None:
    body = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    body["variants"]["small"] = body["variants"]["fp32"] | {"encoder": "encoder.small.onnx"}
    (bundle / "encoder.small.onnx").write_bytes(b"small")
    body["files"]["encoder.small.onnx"] = {"size": 5, "sha256": sha256(bundle / "encoder.small.onnx")}
    (bundle / MANIFEST_FILE).write_text(json.dumps(body), encoding="utf-8")
    upload(bundle)
    folder = fetch_variant(REPO, "fp32")  # in the cache, under the whole manifest, and made of links
    assert not (folder / "encoder.small.onnx").exists()
    written(folder, {"README.md": b"# tiny"})
    upload(folder)
    assert hub.commits[1].names == ("README.md",)
    with pytest.raises(BundleError, match=r"not here, and not in owner/new as config.json lists it"):
        upload(folder, "owner/new")
    assert "owner/new" not in hub.files


def test_a_private_repository_is_made_and_a_public_one_not_used_for_it(hub: FakeHub, layout: Path) -> None:
    upload(layout, private=True)
    assert hub.private == {REPO}
    upload(layout, private=True)
    upload(layout, "owner/public")
    with pytest.raises(OptionsError, match="owner/public: --private, and the repository is public"):
        upload(layout, "owner/public", private=True)


@pytest.mark.parametrize("exists", [False, True])
def test_a_branch_is_made_and_committed_to(
    hub: FakeHub, bundle: Path, capsys: pytest.CaptureFixture[str], exists: bool
) -> None:
    if exists:
        hub.files[REPO] = {"README.md": b"main"}
    assert cli.main(["upload", str(bundle), "--repo", REPO, "--revision", "try/2", "-q"]) == 0
    assert capsys.readouterr() == (f"{hub.url}/{REPO}/tree/try/2\n", "")
    assert contents(bundle).items() <= hub.branches[REPO]["try/2"].items()
    assert hub.files[REPO].keys() == ({"README.md"} if exists else {".gitattributes"})
    assert upload(bundle, revision="try/2").endswith("/tree/try/2")
    assert [commit.branch for commit in hub.commits] == ["try/2"]
    assert Bundle.open(fetch_variant(REPO, revision="try/2")).verify() == []
    hub.tags[REPO] = ["v1"]
    for revision in ("v1", "0" * 40):
        with pytest.raises(OptionsError, match=f"--revision {revision}: a commit or a tag of owner/tiny"):
            upload(bundle, revision=revision)


@pytest.mark.parametrize(
    ("what", "status", "said", "kind", "message"),
    [
        ("create", 403, "no rights to create a model under owner", BundleError, "may not write there; check the owner"),
        (
            "create",
            404,
            "no such namespace",
            BundleError,
            "no such owner, or a repository that this token does not see",
        ),
        ("create", 409, "You already created it", BundleError, "there is one already that this token does not see"),
        ("create", 401, "Invalid credentials", BundleError, "the hub does not know this token; log in: hf auth login"),
        ("preupload", 403, "read-only token", BundleError, r"with a token that may write \(403: .*read-only token"),
        ("lfs", 403, "Private repository storage limit reached", LimitError, "its owner has no room for it on the hub"),
        ("lfs", 413, "", LimitError, "its owner has no room for it on the hub"),
        ("lfs", 507, "", LimitError, "its owner has no room for it on the hub"),
        ("commit", 412, "moved", BundleError, "somebody else has changed it meanwhile; run the same command again"),
        ("commit", 429, "slow down", BundleError, "too many requests; wait a while, then run the same command again"),
        ("commit", 500, "oops", BundleError, r"the hub has a fault \(500: .*oops.*\); run the same command again"),
        ("commit", 400, "bad", BundleError, r"the hub refuses it \(400: .*bad"),
    ],
)
def test_refusals_of_the_hub_say_what_to_do(
    hub: FakeHub, layout: Path, what: str, status: int, said: str, kind: type[Exception], message: str
) -> None:
    hub.write_refusals[what] = (status, said)
    with pytest.raises(kind, match=message) as refusal:
        upload(layout)
    assert str(refusal.value).count("\n") == 0
    assert str(refusal.value).startswith("owner/tiny: ")
    assert hub.commits == []


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [(403, "GatedRepo", "may not write there"), (401, "", "does not know this token"), (503, "", "has a fault")],
)
def test_a_repository_that_cannot_be_looked_at_is_told(
    hub: FakeHub, layout: Path, status: int, code: str, message: str
) -> None:
    hub.refusals[REPO] = (status, code)
    with pytest.raises(BundleError, match=message):
        upload(layout)


def test_a_repository_that_is_hidden_is_not_taken_for_none(hub: FakeHub, layout: Path) -> None:
    hub.refusals[REPO] = (404, "RepoNotFound")
    with pytest.raises(BundleError, match="there is one already that this token does not see"):
        upload(layout)


def test_a_wrong_token_is_told(hub: FakeHub, layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BundleError, match="owner/tiny: the hub does not know this token; log in"):
        upload(layout)


def test_somebody_else_s_commit_is_not_undone(hub: FakeHub, layout: Path) -> None:
    upload(layout)
    (layout / "README.md").write_text("# mine\n", encoding="utf-8")
    plan = plan_upload(layout, UploadOptions(REPO))
    hub.heads[REPO, "main"] = "f" * 40
    with pytest.raises(BundleError, match="somebody else has changed it meanwhile"):
        send(plan)


def test_what_the_repository_ignores_is_told(hub: FakeHub, layout: Path) -> None:
    hub.ignored.add("decoder.data")
    with pytest.raises(
        BundleError, match=r"decoder.data has not arrived as it is here; does a .gitignore there name it"
    ):
        upload(layout)


def test_a_card_that_the_hub_cannot_read_is_told_before_anything_large_moves(hub: FakeHub, layout: Path) -> None:
    (layout / "README.md").write_text("---\nlicense: [\n---\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"Invalid metadata in README.md: .*YAML Metadata Error"):
        upload(layout)
    assert hub.received == []


def test_without_a_connection_it_fails_at_once_in_one_line(
    hub: FakeHub, layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert cli.main(["upload", str(layout), "--repo", REPO]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nothing can be sent: no connection to http://127.0.0.1:1; check the connection" in err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match="nothing can be sent: HF_HUB_OFFLINE is set"):
        upload(layout)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b""}, "neither a bundle, nor what export --layout or package wrote"),
        (
            {"config.json": CHECKPOINT, "model.safetensors": b""},
            "a checkpoint.*make a bundle of it: qwen3-asr-onnx exp",
        ),
        ({"config.json": WHISPER, "encoder.onnx": b""}, "this is a model of the type whisper, and not what was made"),
    ],
)
def test_other_folders_are_refused(hub: FakeHub, tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        upload(written(tmp_path / "folder", files))


def test_a_model_of_the_store_is_meant_by_its_name(hub: FakeHub, tiny_bundle: Path, store: Path) -> None:
    shutil.copytree(tiny_bundle, store / "tiny")
    upload("tiny")
    assert on_hub(hub) == contents(tiny_bundle)
    for name, message in (
        ("nobody", "no such folder, and not a hub id"),
        ("some/one", "no such folder; give a bundle"),
    ):
        with pytest.raises(BundleError, match=message):
            upload(name)


def test_what_is_changed_after_it_was_checked_is_not_sent(hub: FakeHub, bundle: Path) -> None:
    plan = plan_upload(bundle, UploadOptions(REPO))
    weights = bundle / "encoder.data"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(BundleError, match=r"encoder.data: was changed after it was checked"):
        send(plan)
    assert hub.files == {}


def test_what_is_no_file_is_refused(hub: FakeHub, layout: Path) -> None:
    (layout / "lost.onnx").symlink_to(layout / "nowhere")
    with pytest.raises(BundleError, match=r"lost.onnx: a link that leads nowhere"):
        upload(layout)
    (layout / "lost.onnx").unlink()
    os.mkfifo(layout / "pipe.data")
    with pytest.raises(BundleError, match=r"pipe.data: is a named pipe where a file is expected"):
        upload(layout)
    (layout / "pipe.data").unlink()
    (layout / "loop").symlink_to(layout, target_is_directory=True)
    with pytest.raises(BundleError, match="loop: is a directory where a file is expected"):
        upload(layout)


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "./tiny", "owner/", "owner/x--y", "owner/x.git"])
def test_wrong_names_are_refused(hub: FakeHub, layout: Path, name: str) -> None:
    with pytest.raises(OptionsError, match=f"--repo {name}: no"):
        upload(layout, name)


def test_without_the_extra_the_pip_line_is_given(
    layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(["upload", str(layout), "--repo", REPO]) == 2
    assert "pip install 'qwen3-asr-onnx[hub]'" in capsys.readouterr().err


def test_a_mirror_is_used_and_a_pipe_gets_no_bars(hub: FakeHub, bundle: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "qwen3_asr_onnx", "upload", str(bundle), "--repo", REPO],
        env=environment,
        capture_output=True,
        timeout=120,
    )
    assert done.stdout.decode() == f"{hub.url}/{REPO}\n"
    assert done.stderr.decode() == "qwen3-asr-onnx: owner/tiny, branch main: sent 14 of 14 files, 0.4 MB\n"
    assert on_hub(hub) == contents(bundle)


def test_a_mirror_without_xet_is_told_from_a_broken_connection(
    hub: FakeHub, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hf_xet", reason="comes with huggingface_hub on most machines")
    pytest.importorskip("huggingface_hub", "2.0", reason="earlier ones ask the mirror what it knows")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    with pytest.raises(BundleError, match="where a mirror knows no Xet storage, set HF_HUB_DISABLE_XET=1"):
        upload(layout)


def test_on_a_terminal_the_bars_of_the_hub_are_shown_unless_quiet(
    hub: FakeHub, layout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli.main(["upload", str(layout), "--repo", REPO]) == 0
    assert "B/s]" in capsys.readouterr().err  # which of them, the hub decides
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    hub.objects.clear()
    assert cli.main(["upload", str(layout), "--repo", "owner/again", "-q"]) == 0
    assert capsys.readouterr().err == ""
