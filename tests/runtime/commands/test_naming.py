"""How results are called."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands.naming import name_template
from qwen3_asr_onnx.commands.state import Records
from qwen3_asr_onnx.commands.worklist import Destination, Source, find_sources, plan_jobs
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("one/a.wav", "two/a.wav", "two/a.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"audio")
    return tmp_path


def names(inputs: list[str], template: str | None, **changes: object) -> list[str]:
    sources, _ = find_sources(inputs)
    destination = Destination(("txt", "srt"), Path("out"), template=template, **changes)  # type: ignore[arg-type]
    jobs = plan_jobs(sources, destination, Records())
    return [path.as_posix() for job in jobs for path in job.outputs.values()]


def test_templates(folder: Path) -> None:
    assert names(["one/a.wav"], "{stem}.{lang}.{ext}", language="German") == ["out/a.de.txt", "out/a.de.srt"]
    assert names(["one/a.wav"], "{name} of {parent}.{ext}") == ["out/a.wav of one.txt", "out/a.wav of one.srt"]
    assert names(["."], "{{{name}}}.{ext}.x")[:2] == ["out/one/{a.wav}.txt.x", "out/one/{a.wav}.srt.x"]
    own = Source("a", folder / "one" / "a.wav", Path("a"), ".wav", TranscribeOptions(language="zh"))
    beside = Destination(("txt",), None, template="{stem}.{lang}.{ext}", language="English")
    assert beside.path(own, "txt") == folder / "one" / "a.zh.txt"


def test_equal_stems_have_ways_out(folder: Path) -> None:
    with pytest.raises(
        OptionsError, match=r"one/a.wav and two/a.wav would both write .*add --name-template '\{parent\}"
    ):
        names(["one/a.wav", "two/a.wav"], None)
    assert len(names(["one/a.wav", "two/a.wav"], "{parent}-{stem}.{ext}")) == 4
    with pytest.raises(OptionsError, match="add --keep-extension"):
        names(["two/a.wav", "two/a.mp3"], None)
    assert len(names(["two/a.wav", "two/a.mp3"], None, keep_extension=True)) == 4
    with pytest.raises(OptionsError, match="choose another template"):
        names(["one/a.wav", "two/a.wav"], "{stem}.{ext}")


def test_a_language_that_is_detected_is_no_part_of_a_name(folder: Path) -> None:
    with pytest.raises(OptionsError, match=r"no language is asked for of one/a.wav; add --language"):
        names(["one/a.wav"], "{stem}.{lang}.{ext}")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{stem}", r"gives all formats one name; add \{ext\}"),
        ("{stm}.{ext}", r"there is no field \{stm\}; there are \{stem\}, \{name\}"),
        ("{}.{ext}", r"there is no field \{\}"),
        ("{stem.x}.{ext}", r"there is no field \{stem.x\}"),
        ("{stem!r}.{ext}", "there is no field"),
        ("{stem:>9}.{ext}", "there is no field"),
        ("{stem", "expected '}'"),
        ("sub/{stem}.{ext}", "names a folder"),
    ],
)
def test_what_is_no_template(template: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        name_template(template)
