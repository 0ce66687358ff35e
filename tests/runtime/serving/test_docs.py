"""The curl lines of docs/server.md, as they stand there."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from .conftest import FakeEngine, running, wav

PAGE = Path(__file__).parents[3] / "docs" / "server.md"


@pytest.mark.program("curl")
def test_every_curl_line_is_answered(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(wav())
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("curl ")]
    assert len(lines) >= 5
    with running(engine) as address:
        for line in lines:
            command = shlex.split(line.replace("http://127.0.0.1:8000", address))
            done = subprocess.run([*command, "-sS", "--fail"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            assert done.stdout
