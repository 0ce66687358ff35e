"""Checkpoint -> export -> quantize -> run, our variants and transformers side by side: raw measurements, as JSON.

Every model runs in its own process. Clips are run in turns, the order changing each round, so that a machine that is
slow for a while is slow for all sides; only ratios are to be trusted across machines and days.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import TOKENIZER_FILE
from qwen3_asr_onnx.commands.console import progress_bar, say
from qwen3_asr_onnx_eval.machine.child_process import run_and_measure
from qwen3_asr_onnx_eval.machine.machine import commit, describe_machine, versions
from qwen3_asr_onnx_eval.machine.roofline import step_bytes

from .gguf_file import write_gguf
from .random_checkpoint import BENCH_SHAPES, BenchShape, ensure_checkpoint, tensor_shapes
from .worker import TRANSCRIBE_CPP, UPSTREAM, Worker

__all__ = ["CLIPS", "FLOAT32", "MORE_VARIANTS", "REFERENCE", "VARIANTS", "BenchPlan", "Workload", "run_bench"]

FLOAT32 = "fp32"
"""Our variant that needs no quantization."""

REFERENCE = "float32"
"""transformers in float32, which every ratio is formed with."""

VARIANTS = (FLOAT32, "int8", "int4", "fast", "compact")

MORE_VARIANTS = ("lossless", "int8-tied")
"""Recipes that are measured if they are named."""

SETTLE_S = 0.3
"""Pause before each turn: thread pools of the side that ran last stop spinning and leave the cores alone."""

CAPACITIES = (512, 4096)
CAPACITY_STEPS = 15

LOADS = 3
"""How often each of our variants is loaded, each time by a new process."""

MEMORY_MARGIN_BYTES = 2 << 30

RESIDENT_BYTES: Mapping[str, float] = {
    "float32": 4.6,
    "bfloat16": 2.4,
    "fp32": 4.1,
    "int8": 1.5,
    "fast": 1.7,
    "lossless": 4.5,
    TRANSCRIBE_CPP: 1.5,
}
"""Resident bytes per parameter at the peak, roughly, to see which models fit at once; 1.3 for what is not listed."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is run: so many seconds of audio, so many tokens."""

    audio_s: float
    n_tokens: int

    @property
    def name(self) -> str:
        """Key in the results."""
        return f"{self.audio_s:g}s/{self.n_tokens}"


