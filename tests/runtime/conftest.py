from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx import Transcriber

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the checked-in bundle, to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def tiny_expected() -> dict[str, Any]:
    """What transformers generates from the checkpoint of the tiny bundle."""
    expected: dict[str, Any] = json.loads((DATA / "tiny_bundle.json").read_text(encoding="utf-8"))
    return expected


@pytest.fixture(scope="session")
def asr(tiny_bundle: Path) -> Transcriber:
    return Transcriber(tiny_bundle)
