from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.calibration.clips import Clip
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe, load_recipe
from qwen3_asr_onnx_quantize.schemes import Keep, WeightOnly
from qwen3_asr_onnx_quantize.sweep import sweep
from qwen3_asr_onnx_quantize.sweep.fidelity import compare, trace_reference
from qwen3_asr_onnx_quantize.sweep.speed import probe_speed
from qwen3_asr_onnx_quantize.sweep.sweep import MEASURES, SweepPlan, run_sweep

CLIPS = (synthetic_clip(1.0), synthetic_clip(2.5))
TOLD = (Clip(CLIPS[0], "Hello there."), Clip(CLIPS[1]), Clip(synthetic_clip(0.5), ""))
INT8 = WeightOnly("int8", 32, search=False)


def plan(bundle: Path, output: Path, *recipes: Recipe) -> SweepPlan:
    chosen = recipes or (load_recipe("int8"), load_recipe("int4"))
    return SweepPlan(bundle, chosen, TOLD, output, max_new_tokens=6, n_speed=1, threads=1)


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
    from qwen3_asr_onnx_quantize.sweep.fidelity import _divergence

    p = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], dtype=np.float32)) + 7  # any shift of logits is the same
    q = np.log(np.array([[0.5, 0.5], [0.5, 0.5]], dtype=np.float32))
    expected = [0.0, 0.9 * np.log(1.8) + 0.1 * np.log(0.2)]
    np.testing.assert_allclose(_divergence(p, q), expected, atol=1e-6)


def test_one_row_per_variant_and_measurement_and_nothing_is_measured_twice(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "results" / "sweep.jsonl"
    seen: list[tuple[str, str]] = []
    counted: list[int] = []
    rows = run_sweep(plan(bundle, output, load_recipe("int4")), lambda *what: seen.append(what), counted.append)
    assert seen == [(name, measure) for name in ("fp32", "int4") for measure in MEASURES]
    assert len(counted) == len(rows) == 8
    assert rows == [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    by = {(row["variant"], row["measure"]): row for row in rows}
    assert by["fp32", "fidelity"]["agree"] == 1.0
    assert by["int4", "size"]["size_mb"] < by["fp32", "size"]["size_mb"]
    speed = by["int4", "speed"]
    assert min(speed[key] for key in ("load_s", "encoder_ms", "prefill_ms", "step_ms")) > 0
    if sys.platform == "linux":
        assert 10 < speed["resident_mb"] <= speed["peak_mb"]
    errors = by["int4", "errors"]
    assert (errors["n_clips"], errors["n_silent"], errors["wer"]["units"]) == (2, 1, 2)
    assert errors["wer"]["errors"] == sum(errors["wer_per_clip"])
    assert errors["wer"]["low"] <= errors["wer"]["value"] <= errors["wer"]["high"]
    assert errors["wer_more_than_fp32"]["value"] == pytest.approx(
        errors["wer"]["value"] - by["fp32", "errors"]["wer"]["value"]
    )
    monkeypatch.setattr(sweep._Sweep, "measured", None)
    assert run_sweep(plan(bundle, output, load_recipe("int4")), lambda *what: seen.append(what)) == rows
    assert len(seen) == 8


def test_a_sweep_goes_on_where_it_was_stopped(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "sweep.jsonl"
    monkeypatch.setattr(sweep, "probe_speed", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(bundle, output, load_recipe("int8")))
    with output.open("a", encoding="utf-8") as file:
        file.write('{"key": "cut sh')  # as a crash in the middle of a line leaves it
    monkeypatch.setattr(sweep, "probe_speed", lambda *_: {"load_s": 1.0})
    seen: list[tuple[str, str]] = []
    run_sweep(plan(bundle, output, load_recipe("int8")), lambda *what: seen.append(what))
    assert seen[0] == ("fp32", "speed")  # size and fidelity of float32 were there
    assert len(output.read_text(encoding="utf-8").splitlines()) == 8


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_has_no_finite_measure_is_valid_json_and_read_back_the_same(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep._Sweep, "measured", lambda *_: {"kl_mean": float("nan"), "wer": {"low": float("inf")}})
    output = tmp_path / "sweep.jsonl"
    rows = run_sweep(plan(bundle, output, load_recipe("int4")))
    for line in output.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert rows == run_sweep(plan(bundle, output, load_recipe("int4")))
    assert rows[0]["kl_mean"] is None


def test_what_a_measurement_depends_on(bundle: Path, tmp_path: Path) -> None:
    """Another clip changes what it is part of; a text only the word errors; calibration audio what listened to it."""
    first = plan(bundle, tmp_path / "rows", load_recipe("int8"))
    keys = {measure: sweep._key(first, first.recipes[0], measure) for measure in MEASURES}
    assert len(set(keys.values())) == 4
    other_text = replace(first, clips=(replace(TOLD[0], text="Other."), *TOLD[1:]))
    more_clips = replace(first, clips=(*TOLD, Clip(CLIPS[0])))
    heard = replace(first, calibration=CLIPS)
    for changed, same in ((other_text, {"size"}), (more_clips, {"size", "speed", "errors"}), (heard, set(MEASURES))):
        now = {measure: sweep._key(changed, first.recipes[0], measure) for measure in MEASURES}
        assert {measure for measure in MEASURES if now[measure] == keys[measure]} >= same
    calibrated = load_recipe("int4-gptq")
    assert sweep._key(first, calibrated, "size") != sweep._key(heard, calibrated, "size")


def test_without_texts_no_words_are_counted(bundle: Path, tmp_path: Path) -> None:
    silent = replace(plan(bundle, tmp_path / "rows"), clips=(Clip(CLIPS[0]),))
    assert silent.measures == ("size", "fidelity", "speed")


def test_refusals(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep.jsonl"
    with pytest.raises(OptionsError, match="needs audio"):
        run_sweep(SweepPlan(bundle, (load_recipe("int8"),), (), output))
    with pytest.raises(OptionsError, match="two recipes are called 'int8'"):
        run_sweep(plan(bundle, output, load_recipe("int8"), load_recipe("int8")))
    with pytest.raises(OptionsError, match="'int4-gptq' is calibrated; name audio files with --calibration"):
        run_sweep(plan(bundle, output, load_recipe("int4-gptq")))
    output.write_text("hello\n", encoding="utf-8")
    with pytest.raises(OptionsError, match="line 1: not a row of a sweep"):
        run_sweep(plan(bundle, output))
    quantize_bundle(bundle, Recipe("int8", Keep(), INT8, INT8, INT8))
    with pytest.raises(BundleError, match="variant 'int8' exists and was made in another way"):
        run_sweep(plan(bundle, tmp_path / "other.jsonl"))


def test_a_variant_that_cannot_be_timed_says_why(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"variant 'absent' cannot be measured: .*absent"):
        probe_speed(bundle, "absent", CLIPS[:1], 4, 1)


def test_a_variant_calibrated_on_other_audio_is_not_taken_for_this_one(bundle: Path, tmp_path: Path) -> None:
    calibrated = load_recipe("int4-gptq")
    quantize_bundle(bundle, calibrated, calibration=CLIPS[:1], threads=1)
    wanted = replace(plan(bundle, tmp_path / "rows", calibrated), calibration=CLIPS)
    with pytest.raises(BundleError, match="variant 'int4-gptq' exists and was made in another way"):
        run_sweep(wanted)
    assert sweep._made(bundle, calibrated, CLIPS[:1])
