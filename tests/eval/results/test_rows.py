from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from qwen3_asr_onnx_eval.results.rows import Header, ResultRow, ResultsWriter, read_results


def test_what_a_system_tells_of_itself_need_not_be_finite_and_the_file_is_json_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    row = ResultRow(
        "other", "a", "set:1", "", "", "", "hello", 1.0, "", "", seconds=(0.5, math.nan), info={"loss": math.inf}
    )
    with ResultsWriter(path, Header("set", "digest", 1)) as writer:
        writer.append(row)
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    (found,) = read_results(path).rows
    assert found.seconds == (0.5,)
    assert found.info == {"loss": None}
