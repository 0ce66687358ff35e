"""What several test folders share: the goldens, the real tokenizer, and the versions at hand in the header."""

import importlib.metadata
import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.programs import PROGRAMS, why_missing

DATA = Path(__file__).parent / "data"
SHOWN_PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers", "onnx", "onnx_ir", "onnxscript")


class MakeSignal(Protocol):
    """`make_signal` of tests/data/goldens/signals.py."""

    def __call__(self, kind: str, seconds: float, seed: int = 0, level: float = 0.5) -> npt.NDArray[np.float32]: ...


def pytest_report_header() -> str:
    return "packages: " + ", ".join(f"{name} {_version(name)}" for name in SHOWN_PACKAGES)


@pytest.hookimpl(tryfirst=True)  # before `-m program` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a program that this machine has not; what its fixtures need counts like a marker of its own."""
    for item in items:
        for name in set(PROGRAMS) & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.program(name))
        for marker in item.iter_markers("program"):
            if reason := why_missing(marker.args[0]):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def voices() -> None:
    """What a fixture that speaks asks for: the tests that use it are marked as needing the voices."""


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


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
