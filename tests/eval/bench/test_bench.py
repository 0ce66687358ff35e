"""The benchmark: its table from canned results, its process measuring, its transformers adapter, and one tiny run."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil", reason="needs the eval extra")

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.bench.random_checkpoint import BENCH_SHAPES, ensure_checkpoint
from qwen3_asr_onnx_eval.bench.report import report
from qwen3_asr_onnx_eval.commands.bench import BENCH
from qwen3_asr_onnx_eval.machine.child_process import MeasurementError, run_and_measure
from qwen3_asr_onnx_eval.machine.clip import benchmark_clip


def run(token_ms: list[float], peak: float = 3e9, encoder_ms: float = 500.0) -> dict[str, Any]:
    memory = {"rss": 2e9, "private": 2e9, "peak_rss": peak}
    stages = {"mel_ms": 10.0, "encoder_ms": encoder_ms, "prefill_ms": 1500.0, "token_ms": token_ms}
    return {**stages, "n_prompt": 100, "memory": memory}


def canned() -> dict[str, Any]:
    loaded = {"import_s": 1.0, "load_s": 4.0, "memory": {"rss": 2e9, "private": 2e9, "peak_rss": 2e9}}
    cost = {"wall_s": 52.0, "peak_rss": 1.9e9, "peak_private": 0.8e9, "max_rss": 1.95e9}
    together = {
        "fp32": [run([150.0, 160.0]), run([170.0])],
        "int4": [run([20.0]), run([30.0])],
        "float32": [run([200.0], 4e9), run([200.0], 5e9)],
    }
    shape = {
        "parameters": 938_008_576,
        "checkpoint_bytes": 1_880_000_000,
        "costs": {"export": cost, "int4": {**cost, "wall_s": 21.7, "max_rss": None}},
        "download_bytes": {"fp32": 3_500_000_000, "int4": 830_000_000},
        "step_bytes": {
            "fp32": {"weights": 2_320_000_000, "per_position": 0},
            "int4": {"weights": 231_000_000, "per_position": 10_000},
        },
        "load_s": {"fp32": [4.0, 5.0, 3.0], "int4": [1.0, 0.9, 1.1]},
        "groups": [
            {
                "kinds": ["float32", "fp32", "int4"],
                "loaded": {"float32": {**loaded, "load_s": 8.0}, "fp32": loaded, "int4": loaded},
                "runs": {"11s/40": together},
            },
            {"kinds": ["bfloat16"], "loaded": {"bfloat16": loaded}, "runs": {"11s/40": {"bfloat16": [run([100.0])]}}},
        ],
        "capacity_ms": {"512": [150.0, 151.0, 149.0], "4096": [152.0, 150.0, 151.5]},
    }
    machine = {"cpu": "A CPU", "cores": 2, "memory_bytes": 24 << 30, "read_bytes_per_s": 11.6e9}
    return {
        "started": "2026-01-02T03:04:05Z",
        "commit": "0123456789ab",
        "machine": machine,
        "versions": {"onnxruntime": "1.31.1", "torch": "2.13.0", "transformers": None},
        "repeats": 2,
        "clips": ["11s/40"],
        "shapes": {"0.6b": shape},
    }


def cells(table: str, label: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_who_writes_as_many_tokens_as_it_likes_is_named() -> None:
    results = canned()
    assert "as it likes" not in report(results)
    group = results["shapes"]["0.6b"]["groups"][0]
    group["runs"]["11s/40"]["transcribe-cpp Q8_0"] = [{**run([60.0] * 39), "n_written": 256}]
    group["kinds"].append("transcribe-cpp Q8_0")
    group["loaded"]["transcribe-cpp Q8_0"] = group["loaded"]["int4"]
    table = report(results)
    assert "transcribe-cpp Q8_0 writes as many tokens as it likes (256)" in table
    assert "60.0 ms (0.30)" in table


def test_report_is_a_table_of_medians_and_ratios() -> None:
    table = report(canned())

    models = ["transformers float32", "transformers bfloat16", "fp32", "int4"]
    assert cells(table, "**0.6b**") == models
    assert cells(table, "take it for") == ["", "", "checking, quantizing", "little memory, or no VNNI"]
    # Medians over all samples of all rounds; * marks a ratio of runs that were not in turns.
    assert cells(table, "per token, 11s/40") == ["200 ms", "100 ms (0.50*)", "160 ms (0.80)", "25.0 ms (0.12)"]
    assert cells(table, "whole utterance, 11s/40")[2] == "2,250 ms (1.02)"
    assert cells(table, "load") == ["8.00 s", "4.00 s (0.50)", "4.00 s (0.50)", "1.00 s (0.12)"]
    assert cells(table, "download") == ["", "", "3,500 MB", "830 MB"]
    assert cells(table, "made in; peak memory") == ["", "", "52 s; 1.95 GB", "22 s; 1.90 GB"]
    assert cells(table, "peak resident, 11s/40")[:3] == ["5.00 GB", "3.00 GB (0.60)", "3.00 GB (0.60)"]
    # 231 MB of weights and 100.5 positions of 10 kB at 11.6 GB/s are 20 ms.
    assert cells(table, "bytes per step / bandwidth, 11s/40")[2:] == ["200.0 ms; x 0.80", "20.0 ms; x 1.25"]
    assert cells(table, "step with a cache of 4096 / 512 positions") == ["", "", "1.010", ""]
    assert "A CPU, 2 cores, 24 GB, reads 11.6 GB/s" in table
    assert "transformers None" not in table


def test_the_headline_is_the_first_clip_without_the_rest() -> None:
    lines = report(canned(), headline=True).splitlines()
    labels = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert labels[2:] == [
        "take it for",
        "download",
        "load",
        *(f"{name}, 11s/40" for name in ("peak resident", "encoder", "prefill", "per token", "whole utterance")),
    ]
    assert set(lines) <= set(report(canned()).splitlines())


def test_report_survives_json_and_a_missing_model() -> None:
    results = json.loads(json.dumps(canned()))
    del results["shapes"]["0.6b"]["groups"][1]

    assert cells(report(results), "per token, 11s/40") == ["200 ms", "160 ms (0.80)", "25.0 ms (0.12)"]


def test_models_are_grouped_by_what_memory_holds() -> None:
    from qwen3_asr_onnx_eval.bench.bench import group_by_memory

    kinds = ["fp32", "int8", "int4"]
    needs = {"float32": 4.6, "fp32": 4.1, "int8": 1.5, "int4": 1.3}
    assert group_by_memory(kinds, "float32", 1, sum(needs.values())) == [["float32", *kinds]]
    assert group_by_memory(kinds, "float32", 1, 9.0) == [["float32", "fp32"], ["float32", "int8", "int4"]]
    assert group_by_memory(kinds, "float32", 1, 8.0) == [["float32", "int8", "int4"], ["fp32"]]
    assert group_by_memory(kinds, "float32", 1, 2.0) == [["float32"], ["fp32"], ["int8"], ["int4"]]


def parse(*argv: str) -> Namespace:
    parser = ArgumentParser()
    BENCH.add_arguments(parser)
    return parser.parse_args(argv)


def test_report_of_earlier_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(canned()), encoding="utf-8")

    assert BENCH.run(parse("--report", str(path))) == 0
    assert capsys.readouterr().out == report(canned())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--shapes", "7b"], "0.6b, 1.7b"),
        (["--repeats", "0"], "at least 1"),
        (["--against", "f16"], "f16"),
        (["--variants", "int5"], "no variant 'int5'"),
    ],
)
def test_wrong_options(argv: list[str], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        BENCH.run(parse(*argv))


def test_measuring_a_process() -> None:
    code = "import time; block = b'x' * 300_000_000; time.sleep(0.5)"

    cost = run_and_measure([sys.executable, "-c", code])

    assert cost.wall_s >= 0.5
    assert cost.peak_private > 300_000_000
    assert cost.peak_rss >= cost.peak_private
    assert cost.max_rss is None or cost.max_rss > 300_000_000


def test_measuring_a_failing_process() -> None:
    with pytest.raises(MeasurementError, match="status 3"):
        run_and_measure([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.torch
def test_upstream_holds_the_checkpoint(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    from qwen3_asr_onnx_eval.bench.upstream import load_upstream

    checkpoint, _ = ensure_checkpoint(BENCH_SHAPES["tiny"], tmp_path)
    upstream = load_upstream(checkpoint, "float32")

    stored: dict[str, Any] = {}
    for file in checkpoint.glob("*.safetensors"):
        stored |= safetensors.load_file(file)
    state = upstream._model.state_dict()
    assert len(state) == len(stored)
    for ours, theirs in (
        ("thinker.audio_tower.conv2d2.weight", "model.audio_tower.conv2d2.weight"),
        ("thinker.audio_tower.proj2.bias", "model.multi_modal_projector.linear_2.bias"),
        ("thinker.model.layers.1.self_attn.q_norm.weight", "model.language_model.layers.1.self_attn.q_norm.weight"),
        ("thinker.lm_head.weight", "lm_head.weight"),
    ):
        assert torch.equal(state[theirs], stored[ours].float()), ours

    times = upstream.run(benchmark_clip(1.0), 5)
    assert len(times.token_ms) == 4
    assert min(times.mel_ms, times.encoder_ms, times.prefill_ms, *times.token_ms) > 0


@pytest.mark.torch
@pytest.mark.slow
def test_a_tiny_run_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from qwen3_asr_onnx_eval.bench import bench
    from qwen3_asr_onnx_eval.bench.bench import BenchPlan, Workload, run_bench

    monkeypatch.setattr(bench, "LOADS", 1)  # a process each

    saved: list[dict[str, Any]] = []
    clips = (Workload(1, 3), Workload(9, 5))

    plan = BenchPlan(("tiny",), tmp_path, 2, clips, ("fp32", "compact"), ("float32",))
    results = run_bench(plan, saved.append)

    shape = results["shapes"]["tiny"]
    (group,) = shape["groups"]
    assert saved[-1] == results
    assert set(group["runs"]) == {"1s/3", "9s/5"}
    for clip, rounds in zip(clips, (2, 1), strict=True):
        for kind in ("fp32", "compact", "float32"):
            assert [len(one["token_ms"]) for one in group["runs"][clip.name][kind]] == [clip.n_tokens - 1] * rounds
    assert [len(times) for times in shape["capacity_ms"].values()] == [15, 15]
    assert shape["download_bytes"]["compact"] < shape["download_bytes"]["fp32"]
    assert 0 < shape["step_bytes"]["compact"]["weights"] < shape["step_bytes"]["fp32"]["weights"]
    assert cells(report(results), "per token, 9s/5")
    assert not (tmp_path / "bundle-tiny").exists(), "the bundle is removed unless asked for"
