"""Every reader on a small copy of its layout; every fault of a list named with its line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.eval.conftest import write_wav
from tests.support.clips import synthetic_clip

pytest.importorskip("soundfile", reason="needs the audio extra")

from qwen3_asr_onnx.errors import AudioError, OptionsError
from qwen3_asr_onnx_eval.datasets import mini, opening
from qwen3_asr_onnx_eval.datasets.dataset import Dataset, DatasetBuilder, DatasetError, Utterance, read_waveform
from qwen3_asr_onnx_eval.datasets.manifest import read_manifest
from qwen3_asr_onnx_eval.datasets.opening import open_dataset


def write_lines(path: Path, *lines: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_every_fault_of_a_manifest_is_named_with_its_line(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", 0.2)
    right = hashlib.sha256(wav.read_bytes()).hexdigest()
    manifest = write_lines(
        tmp_path / "m.jsonl",
        {"path": "a.wav", "text": "Fine.", "language": "en", "sha256": right.upper()},
        {"path": "gone.wav", "text": "x"},
        {"path": "a.wav", "id": "b", "text": "x", "sha256": "0" * 64},
        {"path": "a.wav", "text": "again the same id"},
        {"path": "a.wav", "id": "c", "text": "x", "language": "Klingon"},
        "{not json",
        "[1, 2]",
        {"text": "no path"},
        {"path": "a.wav", "id": "d"},
        {"path": "a.wav", "id": "e", "text": 5},
        "",
        {"path": "a.wav", "id": "f", "segments": [{"start_s": 0, "text": "x"}]},
        {"path": "a.wav", "id": "g", "text": ""},
    )

    dataset = read_manifest(manifest)

    assert [u.id for u in dataset.utterances] == ["a.wav", "g"]
    assert dataset.utterances[0].language == "English"
    found = {int(problem.where.rsplit(":", 1)[1]): problem.reason for problem in dataset.problems}
    expected = {
        2: "gone.wav: no such audio file",
        3: "the list says 000",
        4: f"'a.wav' was used before, at {manifest}:1",
        5: "Klingon",
        6: "not valid JSON",
        7: "not a JSON object",
        8: "no path",
        9: "no text",
        10: "text is 5",
        12: "segments must be",
    }
    assert found.keys() == expected.keys()
    for line, part in expected.items():
        assert part in found[line], line
    with pytest.raises(DatasetError, match="10 of 12 entries") as error:
        dataset.require_usable(keep_going=False)
    assert all(f"{manifest}:{line}: " in str(error.value) for line in expected)
    dataset.require_usable(keep_going=True)


@pytest.mark.parametrize("field", ["path", "file", "audio", "audio_filepath"])
def test_a_manifest_may_call_its_audio_as_other_tools_do(tmp_path: Path, field: str) -> None:
    write_wav(tmp_path / "a.wav", 0.2)
    dataset = read_manifest(write_lines(tmp_path / "m.jsonl", {field: "a.wav", "text": "Fine.", "path": "a.wav"}))
    assert [(u.id, u.audio, u.text) for u in dataset.utterances] == [("a.wav", tmp_path / "a.wav", "Fine.")]
    twice = read_manifest(write_lines(tmp_path / "m.jsonl", {"path": "a.wav", "audio": "b.wav", "text": "Which?"}))
    assert [problem.reason for problem in twice.problems] == ["path and audio name different files; give one of them"]


def test_the_project_s_own_manifest_is_one() -> None:
    own = read_manifest(Path(__file__).parents[2] / "data" / "mini-clips" / "manifest.jsonl")
    assert own.utterances
    assert not own.problems


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    empty = read_manifest(write_lines(tmp_path / "m.jsonl", ""))
    with pytest.raises(DatasetError, match="no utterance"):
        empty.require_usable(keep_going=True)
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionsError, match="UTF-8"):
        read_manifest(tmp_path / "bad.jsonl")


def test_segments_are_cut_from_the_file_or_joined(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", 3)
    segments = [{"start_s": 0.5, "end_s": 1.5, "text": "One."}, {"start_s": 2, "end_s": 3.005, "text": "Two."}]
    manifest = write_lines(tmp_path / "m.jsonl", {"path": "long.wav", "language": "English", "segments": segments})

    (whole,) = read_manifest(manifest).utterances
    first, second = read_manifest(manifest, by_segment=True).utterances

    assert whole.text == "One. Two."
    assert len(read_waveform(whole)) == 48_000
    assert (first.id, first.text, second.id) == ("long.wav#0", "One.", "long.wav#1")
    expected = read_waveform(whole)[8_000:24_000]
    assert np.array_equal(read_waveform(first), expected)
    late = write_lines(
        tmp_path / "n.jsonl",
        {
            "path": "long.wav",
            "segments": [{"start_s": 2, "end_s": 4, "text": "x"}, {"start_s": 2, "end_s": 1, "text": ""}],
        },
    )
    found = read_manifest(late, by_segment=True)
    with pytest.raises(AudioError, match="the segment ends at 4"):
        read_waveform(found.utterances[0])
    assert "segment 1" in found.problems[0].where
    with pytest.raises(OptionsError, match="only a manifest"):
        open_dataset(str(tmp_path), by_segment=True)


def test_the_digest_tells_datasets_apart(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.1)
    one = read_manifest(write_lines(tmp_path / "one.jsonl", {"path": "a.wav", "text": "a"}))
    same = read_manifest(write_lines(tmp_path / "same.jsonl", {"path": "a.wav", "text": "a"}))
    other = read_manifest(write_lines(tmp_path / "other.jsonl", {"path": "a.wav", "text": "b"}))
    assert one.digest == same.digest != other.digest


def test_librispeech(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech" / "test-clean" / "61" / "70968"
    write_wav(chapter / "61-70968-0000.wav", 0.1)
    write_lines(chapter / "61-70968.trans.txt", "61-70968-0000 HE BEGAN", "61-70968-0001 NO AUDIO", "61-70968-0002")

    dataset = open_dataset(str(tmp_path / "LibriSpeech"))

    (one,) = dataset.utterances
    assert (one.id, one.text, one.language, one.speaker, one.subset) == (
        "61-70968-0000", "HE BEGAN", "English", "61", "test-clean"
    )  # fmt: skip
    assert [problem.where.rsplit(":", 1)[1] for problem in dataset.problems] == ["2", "3"]
    with pytest.raises(OptionsError, match=r"trans\.txt"):
        open_dataset(f"librispeech:{make_empty(tmp_path)}")


def make_empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty"
    path.mkdir()
    return path


def test_common_voice(tmp_path: Path) -> None:
    folder = tmp_path / "de"
    write_wav(folder / "clips" / "a.wav", 0.1)
    header = "client_id\tpath\tsentence\tup_votes\tlocale"
    write_lines(
        folder / "test.tsv",
        header,
        'x1\ta.wav\tEr sagte "ja".\t2\tde',
        "x2\tb.wav\tFehlt.\t2\tde",
        "x3\ta.wav\tzu kurz",
    )
    dataset = open_dataset(str(folder))
    (one,) = dataset.utterances
    assert (one.text, one.language, one.speaker, dataset.name) == ('Er sagte "ja".', "German", "x1", "de/test")
    assert [problem.where.rsplit(":", 1)[1] for problem in dataset.problems] == ["3", "4"]
    write_wav(tmp_path / "zh-HK" / "clips" / "a.wav", 0.1)
    tsv = write_lines(tmp_path / "zh-HK" / "dev.tsv", header, "x\ta.wav\t你好\t2\tzh-HK")
    assert open_dataset(str(tsv)).utterances[0].language == "Cantonese"


def test_fleurs(tmp_path: Path) -> None:
    folder = tmp_path / "cmn_hans_cn"
    write_wav(folder / "audio" / "test" / "123.wav", 0.1)
    row = "1\t123.wav\t你好，世界。\t你好 世界\tx | y\t1600\tMALE"
    write_lines(folder / "test.tsv", row, "1\t124.wav\tfehlt\tfehlt\tx\t1\tMALE", "short")
    dataset = open_dataset(str(folder))
    (one,) = dataset.utterances
    assert (one.id, one.text, one.language) == ("123", "你好，世界。", "Chinese")
    assert [problem.where.rsplit(":", 1)[1] for problem in dataset.problems] == ["2", "3"]
    write_lines(tmp_path / "nb_no" / "test.tsv", row)
    with pytest.raises(OptionsError, match="nb_no"):
        open_dataset(str(tmp_path / "nb_no"))


def test_a_folder_of_audio_and_text(tmp_path: Path) -> None:
    for name in ("a", "sub/b", "c"):
        write_wav(tmp_path / f"{name}.wav", 0.1)
    (tmp_path / "a.txt").write_text("Bonjour.\n", encoding="utf-8")
    (tmp_path / "sub" / "b.txt").write_text("", encoding="utf-8")
    (tmp_path / "d.txt").write_text("no audio", encoding="utf-8")
    dataset = open_dataset(str(tmp_path), default_language="French")
    assert [(u.id, u.text, u.language, u.subset) for u in dataset.utterances] == [
        ("a.wav", "Bonjour.", "French", ""),
        ("sub/b.wav", "", "", "sub"),
    ]
    assert [Path(problem.where).name for problem in dataset.problems] == ["c.wav", "d.txt"]


def read_toy(path: Path, *, default_language: str = "") -> Dataset:
    builder = DatasetBuilder(path.stem, default_language)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, text = line.partition("|")
        builder.add(Utterance(name, path.parent / name, text, "", f"{path}:{number}"))
    return builder.build()


def test_another_kind_is_a_line_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(opening.KINDS, "toy", opening.Kind(read_toy, lambda path: path.suffix == ".toy"))
    write_wav(tmp_path / "a.wav", 0.1)
    path = write_lines(tmp_path / "some.toy", "a.wav|Hallo.")
    for spec in (str(path), f"toy:{path}"):
        (one,) = open_dataset(spec, default_language="German").utterances
        assert (one.id, one.text, one.language) == ("a.wav", "Hallo.", "German")
    with pytest.raises(OptionsError, match="only a manifest"):
        open_dataset(str(path), by_segment=True)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"")
    for spec, message in (
        (str(tmp_path / "gone"), "no such file or folder"),
        (str(tmp_path / "x.pdf"), "not a kind"),
        (str(make_empty(tmp_path)), "no audio file"),
        ("mini:nonsense", "no miniature test set"),
    ):
        with pytest.raises(OptionsError, match=message):
            open_dataset(spec)


def test_the_checked_in_clips() -> None:
    dataset = open_dataset("mini-clips")
    assert len(dataset.utterances) == 15
    assert not dataset.problems
    assert sum(not u.text for u in dataset.utterances) == 3


def test_outside_a_clone_the_miniature_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "TEST_MANIFEST", tmp_path / "gone.jsonl")
    monkeypatch.setattr(mini, "CLIPS", tmp_path)
    for spec in ("mini", "mini:seen", "mini-clips"):
        with pytest.raises(OptionsError, match=r"part of a clone.*name a dataset"):
            open_dataset(spec, cache_dir=tmp_path)


@pytest.mark.program("voices")
def test_the_miniatures_clips_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = mini.TEST_MANIFEST.read_text(encoding="utf-8").splitlines()
    short = write_lines(tmp_path / "tests.jsonl", *[row for row in rows if '"seen"' in row][:3])
    monkeypatch.setattr(mini, "TEST_MANIFEST", short)
    first = open_dataset("mini", cache_dir=tmp_path / "cache")
    assert [u.text for u in first.utterances] == [json.loads(row)["text"] for row in rows[:3]]
    assert not first.problems
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.flac")}
    assert open_dataset("mini", cache_dir=tmp_path / "cache").digest == first.digest
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.flac")}
    damaged = next(iter(made))
    damaged.write_bytes(b"x")
    assert damaged.name in open_dataset("mini", cache_dir=tmp_path / "cache").problems[0].reason


@pytest.fixture
def local_table(tmp_path: Path) -> Callable[[], Path]:
    """A local copy of a hub dataset, as `save_to_disk` writes it."""
    datasets = pytest.importorskip("datasets", reason="needs the hf-datasets extra")

    def make() -> Path:
        paths = [str(write_wav(tmp_path / f"{i}.wav", 0.1 + 0.1 * i)) for i in range(2)]
        string = datasets.Value("string")
        # Encoding through the Audio feature itself would need torchcodec.
        cell = {"bytes": datasets.Value("binary"), "path": string}
        features = datasets.Features({"audio": cell, "sentence": string, "locale": string, "client_id": string})
        values = {
            "audio": [{"path": p, "bytes": Path(p).read_bytes()} for p in paths],
            "sentence": ["Hallo.", None], "locale": ["de", "de"], "client_id": ["x", "y"],
        }  # fmt: skip
        table = datasets.Dataset.from_dict(values, features=features).cast_column("audio", datasets.Audio())
        folder = tmp_path / "saved"
        datasets.DatasetDict({"test": table}).save_to_disk(folder)
        return folder

    return make


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_local_copy_of_a_hub_dataset(local_table: Callable[[], Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = local_table()
    dataset = open_dataset(f"hf:{folder}")
    (one,) = dataset.utterances
    assert (one.text, one.language, one.speaker) == ("Hallo.", "German", "x")
    assert np.allclose(read_waveform(one), synthetic_clip(0.1), atol=1e-4)
    assert "row 1" in dataset.problems[0].where
    with pytest.raises(OptionsError, match="no split 'dev'"):
        open_dataset(f"hf:{folder}::dev")
    with pytest.raises(OptionsError, match="cannot be loaded"):
        open_dataset(f"hf:{folder / 'gone'}")