CLIPS = (Workload(11, 40), Workload(30, 100))


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        shapes: names in `BENCH_SHAPES`.
        cache_dir: where checkpoints and bundles live.
        repeats: rounds of the first clip; other clips take one, to keep it short.
        clips: what is run.
        variants: variants of ours: "fp32" and published recipes.
        upstream: transformers dtypes to compare with.
        transcribe_cpp: whether to run the package transcribe-cpp beside them, on the same weights in Q8_0.
        keep: keep the bundles afterwards (checkpoints always stay).
        quiet: say nothing of how far it is.
    """

    shapes: tuple[str, ...]
    cache_dir: Path
    repeats: int = 3
    clips: tuple[Workload, ...] = CLIPS
    variants: tuple[str, ...] = VARIANTS
    upstream: tuple[str, ...] = UPSTREAM
    transcribe_cpp: bool = False
    keep: bool = False
    quiet: bool = False

    def say(self, message: str) -> None:
        """Say how far it is."""
        if not self.quiet:
            say(message)


def run_bench(plan: BenchPlan, save: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
    """Measure every shape of the plan and return the results: machine, versions, raw samples.

    Args:
        plan: what to measure.
        save: called with the results so far after each group of models, so that a later failure does not lose them.

    Raises:
        MeasurementError: the export, a quantization or a model failed.
    """
    started = time.time()
    results: dict[str, Any] = {
        "format": 2,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "commit": commit(),
        "machine": describe_machine(),
        "versions": versions(),
        "repeats": plan.repeats,
        "clips": [clip.name for clip in plan.clips],
        "shapes": {},
    }
    for name in plan.shapes:
        for shape in _bench_shape(BENCH_SHAPES[name], plan):
            results["shapes"][name] = shape
            results["wall_s"] = time.time() - started
            if save is not None:
                save(results)
    return results


def _bench_shape(shape: BenchShape, plan: BenchPlan) -> Iterator[dict[str, Any]]:
    """Yield the results of a shape, once for each group of models that was run, complete at the end."""
    n_parameters = _n_parameters(shape)
    with progress_bar(total=2 * n_parameters, unit="B", scale=True, quiet=plan.quiet) as bar:
        checkpoint, made = ensure_checkpoint(shape, plan.cache_dir, bar.update)
    plan.say(f"{shape.name}: checkpoint {checkpoint} {'made' if made else 'reused'}; exporting")
    bundle = plan.cache_dir / f"bundle-{shape.name}"
    gguf = plan.cache_dir / f"{shape.name}-Q8_0.gguf"
    try:
        if plan.transcribe_cpp:
            write_gguf(checkpoint, gguf, "Q8_0")
        costs = _make_variants(checkpoint, bundle, plan)
        opened = Bundle.open(bundle)
        found: dict[str, Any] = {
            "parameters": n_parameters,
            "checkpoint_bytes": _tree_bytes(checkpoint),
            "costs": costs,
            "download_bytes": {name: _download_bytes(opened, name) for name in plan.variants},
            "step_bytes": {name: step_bytes(opened, name) for name in plan.variants},
            "load_s": {name: _loads(name, bundle) for name in plan.variants},
            "capacity_ms": _capacities(plan.variants[0], bundle),
            "groups": [],
        }
        for group in _run_groups(n_parameters, bundle, checkpoint, gguf, plan):
            found["groups"].append(group)
            yield found
    finally:
        if not plan.keep:
            shutil.rmtree(bundle, ignore_errors=True)
            gguf.unlink(missing_ok=True)


def _make_variants(checkpoint: Path, bundle: Path, plan: BenchPlan) -> dict[str, Any]:
    """Export, then quantize; return what each command cost."""
    program = [sys.executable, "-m", "qwen3_asr_onnx"]
    commands = {"export": [*program, "export", str(checkpoint), str(bundle), "--overwrite", "--quiet"]}
    for name in plan.variants:
        if name != FLOAT32:
            commands[name] = [*program, "quantize", str(bundle), "--recipe", name, "--quiet"]
    costs = {}
    for name, command in commands.items():
        costs[name] = run_and_measure(command).to_dict()
        plan.say(f"  {name}: {costs[name]['wall_s']:.1f} s")
    return costs


def _download_bytes(bundle: Bundle, variant: str) -> int:
    """Return the bytes of the files that whoever runs this variant alone needs."""
    files = (*bundle.manifest.variants[variant].files, TOKENIZER_FILE)
    return sum(bundle.manifest.files[file].size for file in files)


def _loads(variant: str, bundle: Path) -> list[float]:
    """Return the seconds of loading a variant in fresh processes."""
    times = []
    for _ in range(LOADS):
        time.sleep(SETTLE_S)
        with Worker(variant, bundle) as worker:
            times.append(float(worker.loaded["load_s"]))
    return times


def _capacities(variant: str, bundle: Path) -> dict[str, list[float]]:
    """Return milliseconds per step with caches of several capacities."""
    with Worker(variant, bundle) as worker:
        worker.ask("run", audio_s=1, n_tokens=4)  # warm-up
        found = worker.ask("step_times", capacities=CAPACITIES, n_tokens=CAPACITY_STEPS)
        times: dict[str, list[float]] = found["times_ms"]
    return times


def _run_groups(
    n_parameters: int, bundle: Path, checkpoint: Path, gguf: Path, plan: BenchPlan
) -> Iterator[dict[str, Any]]:
    """Run all models in turns, as many at once as memory holds, each group with the reference in it."""
    for kinds in group_by_memory(
        [
            *plan.variants,
            *(kind for kind in plan.upstream if kind != REFERENCE),
            *[TRANSCRIBE_CPP][: plan.transcribe_cpp],
        ],
        REFERENCE,
        n_parameters,
        psutil.virtual_memory().available - MEMORY_MARGIN_BYTES,
    ):
        together = len(kinds) > 1
        plan.say(f"in turns: {', '.join(kinds)}" if together else f"{kinds[0]} alone: too little memory for more")
        places = {kind: checkpoint if kind in UPSTREAM else bundle for kind in kinds} | {TRANSCRIBE_CPP: gguf}
        yield _in_turns(kinds, places, plan)


def group_by_memory(kinds: Sequence[str], reference: str, n_parameters: int, available: float) -> list[list[str]]:
    """Return groups of models that fit into memory at once, the reference in every one.

    Where the reference leaves no room for any other, every model is a group of its own.
    """

    def needs(kind: str) -> float:
        return n_parameters * RESIDENT_BYTES.get(kind, 1.3)

    groups: list[list[str]] = []
    rest = [kind for kind in kinds if needs(kind) + needs(reference) <= available]
    alone = [kind for kind in kinds if kind not in rest]
    while rest:
        group, free = [reference], available - needs(reference)
        for kind in list(rest):
            if needs(kind) <= free:
                group.append(kind)
                free -= needs(kind)
                rest.remove(kind)
        groups.append(group)
    if alone:
        groups += [[kind] for kind in (alone if groups else [reference, *alone])]
    return groups or [[reference]]


def _in_turns(kinds: Sequence[str], places: Mapping[str, Path], plan: BenchPlan) -> dict[str, Any]:
    """Load models at once and run every clip with each, forwards and backwards through the list by turns."""
    runs: dict[str, Any] = {clip.name: {kind: [] for kind in kinds} for clip in plan.clips}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(kind, places[kind])) for kind in kinds]
        for worker in workers:
            worker.ask("run", audio_s=1, n_tokens=4)  # warm-up
        for clip in plan.clips:
            for i in range(plan.repeats if clip is plan.clips[0] else 1):
                for worker in workers[:: 1 if i % 2 == 0 else -1]:
                    runs[clip.name][worker.kind].append(_run(worker, clip, plan))
        return {"kinds": list(kinds), "loaded": {worker.kind: worker.loaded for worker in workers}, "runs": runs}


def _run(worker: Worker, clip: Workload, plan: BenchPlan) -> dict[str, Any]:
    time.sleep(SETTLE_S)
    answer = worker.ask("run", audio_s=clip.audio_s, n_tokens=clip.n_tokens)
    plan.say(
        f"  {worker.kind} {clip.name}: {sum(answer['token_ms']) / max(len(answer['token_ms']), 1):.1f} ms per token"
    )
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
