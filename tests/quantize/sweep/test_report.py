from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from qwen3_asr_onnx.errors import MissingExtra, OptionsError
from qwen3_asr_onnx_quantize.sweep.report import check_plot, merged, plot, table


def rows(*, words: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, size, errors in (("fp32", 20.0, 0.04), ("int4", 5.0, 0.05)):
        found += [
            {"variant": name, "measure": "size", "size_mb": size, "quantize_s": 1.0},
            {"variant": name, "measure": "fidelity", "kl_mean": errors / 10, "kl_p99": 0.1, "agree": 0.99},
            {"variant": name, "measure": "speed", "load_s": 0.1, "step_ms": size, "peak_mb": None},
        ]
        if words:
            interval = {"value": errors, "low": errors - 0.01, "high": errors + 0.02}
            found.append({"variant": name, "measure": "errors", "wer": {"errors": 4, "units": 100, **interval}})
    found[-1]["wer_more_than_fp32"] = {"value": 0.01, "low": -0.002, "high": 0.021}
    return found


def test_one_line_per_variant_and_rates_with_their_interval() -> None:
    lines = table(rows()).splitlines()
    assert [line.split(" | ")[0] for line in lines] == [
        "| variant",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| fp32",
        "| int4",
    ]
    assert "WER - fp32, points" in lines[0]
    assert "5.00% [4.00%, 7.00%]" in lines[3]
    assert "+1.00 [-0.20, +2.10]" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_what_nobody_measured_has_no_column() -> None:
    text = table(rows(words=False))
    assert "WER |" not in text
    assert "peak MB" not in text


@pytest.mark.parametrize("missing", ["kl_mean", "wer", "step_ms"])
def test_a_measurement_without_a_number_is_an_empty_cell_and_no_point(tmp_path: Path, missing: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the sweep extra")
    measured = rows(words=missing == "wer")
    for row in measured:
        if row["variant"] == "int4" and missing in row:
            row[missing] = {**row[missing], "low": None} if missing == "wer" else None
    assert "|  |" in table(measured).splitlines()[-1]
    plot(measured, tmp_path / "plot.svg")
    assert "fp32" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


def test_measurements_of_a_variant_become_one_row() -> None:
    first, second = merged(rows())
    assert (first["variant"], first["size_mb"], first["load_s"]) == ("fp32", 20.0, 0.1)
    assert second["wer"]["errors"] == 4


@pytest.mark.parametrize("words", [True, False])
def test_the_plot_names_every_variant_and_is_the_same_each_time(tmp_path: Path, words: bool) -> None:
    pytest.importorskip("matplotlib", reason="needs the sweep extra")
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        plot(rows(words=words), file)
    first, second = (file.read_text(encoding="utf-8") for file in files)
    assert first == second
    for name in ("fp32", "int4", "size, MB", "step, ms per token"):
        assert name in first
    plot(rows(words=words), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionsError, match=r"plot.pdf: a plot is written as .png or .svg"):
        check_plot(tmp_path / "plot.pdf")
    with pytest.raises(OptionsError, match="no such folder"):
        check_plot(tmp_path / "absent" / "plot.svg")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"qwen3-asr-onnx\[sweep\]"):
        check_plot(tmp_path / "plot.svg")
