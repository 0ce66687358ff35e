"""Checkpoint -> export -> run, ours and transformers' side by side: raw measurements out, as one JSON document.

Every model runs in its own process. Clips are run in turns, the order changing each round, so that a machine that is
slow for a while is slow for both sides; only ratios are to be trusted across machines and days.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from qwen3_asr_onnx.console import progress_bar, say

from .machine import commit, describe_machine, run_and_measure, versions
from .random_checkpoint import BENCH_SHAPES, BenchShape, ensure_checkpoint, tensor_shapes
from .worker import Worker, WorkerKind

__all__ = ["CLIPS", "RIVALS", "BenchPlan", "Clip", "run_bench"]

SETTLE_S = 0.3
"""Pause before each turn: thread pools of the side that ran last stop spinning and leave the cores alone."""

CAPACITIES = (512, 4096)
CAPACITY_STEPS = 15

MEMORY_MARGIN_BYTES = 2 << 30

RIVALS: tuple[WorkerKind, ...] = ("float32", "bfloat16")

WEIGHT_BYTES: dict[WorkerKind, int] = {"ours": 5, "float32": 4, "bfloat16": 2}
"""Resident bytes per parameter, roughly, to see whether two models fit at once."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What is run: so many seconds of audio, so many tokens."""

    audio_s: float
    n_tokens: int

    @property
    def name(self) -> str:
        """Key in the results."""
        return f"{self.audio_s:g}s/{self.n_tokens}"


CLIPS = (Clip(11, 40), Clip(30, 100))


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        shapes: names in `BENCH_SHAPES`.
        cache_dir: where checkpoints and bundles live.
        repeats: rounds of the first clip against float32; other clips and bfloat16 take one, to keep it short.
        clips: what is run.
        kinds: transformers dtypes to compare with.
        keep: keep the bundles afterwards (checkpoints always stay).
    """

    shapes: tuple[str, ...]
    cache_dir: Path
    repeats: int = 2
    clips: tuple[Clip, ...] = CLIPS
    kinds: tuple[WorkerKind, ...] = RIVALS
    keep: bool = False


def run_bench(plan: BenchPlan, save: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
    """Measure every shape of the plan and return the results: machine, versions, raw samples.

    Args:
        plan: what to measure.
        save: called with the results so far after each shape, so that a later failure does not lose them.

    Raises:
        MeasurementError: the export or a model failed.
    """
    started = time.time()
    results: dict[str, Any] = {
        "format": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "repeats": plan.repeats,
        "clips": [clip.name for clip in plan.clips],
        "shapes": {},
    }
    for name in plan.shapes:
        results["shapes"][name] = _bench_shape(BENCH_SHAPES[name], plan)
        results["wall_s"] = time.time() - started
        if save is not None:
            save(results)
    return results


def _bench_shape(shape: BenchShape, plan: BenchPlan) -> dict[str, Any]:
    n_parameters = _n_parameters(shape)
    with progress_bar(total=2 * n_parameters, unit="B", scale=True) as bar:
        checkpoint, made = ensure_checkpoint(shape, plan.cache_dir, bar.update)
    say(f"{shape.name}: checkpoint {checkpoint} {'made' if made else 'reused'}; exporting")
    bundle = plan.cache_dir / f"bundle-{shape.name}"
    command = [sys.executable, "-m", "qwen3_asr_onnx", "export", str(checkpoint), str(bundle), "--overwrite", "--quiet"]
    try:
        cost = run_and_measure(command)
        say(f"{shape.name}: exported in {cost.wall_s:.1f} s; running")
        return {
            "parameters": n_parameters,
            "checkpoint_bytes": _tree_bytes(checkpoint),
            "export": cost.to_dict(),
            "bundle_bytes": _tree_bytes(bundle),
            **_run_models(n_parameters, bundle, checkpoint, plan),
        }
    finally:
        if not plan.keep:
            shutil.rmtree(bundle, ignore_errors=True)


def _run_models(n_parameters: int, bundle: Path, checkpoint: Path, plan: BenchPlan) -> dict[str, Any]:
    """Load ours, then each rival beside it, and run all clips in turns."""
    results: dict[str, Any] = {"workers": {}, "pairs": {}}
    with Worker("ours", bundle) as ours:
        results["workers"]["ours"] = ours.loaded
        ours.ask(do="run", audio_s=1, n_tokens=4)  # warm-up
        results["capacity_ms"] = ours.ask(do="capacities", capacities=CAPACITIES, n_tokens=CAPACITY_STEPS)["times_ms"]
    for kind in plan.kinds:
        needed = n_parameters * (WEIGHT_BYTES["ours"] + WEIGHT_BYTES[kind]) + MEMORY_MARGIN_BYTES
        together = psutil.virtual_memory().available > needed
        rounds = plan.repeats if kind == "float32" else 1
        say(f"ours against transformers {kind}, {'in turns' if together else 'one after the other: too little memory'}")
        run = _in_turns if together else _one_after_the_other
        runs, loaded = run(kind, bundle, checkpoint, plan.clips, rounds)
        results["pairs"][kind] = {"in_turns": together, "runs": runs}
        results["workers"][kind] = loaded
    return results


def _in_turns(
    kind: WorkerKind, bundle: Path, checkpoint: Path, clips: Sequence[Clip], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return clip -> side -> runs, both models loaded at once, A B B A."""
    runs: dict[str, Any] = {clip.name: {"ours": [], kind: []} for clip in clips}
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("ours", bundle))
        rival = stack.enter_context(Worker(kind, checkpoint))
        for worker in (ours, rival):
            worker.ask(do="run", audio_s=1, n_tokens=4)  # warm-up
        for clip in clips:
            for i in range(rounds if clip is clips[0] else 1):
                for worker in (ours, rival) if i % 2 == 0 else (rival, ours):
                    runs[clip.name][worker.kind].append(_run(worker, clip))
        return runs, rival.loaded


def _one_after_the_other(
    kind: WorkerKind, bundle: Path, checkpoint: Path, clips: Sequence[Clip], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the same with one model loaded at a time."""
    runs: dict[str, Any] = {clip.name: {"ours": [], kind: []} for clip in clips}
    loaded: dict[str, Any] = {}
    sides: tuple[tuple[WorkerKind, Path], ...] = (("ours", bundle), (kind, checkpoint))
    for side, directory in sides:
        with Worker(side, directory) as worker:
            loaded = worker.loaded
            worker.ask(do="run", audio_s=1, n_tokens=4)
            for clip in clips:
                runs[clip.name][side] = [_run(worker, clip) for _ in range(rounds if clip is clips[0] else 1)]
    return runs, loaded


def _run(worker: Worker, clip: Clip) -> dict[str, Any]:
    time.sleep(SETTLE_S)
    answer = worker.ask(do="run", audio_s=clip.audio_s, n_tokens=clip.n_tokens)
    say(f"  {worker.kind} {clip.name}: {sum(answer['token_ms']) / max(len(answer['token_ms']), 1):.1f} ms per token")
    return answer


def _n_parameters(shape: BenchShape) -> int:
    total = 0
    for dims in tensor_shapes(shape).values():
        count = 1
        for size in dims:
            count *= size
        total += count
    return total


def _tree_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
