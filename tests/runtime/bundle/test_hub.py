"""Folders and hub ids: what is fetched, what never touches the network, and what is said when the hub refuses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.hub_server import COMMIT, FakeHub, fake_hub

from qwen3_asr_onnx.bundle import hub
from qwen3_asr_onnx.bundle.hub import is_hub_id, resolve
from qwen3_asr_onnx.errors import BundleError, MissingExtra

FILES = {
    "config.json": b'{"format": 1}',
    "encoder.onnx": b"graph",
    "encoder.data": b"weights" * 100,
    "model.safetensors": b"tensors",
    "picture.png": b"not needed",
}


@pytest.mark.parametrize("name", ["Qwen/Qwen3-ASR-0.6B", "a/b", "owner-1/name.v2_x"])
def test_hub_ids_are_recognised(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "bundle",
        "./a",
        "../a",
        "~/a",
        "/a",
        "/a/b",
        "a/b/c",
        "a\\b",
        "a/",
        "C:\\x/y",
        ".a/b",
        "a/.b",
        "a b/c",
        "a/b\n",
    ],
)
def test_paths_never_reach_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_fetch", lambda *args: pytest.fail(f"{name!r} was sent to the hub"))
    assert not is_hub_id(name)
    if name:
        with pytest.raises(BundleError, match="no such folder, and not a hub id"):
            resolve(name)


def test_a_path_object_never_reaches_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_fetch", lambda *args: pytest.fail("sent to the hub"))
    with pytest.raises(BundleError, match="no such folder"):
        resolve(Path("owner/name"))


def test_an_existing_folder_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/name") == Path("owner/name")
    assert resolve(tmp_path) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert resolve("~/owner") == tmp_path / "owner"
    (tmp_path / "~" / "owner").mkdir(parents=True)
    assert resolve("~/owner") == Path("~/owner")
    with pytest.raises(BundleError, match="no such folder"):
        resolve("~nobody-of-this-name/owner/bundle")


def test_a_file_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BundleError, match="this is a file; a checkpoint is a folder"):
        resolve(tmp_path / "config.json", kind="checkpoint")


def test_without_the_extra_the_pip_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[hub\]'"):
        resolve("owner/name")


@dataclass
class LocalHub:
    """A running imitation of the hub, and a way to call `resolve` against it in a process of its own.

    huggingface_hub reads its environment variables when it is imported, hence the process.
    """

    hub: FakeHub
    home: Path

    def resolve(self, *arguments: str, **environment: str) -> str:
        """Return the folder, or the class and message of the error."""
        program = (
            "import sys, time\n"
            "time.sleep = lambda seconds: None\n"  # huggingface_hub waits a second before each of its five new attempts
            "from qwen3_asr_onnx.bundle.hub import resolve\n"
            "from qwen3_asr_onnx.errors import BundleError\n"
            "name, kind, revision, *files = sys.argv[1:]\n"
            "try:\n"
            "    print(resolve(name, kind=kind, revision=revision or None, files=files or None))\n"
            "except BundleError as error:\n"
            "    print('BundleError:', error)\n"
        )
        env = {
            key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy") and key[:3] != "HF_"
        }
        env |= {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore", **environment}
        env["PYTHONPATH"] = str(Path(hub.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.home,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def local_hub(tmp_path: Path) -> Iterator[LocalHub]:
    pytest.importorskip("huggingface_hub", reason="needs the hub extra")
    with fake_hub() as hub:
        hub.files["owner/name"] = FILES
        hub.refusals["owner/gated"] = (403, "GatedRepo")
        yield LocalHub(hub, tmp_path)


def test_a_bundle_is_fetched_once_without_what_it_does_not_need(local_hub: LocalHub) -> None:
    folder = Path(local_hub.resolve("owner/name", "bundle", ""))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "encoder.data", "encoder.onnx"]
    assert (folder / "encoder.data").read_bytes() == FILES["encoder.data"]
    offline = local_hub.resolve("owner/name", "bundle", "", HF_HUB_OFFLINE="1")
    assert Path(offline) == folder


def test_a_checkpoint_and_named_files_are_fetched(local_hub: LocalHub) -> None:
    folder = Path(local_hub.resolve("owner/name", "checkpoint", COMMIT))
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    local_hub.hub.asked.clear()
    local_hub.resolve("owner/name", "bundle", "", "encoder.onnx")
    assert local_hub.hub.fetched() == ["encoder.onnx"]


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/absent", "", "owner/absent: no such folder here, no such public model on the hub"),
        ("owner/name", "v9", "the hub has no revision 'v9'"),
        ("owner/gated", "", "access is gated"),
    ],
)
def test_refusals_of_the_hub_are_explained(local_hub: LocalHub, name: str, revision: str, message: str) -> None:
    answer = local_hub.resolve(name, "bundle", revision)
    assert answer.startswith("BundleError:")
    assert message in answer


def test_an_adapter_is_fetched_so_that_it_can_be_called_one(local_hub: LocalHub) -> None:
    local_hub.hub.files["owner/adapter"] = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"tensors"}
    folder = Path(local_hub.resolve("owner/adapter", "checkpoint", ""))
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert "so it is no bundle" in local_hub.resolve("owner/adapter", "bundle", "")


def test_a_broken_download_is_explained(local_hub: LocalHub) -> None:
    local_hub.hub.cuts["encoder.onnx"] = 0
    answer = local_hub.resolve("owner/name", "bundle", "", "encoder.onnx")
    assert answer.startswith("BundleError: owner/name: fetching it failed: ")


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}])
def test_being_offline_is_explained(local_hub: LocalHub, environment: dict[str, str]) -> None:
    answer = local_hub.resolve("owner/name", "bundle", "", **environment)
    assert answer.startswith("BundleError: owner/name: no such folder, no earlier download of it")
    assert local_hub.hub.asked == []
