from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands.cli import main, parse_args


def test_without_the_extra_the_line_to_type_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    assert main(["serve"]) == 2
    assert "pip install 'qwen3-asr-onnx[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http", "80.5"])
def test_ports(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["serve", "--port", port])
    assert "not a port" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--ssl-certfile", "--ssl-keyfile", "--api-key-file"])
def test_files_that_cannot_be_used_are_named_before_anything_is_loaded(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn", reason="needs the serve extra")
    pytest.importorskip("python_multipart", reason="needs the serve extra")
    file = tmp_path / "file"
    file.touch()
    assert main(["serve", option, str(file)]) == 2
    told = capsys.readouterr().err
    assert option in told
    assert "listening" not in told
