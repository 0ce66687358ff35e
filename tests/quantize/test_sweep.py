from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx_quantize import sweep
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.fidelity import compare, trace_reference
from qwen3_asr_onnx_quantize.recipe import Keep, Recipe, WeightOnly, load_recipe
from qwen3_asr_onnx_quantize.sweep import SweepPlan, run_sweep, table

CLIPS = (synthetic_clip(1.0), synthetic_clip(2.5))
INT8 = WeightOnly("int8", 32, search=False)


def plan(bundle: Path, output: Path, *recipes: Recipe) -> SweepPlan:
    chosen = recipes or (load_recipe("int8"), load_recipe("int4"))
    return SweepPlan(bundle, chosen, CLIPS, output, max_new_tokens=6, threads=1)


def test_the_trace_is_what_the_transcriber_writes(bundle: Path) -> None:
    asr = Transcriber(bundle, threads=1)
    for clip, trace in zip(CLIPS, trace_reference(asr, CLIPS, 6), strict=True):
        assert trace.token_ids == asr.transcribe(clip, TranscribeOptions(max_new_tokens=6)).token_ids
        # Each id is the best of the logits before it: the forced pass repeats the free one.
        assert tuple(trace.logits.argmax(axis=1)[: len(trace.token_ids)]) == trace.token_ids
        assert trace.logits.shape == (1 + len(trace.token_ids), asr.manifest.decoder.vocab_size)


def test_float32_is_no_distance_from_itself_and_int8_nearer_than_int4(bundle: Path) -> None:
    reference = Transcriber(bundle, "fp32", threads=1)
    traces = trace_reference(reference, CLIPS, 12)
    same = compare(reference, traces)
    assert same.n_clips == 2
    assert same.n_agree == same.n_positions == sum(len(trace.logits) for trace in traces)
    assert (same.kl_mean, same.features_error) == (0.0, 0.0)
    for name in ("int8", "int4"):
        quantize_bundle(bundle, load_recipe(name))
    int8, int4 = (compare(Transcriber(bundle, name, threads=1), traces) for name in ("int8", "int4"))
    assert 0 < int8.kl_mean < int4.kl_mean
    assert int8.features_error == int4.features_error > 0


def test_divergence_of_known_distributions() -> None:
    from qwen3_asr_onnx_quantize.fidelity import _divergence

    p = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], dtype=np.float32)) + 7  # any shift of logits is the same
    q = np.log(np.array([[0.5, 0.5], [0.5, 0.5]], dtype=np.float32))
    expected = [0.0, 0.9 * np.log(1.8) + 0.1 * np.log(0.2)]
    np.testing.assert_allclose(_divergence(p, q), expected, atol=1e-6)


def test_one_row_per_recipe_and_nothing_is_measured_twice(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "results" / "sweep.jsonl"
    seen: list[str] = []
    rows = run_sweep(plan(bundle, output), seen.append)
    assert seen == [row["variant"] for row in rows] == ["fp32", "int8", "int4"]
    assert rows == [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["agree"] == 1.0
    assert rows[2]["size_mb"] < rows[0]["size_mb"]
    monkeypatch.setattr(sweep, "_measured", None)
    assert run_sweep(plan(bundle, output), seen.append) == rows
    assert len(seen) == 3


def test_a_sweep_goes_on_where_it_was_stopped(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.jsonl"
    run_sweep(plan(bundle, output, load_recipe("int8")))
    with output.open("a", encoding="utf-8") as file:
        file.write('{"key": "cut sh')  # as a crash in the middle of a line leaves it
    seen: list[str] = []
    rows = run_sweep(plan(bundle, output), seen.append)
    assert seen == ["int4"]
    assert [row["variant"] for row in rows] == ["fp32", "int8", "int4"]
    assert len(output.read_text(encoding="utf-8").splitlines()) == 3


def test_other_clips_are_another_measurement(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.jsonl"
    first = plan(bundle, output, load_recipe("int8"))
    run_sweep(first)
    seen: list[str] = []
    run_sweep(SweepPlan(bundle, first.recipes, CLIPS[:1], output, max_new_tokens=6, threads=1), seen.append)
    assert seen == ["fp32", "int8"]


def test_refusals(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.jsonl"
    with pytest.raises(OptionsError, match="needs audio"):
        run_sweep(SweepPlan(bundle, (load_recipe("int8"),), (), output))
    with pytest.raises(OptionsError, match="two recipes are called 'int8'"):
        run_sweep(plan(bundle, output, load_recipe("int8"), load_recipe("int8")))
    output.write_text("hello\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="line 1: not a row of a sweep"):
        run_sweep(plan(bundle, output))
    quantize_bundle(bundle, Recipe("int8", Keep(), INT8, INT8, INT8))
    with pytest.raises(BundleError, match="variant 'int8' exists"):
        run_sweep(plan(bundle, tmp_path / "other.jsonl"))


def test_the_table_has_a_line_per_row(bundle: Path, tmp_path: Path) -> None:
    rows = run_sweep(plan(bundle, tmp_path / "sweep.jsonl", load_recipe("int8")))
    lines = table(rows).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| fp32 | ")
    assert len({line.count("|") for line in lines}) == 1
