"""The harness with systems that need no model: interruptions, crashes, failures, what is recorded."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="needs the eval extra")

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.datasets.dataset import Dataset
from qwen3_asr_onnx_eval.datasets.manifest import read_manifest
from qwen3_asr_onnx_eval.results.evaluation import EvaluationPlan, RunCounts, evaluate
from qwen3_asr_onnx_eval.results.rows import read_results
from qwen3_asr_onnx_eval.systems.process import SystemFailedError, SystemSpec, parse_system

pytestmark = pytest.mark.usefixtures("fake_systems")

PLAN = EvaluationPlan(settle_s=0)
ROWS = [(0.5, "Hello there.", "English"), (0.6, "Guten Tag.", "German"), (0.7, "", ""), (0.8, "Last one.", "English")]
Make = Callable[..., Path]


@pytest.fixture
def dataset(make_dataset: Make) -> Dataset:
    return read_manifest(make_dataset(ROWS))


def spec(name: str, model: Path, threads: int = 1) -> SystemSpec:
    return SystemSpec(name, "fake", str(model), "", threads)


def test_every_row_says_everything(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    model = make_answers(
        "a", {0.5: {"text": "hello there", "language": "en"}, 0.6: {"text": "x", "language": "Klingon"}}
    )
    results = tmp_path / "out" / "results.jsonl"

    counts = evaluate(dataset, [spec("a", model)], EvaluationPlan(settle_s=0, repeats=3), results)

    assert counts == RunCounts(transcribed=4)
    found = read_results(results)
    assert (found.header.dataset, found.header.n_utterances, found.systems) == ("manifest", 4, ("a",))
    first, second = found.rows[:2]
    assert (first.id, first.hypothesis, first.hypothesis_language) == ("u0", "hello there", "English")
    assert second.hypothesis_language == "Klingon"
    assert first.where.endswith("manifest.jsonl:1")
    assert first.audio_s == 0.5
    assert len(first.audio_sha256) == 64
    assert len(first.seconds) == 3
    assert first.peak_rss > 0
    assert first.settings == {
        "kind": "fake", "model": str(model), "precision": "", "threads": 1, "repeats": 3, "interleaved": False
    }  # fmt: skip
    assert first.info["versions"] == {"fake": "1"}
    assert {"cpu", "cpu_features", "cores", "commit", "python"} <= set(first.environment)


def test_systems_take_turns(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    specs = [spec(name, make_answers(name, {0.5: name})) for name in ("a", "b")]
    evaluate(dataset, specs, PLAN, tmp_path / "r.jsonl")
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    assert [json.loads(line)["system"] for line in lines] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(json.loads(line)["settings"]["interleaved"] for line in lines)
    evaluate(dataset, specs, EvaluationPlan(settle_s=0, one_at_a_time=True), tmp_path / "s.jsonl")
    lines = (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    assert [json.loads(line)["system"] for line in lines] == ["a"] * 4 + ["b"] * 4


def test_an_interrupted_run_goes_on_where_it_stopped(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    specs = [spec(name, make_answers(name, {0.5: name})) for name in ("a", "b")]
    results = tmp_path / "r.jsonl"

    def stop(utterance: str) -> None:
        if utterance == "u1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, specs, PLAN, results, progress=stop)
    assert len(read_results(results).rows) == 4
    with results.open("a", encoding="utf-8") as file:
        file.write('{"system": "a", "id": "u2", "tor')  # power cut

    assert evaluate(dataset, specs, PLAN, results) == RunCounts(done_before=4, transcribed=4)
    found = read_results(results)
    assert sorted((row.system, row.id) for row in found.rows) == sorted((s, f"u{i}") for s in "ab" for i in range(4))
    assert evaluate(dataset, specs, PLAN, results) == RunCounts(done_before=8)


def test_a_system_that_dies_on_one_file_is_started_again(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    answers = {
        0.5: {"raise": "no idea"},
        0.6: {"exit": "out of luck"},
        0.7: {"signal": int(signal.SIGSEGV)},
        0.8: "last one",
    }
    said: list[str] = []

    counts = evaluate(dataset, [spec("a", make_answers("a", answers))], PLAN, tmp_path / "r.jsonl", report=said.append)

    assert counts == RunCounts(transcribed=1, failed=3)
    rows = read_results(tmp_path / "r.jsonl").rows
    assert [row.error for row in rows] == [
        "a: RuntimeError: no idea",
        "a: the process ended with status 3: out of luck",
        "a: the process was ended by SIGSEGV",
        "",
    ]
    assert [row.hypothesis for row in rows] == [None, None, None, "last one"]
    assert [line.partition(": ")[0].rsplit(":", 1)[1] for line in said] == ["1", "2", "3"]


def test_a_system_that_hangs_is_started_again(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    model = make_answers("a", {0.5: {"text": "late", "sleep_s": 60}, 0.6: "guten tag"})
    evaluate(dataset, [spec("a", model)], EvaluationPlan(settle_s=0, timeout_s=4), tmp_path / "r.jsonl")
    first, second = read_results(tmp_path / "r.jsonl").rows[:2]
    assert first.error == "a: no answer within 4 s"
    assert (second.error, second.hypothesis) == ("", "guten tag")


def test_failures_are_tried_again_on_request(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    evaluate(dataset, [spec("a", make_answers("a", {0.5: {"raise": "once"}}))], PLAN, results)
    model = make_answers("a", {0.5: "hello there"})
    assert evaluate(dataset, [spec("a", model)], PLAN, results) == RunCounts(done_before=4)
    retry = EvaluationPlan(settle_s=0, retry_failed=True)
    assert evaluate(dataset, [spec("a", model)], retry, results) == RunCounts(done_before=3, transcribed=1)
    (row,) = [row for row in read_results(results).rows if row.id == "u0"]
    assert (row.error, row.hypothesis) == ("", "hello there")


def test_audio_that_cannot_be_decoded_is_named_and_counted(
    make_dataset: Make, make_answers: Make, tmp_path: Path
) -> None:
    manifest = make_dataset(ROWS)
    (tmp_path / "clip1.wav").write_bytes(b"not audio at all")
    said: list[str] = []
    specs = [spec(name, make_answers(name, {})) for name in ("a", "b")]

    counts = evaluate(read_manifest(manifest), specs, PLAN, tmp_path / "r.jsonl", report=said.append)

    assert counts == RunCounts(transcribed=6, undecodable=2)
    (line,) = said
    assert f"{manifest}:2: " in line
    rows = [row for row in read_results(tmp_path / "r.jsonl").rows if row.id == "u1"]
    assert [(row.error_kind, row.hypothesis) for row in rows] == [("audio", None)] * 2


def test_what_libraries_print_does_not_mix_with_answers(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    model = make_answers("a", {0.5: {"text": "hello", "print": "{loading}\n"}})
    evaluate(dataset, [spec("a", model)], PLAN, tmp_path / "r.jsonl")
    assert read_results(tmp_path / "r.jsonl").rows[0].hypothesis == "hello"


def test_a_forced_language_reaches_the_system(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    model = make_answers("a", {0.5: {"text": "x", "language": "de"}})
    evaluate(dataset, [spec("a", model)], EvaluationPlan(settle_s=0, forced_language="English"), tmp_path / "r.jsonl")
    found = read_results(tmp_path / "r.jsonl")
    assert found.header.forced_language == "English"
    assert found.rows[0].hypothesis_language == "English"


def test_results_are_not_mixed(dataset: Dataset, make_answers: Make, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    model = make_answers("a", {})
    evaluate(dataset.limited(2), [spec("a", model)], PLAN, results)
    with pytest.raises(OptionsError, match="another dataset"):
        evaluate(dataset, [spec("a", model)], PLAN, results)
    with pytest.raises(OptionsError, match="another threads"):
        evaluate(dataset.limited(2), [spec("a", model, threads=2)], PLAN, results)
    with pytest.raises(OptionsError, match="different names"):
        evaluate(dataset, [spec("a", model)] * 2, PLAN, tmp_path / "s.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(OptionsError, match="not a results"):
        evaluate(dataset, [spec("a", model)], PLAN, tmp_path / "other.jsonl")


def test_a_system_that_cannot_be_loaded_stops_before_anything_runs(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"refuse": "no such weights"}', encoding="utf-8")
    with pytest.raises(SystemFailedError, match=r"broken: .*no such weights"):
        evaluate(dataset, [spec("broken", path)], PLAN, tmp_path / "r.jsonl")


def test_what_a_user_types_for_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real kinds

    def parse(text: str, python: str | None = None) -> SystemSpec:
        return parse_system(text, threads=2, official_python=python)

    assert parse("transformers:ck@bfloat16") == SystemSpec(
        "transformers ck bfloat16", "transformers", "ck", "bfloat16", 2, sys.executable
    )
    named: Any = parse("a=b=official:/x/ck", "/venv/python")
    assert (named.name, named.kind, named.python) == ("a=b", "official", "/venv/python")
    for text in ("nonsense", "ours:", "=ours:x", "whisper:x"):
        with pytest.raises(OptionsError, match="KIND:MODEL"):
            parse(text)
    with pytest.raises(OptionsError, match="--official-python"):
        parse("official:ck")
