from __future__ import annotations

import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the checked-in bundle, float32 only, to add variants to."""
    return Path(shutil.copytree(DATA / "tiny_bundle", tmp_path / "bundle"))
