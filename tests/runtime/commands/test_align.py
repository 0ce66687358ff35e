"""The verb `align`: what it reads and where it writes; the aligner itself is a stand-in."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qwen3_asr_onnx.commands import align, cli
from qwen3_asr_onnx.results import Word

WORDS = (Word("Zoë", 0.0, 0.5, 0.9, start_char=0),)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were aligned."""
    texts: list[str] = []

    def aligned(audio: object, text: str, *_: object, **__: object) -> tuple[Word, ...]:
        texts.append(text)
        return WORDS

    aligner = SimpleNamespace(align=aligned, resolve_language=lambda _: "English", close=lambda: None)
    monkeypatch.setattr(align, "load_aligner", lambda _: aligner)
    monkeypatch.setattr(align, "load_audio", lambda _: np.zeros(16_000, np.float32))
    monkeypatch.chdir(tmp_path)
    return texts


def test_a_name_that_cannot_be_written_is_found_before_the_work(
    heard: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.tsv").mkdir()
    for name in ("x" * 300 + ".tsv", "folder.tsv"):
        assert cli.main(["align", "-m", "bundle", "a.wav", "Zoë", "-o", name]) == 2
        assert "cannot be written" in capsys.readouterr().err
    assert heard == []


def test_json_names_its_input_and_an_abandoned_file_goes(heard: list[str], tmp_path: Path) -> None:
    (tmp_path / ".qwen3-asr-onnx-01234567.tmp").touch()
    assert cli.main(["align", "-m", "bundle", "a.wav", "Zoë", "-o", "words.json", "-q"]) == 0
    assert json.loads((tmp_path / "words.json").read_text(encoding="utf-8"))["input"] == "a.wav"
    assert [path.name for path in tmp_path.iterdir()] == ["words.json"]


def test_a_text_on_stdin_is_utf8_whatever_the_locale(heard: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffZoë".encode()), encoding="ascii"))
    assert cli.main(["align", "-m", "bundle", "a.wav", "-", "-q"]) == 0
    assert heard == ["Zoë"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Zoë".encode("latin-1"))))
    assert cli.main(["align", "-m", "bundle", "a.wav", "-", "-q"]) == 2
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["align", "-m", "bundle", "a.wav", "-", "-q"]) == 2
