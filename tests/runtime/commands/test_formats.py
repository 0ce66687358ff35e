"""A format is one line of a table: every verb offers it, checks it and writes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from qwen3_asr_onnx.commands import align, cli, transcribe
from qwen3_asr_onnx.outputs.cues import SubtitleStyle, cues
from qwen3_asr_onnx.outputs.writers import FORMATS, Format
from qwen3_asr_onnx.results import Segment, Transcript, Word

WORDS = (Word("Hello", 0.0, 0.5, 0.9, start_char=0), Word("there.", 0.5, 1.0, 0.9, start_char=6))
SEGMENT = Segment(0.0, 1.0, "Hello there.", "English", (), "eos", 0.0, words=WORDS)


def to_toy(transcript: Transcript, style: SubtitleStyle) -> str:
    return "".join(f"{cue.start_ms}>{'/'.join(cue.text_lines)}\n" for cue in cues(transcript, style))


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subtitle format called toy, and models that hear one sentence."""
    monkeypatch.setitem(FORMATS, "toy", Format(to_toy, is_subtitle=True, may_be_empty=True, can_follow=True))
    heard = Transcript("Hello there.", "English", 1.0, (SEGMENT,), WORDS, (), "eos", 0.0)
    transcriber = SimpleNamespace(transcribe_many=lambda audios, *_, **__: [heard for _ in audios], close=lambda: None)
    aligner = SimpleNamespace(align=lambda *_, **__: WORDS, resolve_language=lambda _: "English", close=lambda: None)
    monkeypatch.setattr(transcribe, "load_transcriber", lambda _: transcriber)
    monkeypatch.setattr(align, "load_aligner", lambda _: aligner)
    monkeypatch.setattr(align, "load_audio", lambda _: np.zeros(16_000, np.float32))


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"audio")
    (tmp_path / "b.wav").write_bytes(b"audio")
    return tmp_path


def test_transcribe_writes_it_and_makes_one_again_that_somebody_emptied(audio: Path) -> None:
    assert cli.main(["transcribe", "-m", "bundle", "a.wav", "-f", "toy", "--save", "--max-line-width", "16"]) == 0
    assert (audio / "a.toy").read_text() == "0>Hello there.\n"
    (audio / "a.toy").write_text("")
    assert cli.main(["transcribe", "-m", "bundle", "a.wav", "-f", "toy", "--save", "--resume"]) == 0
    assert (audio / "a.toy").read_text() == "0>Hello there.\n"


def test_stdout_takes_several(audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["transcribe", "-m", "bundle", "a.wav", "b.wav", "-f", "toy", "-q"]) == 0
    assert capsys.readouterr().out == "==> a.wav <==\n0>Hello there.\n\n==> b.wav <==\n0>Hello there.\n"


def test_align_writes_it_by_the_suffix_of_its_file(audio: Path) -> None:
    assert cli.main(["align", "-m", "bundle", "a.wav", "Hello there.", "-l", "en", "-o", "out.toy", "-q"]) == 0
    assert (audio / "out.toy").read_text() == "0>Hello there.\n"


@pytest.mark.parametrize(
    ("verb", "offer"), [("transcribe", "txt, json, srt, vtt, tsv, toy (default"), ("align", "{tsv,json,srt,vtt,toy}")]
)
def test_help_names_it(verb: str, offer: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert offer in said
    assert "srt and vtt and toy; without word times" in said
