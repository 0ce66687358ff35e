"""What several test folders share: goldens, real tokenizer, the miniature's bundle; versions at hand in the header."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.support.programs import PROGRAMS, why_missing

if TYPE_CHECKING:  # numpy starts its threads when it is imported: not before pytest_configure has given it cores
    import numpy as np
    import numpy.typing as npt

DATA = Path(__file__).parent / "data"
SHOWN_PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers", "onnx", "onnx_ir", "onnxscript")


class MakeSignal(Protocol):
    """`make_signal` of tests/data/goldens/signals.py."""

    def __call__(self, kind: str, seconds: float, seed: int = 0, level: float = 0.5) -> npt.NDArray[np.float32]: ...


def pytest_configure() -> None:
    """Give each process of `pytest -n N` cores of its own: libraries that share cores wait for each other's threads."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    n_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if n_workers > 1 and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[int(worker) :: n_workers] or cores)


def pytest_report_header() -> str:
    return "packages: " + ", ".join(f"{name} {_version(name)}" for name in SHOWN_PACKAGES)


@pytest.hookimpl(tryfirst=True)  # before `-m program` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a program that this machine has not; what its fixtures need counts like a marker of its own.

    Files with slow tests go first: at the end one process would work on them alone.
    """
    for item in items:
        for name in set(PROGRAMS) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.program(name))
        for marker in item.iter_markers("program"):
            if reason := why_missing(marker.args[0]):
                item.add_marker(pytest.mark.skip(reason=reason))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def no_models_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the tests a model store without models, whatever this user has."""
    os.environ["QWEN3_ASR_HOME"] = str(tmp_path_factory.mktemp("no_models") / "home")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model store of this test alone: its folder of models, which is not there yet."""
    monkeypatch.setenv("QWEN3_ASR_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture(scope="session")
def voices() -> None:
    """What a fixture that speaks asks for: the tests that use it are marked as needing the voices."""


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """The checked-in bundle: read only."""
    return DATA / "tiny_bundle"


def load_golden(name: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((DATA / "goldens" / name).read_text(encoding="utf-8"))
    return golden


@pytest.fixture(scope="session")
def official_prompts() -> dict[str, Any]:
    """Prompts and tokenizations of the official package."""
    return load_golden("official_prompts.json")


@pytest.fixture(scope="session")
def official_text() -> dict[str, Any]:
    """Parsing and clean-up by the official package."""
    return load_golden("official_text.json")


@pytest.fixture(scope="session")
def official_splits() -> dict[str, Any]:
    """Where the official package cuts long audio."""
    return load_golden("official_splits.json")


@pytest.fixture(scope="session")
def make_signal() -> MakeSignal:
    """The generator of the signals that the split goldens name."""
    spec = importlib.util.spec_from_file_location("golden_signals", DATA / "goldens" / "signals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: MakeSignal = module.make_signal
    return make


@pytest.fixture(scope="session")
def real_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer files of Qwen3-ASR-0.6B: vocab.json, merges.txt, tokenizer_config.json. Read only."""
    folder = tmp_path_factory.mktemp("real_tokenizer")
    with tarfile.open(DATA / "tokenizer" / "qwen3_asr_tokenizer.tar.xz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            assert content is not None
            (folder / Path(member.name).name).write_bytes(content.read())
    return folder


@pytest.fixture(scope="session")
def real_tokenizer_json(real_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `tokenizer.json` built from the real tokenizer files."""
    from qwen3_asr_onnx_export.tokenizer_json import build_tokenizer_json

    path = tmp_path_factory.mktemp("built_tokenizer") / "tokenizer.json"
    build_tokenizer_json(real_tokenizer_dir, path)
    return path


@pytest.fixture(scope="session")
def mini_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature checkpoint as a bundle, exported and checked once for all processes. Read only."""
    return _exported("mini-asr", tmp_path_factory)


@pytest.fixture(scope="session")
def mini_aligner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature aligner as a bundle, in the same way. Read only."""
    return _exported("mini-aligner", tmp_path_factory)


def _exported(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.traces import made_once, shared_folder, traced_once

    from qwen3_asr_onnx_export.pipeline import export_checkpoint

    with traced_once(tmp_path_factory):
        return made_once(
            shared_folder(tmp_path_factory) / f"{checkpoint}-bundle",
            lambda path: export_checkpoint(DATA / checkpoint, path),
        )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
