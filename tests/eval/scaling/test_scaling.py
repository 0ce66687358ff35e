"""Cost against length, threads and batch: counts of operations by hand, a run on the tiny bundle, history by ratio."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="needs the eval extra")
pytest.importorskip("jinja2", reason="needs the eval extra")
pytest.importorskip("onnx", reason="needs the export extra")

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.commands.bench import BENCH
from qwen3_asr_onnx_eval.machine.roofline import (
    Cost,
    MachineLimits,
    decoder_cost,
    encoder_cost,
    graph_cost_facts,
    measure_limits,
    stem_arithmetic,
)
from qwen3_asr_onnx_eval.scaling import scaling
from qwen3_asr_onnx_eval.scaling.history import append_history, find_regressions, read_history

TINY = Path(__file__).resolve().parents[2] / "data" / "tiny_bundle"
LIMITS = MachineLimits(1, bytes_per_s=10e9, float32_per_s=100e9, int8_per_s=400e9)


def test_a_floor_is_the_slower_of_memory_and_arithmetic() -> None:
    assert Cost(10e9, 1e9).floor_s(LIMITS) == (1.0, "memory")
    assert Cost(1e6, 400e9).floor_s(LIMITS) == (4.0, "arithmetic")
    assert Cost(1e6, 100e9, 400e9).floor_s(LIMITS) == (2.0, "arithmetic")
    no_onnx = MachineLimits(1, 10e9, 100e9, None)
    assert Cost(1e6, 0, 400e9).floor_s(no_onnx) == (4.0, "arithmetic")


def test_a_decoder_is_counted_as_its_matrices_say() -> None:
    dims = DecoderDims(2, 8, 16, 4, 2, 4, 100, 1e6, 1e-6, 1000)
    # Per layer: query 8x16, key and value 8x8 each, output 16x8, gate, up and down 8x16 each.
    layer = 8 * 16 + 2 * 8 * 8 + 16 * 8 + 3 * 8 * 16
    step = decoder_cost(dims, 1, 9, 1, 5000, "int8")
    assert step.n_int8 == 2 * (2 * layer + 8 * 100)
    assert step.n_float32 == 2 * 4 * 16 * 10
    assert step.n_bytes == 5000 + 4 * 2 * 2 * 8 * 10
    whole = decoder_cost(dims, 1, 9, 1, 5000, "float32")
    assert (whole.n_float32, whole.n_int8) == (step.n_float32 + step.n_int8, 0)
    batch = decoder_cost(dims, 1, 9, 3, 5000, "int8")
    assert (batch.n_float32, batch.n_int8) == (3 * step.n_float32, 3 * step.n_int8)
    assert batch.n_bytes - 5000 == 3 * (step.n_bytes - 5000)
    prefill = decoder_cost(dims, 10, 0, 1, 5000, "int8")
    assert prefill.n_int8 == 2 * (10 * 2 * layer + 8 * 100)
    assert prefill.n_float32 == 2 * 4 * 16 * 55


def test_an_encoder_is_linear_in_the_length_beyond_its_window() -> None:
    dims = EncoderDims(2, 64, 4, 128, 16, 32)
    costs = [encoder_cost(dims, seconds, 1000, "float32", "float32").n_float32 for seconds in (80, 160, 320)]
    assert costs[1] == pytest.approx(2 * costs[0], rel=0.01)
    assert costs[2] == pytest.approx(4 * costs[0], rel=0.01)


def test_a_stem_in_integers_leaves_one_convolution_and_attention_in_float32() -> None:
    dims = EncoderDims(2, 64, 4, 128, 16, 32)
    plain = encoder_cost(dims, 8, 1000, "float32", "float32")
    mixed = encoder_cost(dims, 8, 1000, "int8", "float32")
    integer = encoder_cost(dims, 8, 1000, "int8", "int8")
    others = 2 * 9 * 16 * 16 * (200 * 32 + 100 * 16)
    assert integer.n_int8 - mixed.n_int8 == mixed.n_float32 - integer.n_float32 == others
    assert integer.n_float32 + integer.n_int8 == plain.n_float32
    assert {one.n_bytes for one in (plain, mixed, integer)} == {1000}


def test_what_a_graph_reads_and_computes_in() -> None:
    manifest = Bundle.open(TINY).manifest
    for graph, data in (("encoder.onnx", "encoder.data"), ("decoder_step.onnx", "decoder_weights.data")):
        n_bytes, arithmetic = graph_cost_facts(TINY / graph)
        assert 0.5 * manifest.files[data].size < n_bytes <= manifest.files[data].size
        assert arithmetic == "float32"
    assert stem_arithmetic(TINY / "encoder.onnx") == "float32"


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = measure_limits(1)
    assert limits.threads == 1
    assert limits.bytes_per_s > 1e8
    assert limits.float32_per_s > 1e8
    assert limits.int8_per_s is not None


@pytest.fixture(scope="module")
def tiny_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plan = scaling.ScalingPlan(TINY, ("fp32",), (1, 9), (1,), (1, 2), n_tokens=4, batch_audio_s=1, repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "measure_limits", lambda threads: LIMITS)
        patch.setattr(scaling, "describe_machine", lambda: {"cpu": "A CPU", "cores": 2, "memory_bytes": 1 << 34})
        return scaling.run_scaling(plan)


def parse(*argv: object) -> Namespace:
    parser = ArgumentParser()
    BENCH.add_arguments(parser)
    return parser.parse_args([str(one) for one in argv])


def test_every_figure_has_its_floor(tiny_results: dict[str, Any]) -> None:
    figures = [(one["what"], one["audio_s"], one["batch"]) for one in tiny_results["figures"]]
    assert figures == [
        *[(what, seconds, 1) for seconds in (1, 9) for what in ("encoder", "prefill", "token")],
        ("step of a batch", 1, 1),
        ("step of a batch", 1, 2),
    ]
    for one in tiny_results["figures"]:
        assert one["seconds"] > 0
        assert one["floor_s"] > 0
        assert one["bound"] in {"memory", "arithmetic"}
    assert [start["kind"] for start in tiny_results["starts"]] == ["cold", "warm"]
    assert all(start["start_s"] > start["load_s"] > 0 for start in tiny_results["starts"])
    (memory,) = tiny_results["memory"]
    assert [label for _, label in memory["marks"]] == ["1 s", "9 s", "batch 1", "batch 2"]


def test_results_become_tables_and_a_page(
    tiny_results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, page, history = tmp_path / "scaling.json", tmp_path / "scaling.html", tmp_path / "history.jsonl"
    saved.write_text(json.dumps(tiny_results), encoding="utf-8")

    assert BENCH.run(parse("--report", saved, "--page", page, "--history", history)) == 0

    printed = capsys.readouterr()
    assert "| fp32 x1 | 9 s |" in printed.out
    assert "**Starts**" in printed.out
    assert page.read_text(encoding="utf-8").count('<svg class="plot"') >= 4
    slower = json.loads(json.dumps(tiny_results))
    slower["figures"][0]["seconds"] *= 2
    saved.write_text(json.dumps(slower), encoding="utf-8")
    assert BENCH.run(parse("--report", saved, "--history", history)) == 1
    assert "slower: fp32 x1 encoder, 1 s, batch 1" in capsys.readouterr().err
    assert len(read_history(history)) == 2


def test_history_compares_floors_not_seconds(tiny_results: dict[str, Any], tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    append_history(history, tiny_results)
    slow_machine = json.loads(json.dumps(tiny_results))
    for one in slow_machine["figures"]:
        one["seconds"] *= 3
        one["floor_s"] *= 3
    entry = append_history(history, slow_machine)
    assert find_regressions(entry, read_history(history)[:1]) == []
    other = {**entry, "model": "another", "floors": dict.fromkeys(entry["floors"], 1e9)}
    assert find_regressions(other, read_history(history)) == []
    history.write_text("{}\n", encoding="utf-8")
    with pytest.raises(OptionsError, match=r"history\.jsonl:1"):
        read_history(history)


def test_a_run_in_pieces_becomes_one(tiny_results: dict[str, Any]) -> None:
    again = json.loads(json.dumps(tiny_results))
    again["figures"] = [one for one in again["figures"] if one["audio_s"] == 9]
    for one in again["figures"]:
        one["seconds"] = 7.0
    merged = scaling.merge_results(tiny_results, again)
    assert len(merged["figures"]) == len(tiny_results["figures"])
    assert {one["seconds"] == 7.0 for one in merged["figures"] if one["audio_s"] == 9} == {True}
    assert {one["seconds"] == 7.0 for one in merged["figures"] if one["audio_s"] == 1} == {False}
    assert len(merged["starts"]) == 2
    faster = {**again, "limits": [{**again["limits"][0], "float32_per_s": 200e9, "bytes_per_s": 1.0}]}
    bound = [one for one in tiny_results["figures"] if one["bound"] == "arithmetic"]
    halved = {one["what"]: one["floor_s"] for one in scaling.merge_results(tiny_results, faster)["figures"]}
    assert bound
    assert all(halved[one["what"]] < one["floor_s"] for one in bound if one["audio_s"] == 9)
    with pytest.raises(OptionsError, match="another model"):
        scaling.merge_results(tiny_results, {**again, "model": "another model"})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--lengths", "5,x"], "--lengths"),
        (["--threads", "0"], "--threads"),
        (["--variants", "int4"], "none of int4"),
    ],
)
def test_wrong_options(argv: list[str], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        BENCH.run(parse("--scaling", TINY, *argv))
