"""A file of jobs: what a line may say, what it stands for, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes

from qwen3_asr_onnx.commands import cli
from qwen3_asr_onnx.commands.jobs_file import read_jobs_file
from qwen3_asr_onnx.commands.worklist import Source, Unusable
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions

DEFAULTS = TranscribeOptions(language="English", max_new_tokens=4, end_s=100.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    both = np.stack([synthetic_clip(6.0, seed=1), synthetic_clip(6.0, seed=2)], axis=1)
    (tmp_path / "calls").mkdir()
    for name in ("calls/a.wav", "calls/b.wav"):
        (tmp_path / name).write_bytes(wav_bytes(both))
    return tmp_path


def written(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "jobs.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\ufeff" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def test_a_line_says_what_is_its_own(folder: Path) -> None:
    path = written(
        folder,
        {"path": "calls/a.wav"},
        {
            "audio_filepath": "calls/a.wav",
            "language": "de",
            "context": "Zoë",
            "start": 60,
            "end": "1:30.5",
            "text": "x",
        },
        {"file": str(folder / "calls" / "b.wav"), "channels": 2, "track": 3, "name": "b 2", "language": None},
        {"path": "https://example.com/c.mp3", "channels": "split"},
    )
    sources, unusable = read_jobs_file(path, DEFAULTS)
    assert unusable == []
    assert [source.options for source in sources] == [
        DEFAULTS,
        TranscribeOptions(language="de", context="Zoë", max_new_tokens=4, start_s=60.0, end_s=90.5),
        TranscribeOptions(language="English", max_new_tokens=4, end_s=100.0, channels=2, track=3),
        TranscribeOptions(language="English", max_new_tokens=4, end_s=100.0, channels="split"),
    ]
    assert [source.relative.as_posix() for source in sources] == ["a", "a", "b 2", "c"]
    assert [source.audio for source in sources] == [
        folder / "calls" / "a.wav",
        folder / "calls" / "a.wav",
        folder / "calls" / "b.wav",
        "https://example.com/c.mp3",
    ]


def test_a_folder_stands_for_its_files_and_nothing_for_none(folder: Path) -> None:
    sources, unusable = read_jobs_file(written(folder, {"path": "calls", "end": 2}, {"path": "d.wav"}), DEFAULTS)
    assert [(source.relative.name, source.options and source.options.end_s) for source in sources] == [
        ("a", 2.0),
        ("b", 2.0),
    ]
    assert unusable == [Unusable(str(folder / "d.wav"), "no such file or directory")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "a line is an object"),
        ({}, "no path"),
        ({"path": "a", "file": "b"}, "name different files"),
        ({"path": "-"}, "give - on the command line"),
        ({"path": "a", "langage": "de"}, "did you mean language"),
        ({"path": "a", "language": 3}, "language is 3; give a string"),
        ({"path": "a", "start": True}, "start is True; give seconds"),
        ({"path": "a", "start": "x"}, "start: 'x' is no moment"),
        ({"path": "a", "start": 5, "end": 5}, "end_s is 5.0; give more seconds"),
        ({"path": "a", "track": 0}, "track is 0"),
        ({"path": "a", "track": "1"}, "track is '1'; give a whole number"),
        ({"path": "a", "channels": "both"}, "channels: 'both' is no channel"),
        ({"path": "a", "name": "../b"}, "name is '../b'; give the name of a file"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder: Path, row: dict[str, Any] | str, message: str) -> None:
    path = written(folder, {"path": "calls/a.wav"}, row)
    with pytest.raises(OptionsError) as told:
        read_jobs_file(path, DEFAULTS)
    assert str(told.value).startswith(f"{path}:2: ")
    assert message in str(told.value)


def test_many_faults_are_not_all_told(folder: Path) -> None:
    with pytest.raises(OptionsError) as told:
        read_jobs_file(written(folder, *["x"] * 25), DEFAULTS)
    assert len(str(told.value).splitlines()) == 11
    assert str(told.value).endswith("and 15 more")


def test_a_manifest_that_cannot_be_used(folder: Path) -> None:
    for content, message in ((None, "No such file"), (b"\xff\xfe", "decode"), (b"\n", "names no input")):
        path = folder / "m.jsonl"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(OptionsError, match=message):
            read_jobs_file(path, DEFAULTS)


def transcribe(tiny_bundle: Path, *arguments: str) -> int:
    return cli.main(["transcribe", "-q", "-m", str(tiny_bundle), "--max-new-tokens", "4", *arguments])


def test_jobs_are_done_as_they_say(tiny_bundle: Path, folder: Path) -> None:
    jobs = written(
        folder,
        {"path": "calls/a.wav", "language": "German", "end": 3},
        {"path": "calls/a.wav", "start": 3, "name": "rest", "context": "Anna " * 40},
        {"path": "calls/b.wav", "channels": "split"},
    )
    out = folder / "out"
    assert transcribe(tiny_bundle, "--manifest", str(jobs), "-l", "en", "-f", "json", "-o", str(out)) == 0
    made = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in out.iterdir()}
    assert sorted(made) == ["a", "b", "rest"]
    assert [(made[name]["start_s"], made[name]["duration_s"]) for name in ("a", "rest", "b")] == [
        (0, 3),
        (3, 3),
        (0, 6),
    ]
    assert {segment["channel"] for segment in made["b"]["segments"]} == {1, 2}


def test_parts_of_one_recording_need_names(tiny_bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = written(folder, {"path": "calls/a.wav", "end": 3}, {"path": "calls/a.wav", "start": 3})
    assert transcribe(tiny_bundle, "--manifest", str(jobs), "-o", str(folder / "out")) == 2
    assert 'give each a "name"' in capsys.readouterr().err
    assert not (folder / "out").exists()
    assert transcribe(tiny_bundle, "--manifest", str(jobs)) == 0
    assert capsys.readouterr().out.count("==> ") == 2


def test_inputs_stand_in_one_place(tiny_bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = written(folder, {"path": "calls/a.wav"})
    assert transcribe(tiny_bundle, "--manifest", str(jobs), "calls/b.wav") == 2
    assert "names the inputs; leave out calls/b.wav" in capsys.readouterr().err
    assert transcribe(tiny_bundle) == 2
    assert "nothing to transcribe" in capsys.readouterr().err


def test_sources_of_the_command_line_have_no_options_of_their_own() -> None:
    assert Source("a", "a", Path("a")).options is None
