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
from qwen3_asr_onnx_eval.bench_report import report
from qwen3_asr_onnx_eval.cli import BENCH
from qwen3_asr_onnx_eval.machine import MeasurementError, run_and_measure
from qwen3_asr_onnx_eval.random_checkpoint import BENCH_SHAPES, ensure_checkpoint
from qwen3_asr_onnx_eval.recognizers import benchmark_clip


def run(token_ms: list[float], peak: float = 3e9, encoder_ms: float = 500.0) -> dict[str, Any]:
    memory = {"rss": 2e9, "private": 2e9, "peak_rss": peak}
    return {"mel_ms": 10.0, "encoder_ms": encoder_ms, "prefill_ms": 1500.0, "token_ms": token_ms, "memory": memory}


def canned() -> dict[str, Any]:
    loaded = {"import_s": 1.0, "load_s": 4.0, "memory": {"rss": 2e9, "private": 2e9, "peak_rss": 2e9}}
    float32 = {"ours": [run([150.0, 160.0]), run([170.0])], "float32": [run([200.0], 4e9), run([200.0], 5e9)]}
    bfloat16 = {"ours": [run([300.0])], "bfloat16": [run([100.0])]}
    shape = {
        "parameters": 938_008_576,
        "checkpoint_bytes": 1_880_000_000,
        "bundle_bytes": 3_500_000_000,
        "export": {"wall_s": 52.0, "peak_rss": 1.9e9, "peak_private": 0.8e9, "max_rss": 1.95e9},
        "workers": {"ours": loaded, "float32": {**loaded, "load_s": 8.0}, "bfloat16": {**loaded, "load_s": 0.5}},
        "pairs": {
            "float32": {"in_turns": True, "runs": {"11s/40": float32}},
            "bfloat16": {"in_turns": False, "runs": {"11s/40": bfloat16}},
        },
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


def test_report_is_one_table_of_medians_and_ratios() -> None:
    table = report(canned())

    # Medians over all samples of all rounds; the bfloat16 ratio uses our runs beside bfloat16, * marks "not in turns".
    assert cells(table, "0.6b per token, 11s/40") == ["160 ms", "200 ms", "0.80", "100 ms", "3.00*"]
    assert cells(table, "0.6b load") == ["4.0 s", "8.0 s", "0.50", "0.5 s", "8.00"]
    assert cells(table, "0.6b export") == ["52.0 s", "", "", "", ""]
    assert cells(table, "0.6b export, peak resident")[0] == "1.95 GB"
    assert cells(table, "0.6b peak resident, 11s/40")[:3] == ["3.00 GB", "5.00 GB", "0.60"]
    assert cells(table, "0.6b step, cache of 4096 / 512 positions")[0] == "1.010"
    assert "A CPU, 2 cores, 24 GB, reads 11.6 GB/s" in table
    assert "transformers None" not in table


def test_report_survives_json_and_a_missing_rival() -> None:
    results = json.loads(json.dumps(canned()))
    del results["shapes"]["0.6b"]["pairs"]["bfloat16"], results["shapes"]["0.6b"]["workers"]["bfloat16"]

    assert cells(report(results), "0.6b per token, 11s/40")[-2:] == ["-", "-"]


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
    [(["--shapes", "7b"], "0.6b, 1.7b"), (["--repeats", "0"], "at least 1"), (["--against", "f16"], "f16")],
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
    from qwen3_asr_onnx_eval.upstream import load_upstream

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
def test_a_tiny_run_from_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from qwen3_asr_onnx_eval.bench import BenchPlan, Clip, run_bench

    saved: list[dict[str, Any]] = []
    clips = (Clip(1, 3), Clip(9, 5))

    results = run_bench(BenchPlan(("tiny",), tmp_path, 2, clips, ("float32",)), saved.append)

    shape = results["shapes"]["tiny"]
    runs = shape["pairs"]["float32"]["runs"]
    assert saved == [results]
    assert set(runs) == {"1s/3", "9s/5"}
    for clip, rounds in zip(clips, (2, 1), strict=True):
        for side in ("ours", "float32"):
            assert [len(one["token_ms"]) for one in runs[clip.name][side]] == [clip.n_tokens - 1] * rounds
    assert [len(times) for times in shape["capacity_ms"].values()] == [15, 15]
    assert shape["bundle_bytes"] > shape["checkpoint_bytes"]
    assert cells(report(results), "tiny per token, 9s/5")
    assert not (tmp_path / "bundle-tiny").exists(), "the bundle is removed unless asked for"
