from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.bench.report import BEGIN, END, embed, report

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_speed_table_is_the_saved_results() -> None:
    results = json.loads((ROOT / "eval/results/bench.json").read_text(encoding="utf-8"))
    assert embed(README, report(results, headline=True)) == README, (
        "run: qwen3-asr-onnx bench --report eval/results/bench.json --into README.md"
    )


def test_the_accuracy_table_is_the_saved_results() -> None:
    pytest.importorskip("jiwer", reason="needs the eval extra")
    from qwen3_asr_onnx_eval.report import report as evaluation

    block = evaluation.readme_block(evaluation.load_summary(ROOT / "eval/results/mini-eval.jsonl.gz"))
    assert evaluation.embed(README, "eval", block) == README, "run: make report"


def test_embedding_replaces_what_was_there() -> None:
    assert embed(f"a\n{BEGIN}\nold\n{END}\nb\n", "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    with pytest.raises(OptionsError, match="no <!-- bench -->"):
        embed("no markers", "new")


def test_the_first_transcript_and_commands_are_where_a_reader_looks() -> None:
    lines = README.splitlines()
    commands = re.findall(r"^make \w+", README, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
    assert any("qwen3-asr-onnx transcribe" in line for line in lines[:25])
    assert len(lines) < 150


def test_every_verb_the_readme_shows_exists() -> None:
    from importlib.metadata import entry_points

    from qwen3_asr_onnx.commands.cli import BUILT_IN

    known = {*BUILT_IN, *(point.name for point in entry_points(group="qwen3_asr_onnx.commands"))}
    assert set(re.findall(r"qwen3-asr-onnx ([a-z]+) ", README)) <= known
