"""Bundle -> what a variant costs: against audio length, threads and batch; from cold and warm starts; memory over time.

Everything goes through the public API (`Transcriber`) and the timings it reports, in processes of their own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import psutil

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.model.features import n_audio_tokens
from qwen3_asr_onnx_eval.machine.child_process import MeasurementError
from qwen3_asr_onnx_eval.machine.machine import commit, describe_machine, versions
from qwen3_asr_onnx_eval.machine.roofline import (
    Cost,
    MachineLimits,
    best_limits,
    decoder_cost,
    encoder_cost,
    graph_cost_facts,
    measure_limits,
    stem_arithmetic,
)

from .worker import ScalingWorker

__all__ = ["ScalingPlan", "merge_results", "run_scaling"]

PROMPT_TOKENS = 15
"""Ids of the prompt around the audio."""

FRAMES_PER_S = 100
SAMPLE_S = 0.1
"""How often memory is read."""

COLD_AUDIO_S = 5.0

REPEATED_UP_TO_S = 60.0
"""Longer audio is measured once: it takes minutes."""


@dataclass(frozen=True, slots=True)
class ScalingPlan:
    """What to measure.

    Attributes:
        bundle: a bundle with full-size weights; random ones will do.
        variants: names.
        lengths_s: seconds of audio.
        threads: thread counts.
        batches: numbers of equal clips transcribed together.
        n_tokens: generated tokens that a time per token is taken over.
        batch_audio_s: length of each clip in a batch.
        repeats: of everything up to a minute of audio; medians.
    """

    bundle: Path
    variants: tuple[str, ...]
    lengths_s: tuple[float, ...] = (5, 15, 60, 300, 1200)
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 2, 4, 8)
    n_tokens: int = 24
    batch_audio_s: float = 10.0
    repeats: int = 3


def run_scaling(
    plan: ScalingPlan,
    say: Callable[[str], object] = lambda _: None,
    save: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Measure the plan and return the results: machine, limits, and a list of figures, each with its floor.

    Args:
        plan: what to measure.
        say: called with a line for every figure.
        save: called with the results so far after every variant and thread count.

    Raises:
        BundleError: the bundle or a variant is missing.
        MeasurementError: a process ended.
    """
    bundle = Bundle.open(plan.bundle)
    for variant in plan.variants:
        bundle.variant(variant)
    limits = {threads: measure_limits(threads) for threads in plan.threads}
    results: dict[str, Any] = {
        "format": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "model": bundle.manifest.name,
        "machine": describe_machine(),
        "versions": versions(),
        "limits": [asdict(one) for one in limits.values()],
        "figures": [],
        "starts": [],
        "memory": [],
    }
    for variant in plan.variants:
        for threads in plan.threads:
            run = _Run(plan, bundle, variant, threads, limits[threads], say)
            run.measure()
            results["figures"] += run.figures
            results["starts"] += run.starts
            results["memory"].append(run.memory)
            # Measured again: whatever else ran the first time made the limits look lower than they are.
            limits[threads] = best_limits(limits[threads], measure_limits(threads))
            results["limits"] = [asdict(one) for one in limits.values()]
            save(_with_floors(results))
    return _with_floors(results)


def _with_floors(results: dict[str, Any]) -> dict[str, Any]:
    """Return the results with every figure's floor and what sets it, from the limits measured so far."""
    limits = {one["threads"]: MachineLimits(**one) for one in results["limits"]}
    figures = []
    for one in results["figures"]:
        cost = Cost(one["bytes"], one["float32_operations"], one["int8_operations"])
        floor_s, bound = cost.floor_s(limits[one["threads"]])
        figures.append({**one, "floor_s": floor_s, "bound": bound})
    return {**results, "figures": figures}


def merge_results(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the later results with the figures of earlier ones that were not measured again: long runs go in pieces.

    Limits are the best of both, and all floors are formed with them: both must come from one machine.

    Raises:
        OptionsError: they are of different models or machines.
    """
    origins = [f"{one['model']} on {one['machine']['cpu']}" for one in (earlier, later)]
    if origins[0] != origins[1]:
        raise OptionsError(
            f"the output holds results of {origins[0]}, these are of {origins[1]}; give another --output"
        )

    def key(one: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(one.get(name) for name in ("variant", "threads", "what", "kind", "audio_s", "batch"))

    merged = dict(later)
    for name in ("figures", "starts", "memory"):
        new = {key(one) for one in later[name]}
        kept = [one for one in earlier[name] if key(one) not in new]
        merged[name] = sorted(
            [*kept, *later[name]],
            key=lambda one: (one["variant"], one["threads"], one.get("audio_s", 0), one.get("batch", 0)),
        )
    limits: dict[int, MachineLimits] = {}
    for one in (*earlier["limits"], *later["limits"]):
        found = MachineLimits(**one)
        limits[found.threads] = best_limits(limits.get(found.threads, found), found)
    merged["limits"] = [asdict(limits[threads]) for threads in sorted(limits)]
    return _with_floors(merged)


class _Run:
    """One variant with one thread count."""

    def __init__(
        self,
        plan: ScalingPlan,
        bundle: Bundle,
        variant: str,
        threads: int,
        limits: MachineLimits,
        say: Callable[[str], object],
    ) -> None:
        self._plan, self._bundle, self._variant = plan, bundle, variant
        self._threads, self._limits, self._say = threads, limits, say
        self._commit = commit()
        manifest = bundle.manifest
        self._dims = manifest.encoder, manifest.decoder
        entry = manifest.variants[variant]
        self._encoder, self._init, self._step_graph = (
            graph_cost_facts(bundle.path / file) for file in (entry.encoder, entry.decoder_init, entry.decoder_step)
        )
        self._stem = stem_arithmetic(bundle.path / entry.encoder)
        self.figures: list[dict[str, Any]] = []
        self.starts: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}

    def measure(self) -> None:
        """Start cold, start warm, then run every length and every batch in one process."""
        for kind in ("cold", "warm"):
            if kind == "cold":
                _evict(self._bundle, self._variant)
            with self._worker() as worker:
                first = worker.transcribe(COLD_AUDIO_S, 4, 1)
                start = {"kind": kind, **worker.loaded, "first_s": first["seconds"]}
            self.starts.append({"variant": self._variant, "threads": self._threads, **start})
            self._say(
                f"{self._variant} x{self._threads} {kind}: load {start['load_s']:.2f} s, then {first['seconds']:.2f} s"
            )
        with self._worker() as worker, _MemorySampler(worker.pid) as sampler:
            worker.transcribe(1, 4, 1)  # warm-up
            for audio_s in self._plan.lengths_s:
                sampler.mark(f"{audio_s:g} s")
                self._length(worker, audio_s)
            for batch in self._plan.batches:
                sampler.mark(f"batch {batch}")
                self._batch(worker, batch)
        self.memory = {"variant": self._variant, "threads": self._threads, **sampler.to_dict()}

    def _worker(self) -> ScalingWorker:
        return ScalingWorker(self._bundle.path, self._variant, self._threads)

    def _length(self, worker: ScalingWorker, audio_s: float) -> None:
        """Measure encoder, prefill and a further token at one length."""
        n_prompt = self._n_prompt(audio_s)
        found = self._timed(worker, audio_s, 1)
        encoder = encoder_cost(self._dims[0], audio_s, *self._encoder, self._stem)
        prefill = decoder_cost(self._dims[1], n_prompt, 0, 1, *self._init)
        self._add("encoder", audio_s, 1, found["encoder_s"], encoder, found)
        self._add("prefill", audio_s, 1, found["prefill_s"], prefill, found)
        self._add("token", audio_s, 1, found["step_s"], self._step(n_prompt, 1), found)

    def _batch(self, worker: ScalingWorker, batch: int) -> None:
        """Measure the time of a step of several rows."""
        audio_s = self._plan.batch_audio_s
        n_prompt = self._n_prompt(audio_s)
        found = self._timed(worker, audio_s, batch)
        self._add("step of a batch", audio_s, batch, found["step_s"], self._step(n_prompt, batch), found)

    def _n_prompt(self, audio_s: float) -> int:
        return n_audio_tokens(round(audio_s * FRAMES_PER_S), self._dims[0].block_frames) + PROMPT_TOKENS

    def _step(self, n_prompt: int, batch: int) -> Cost:
        n_past = n_prompt + self._plan.n_tokens // 2
        return decoder_cost(self._dims[1], 1, n_past, batch, *self._step_graph)

    def _timed(self, worker: ScalingWorker, audio_s: float, batch: int) -> dict[str, float]:
        """Return medians of the stages' seconds, and the highest resident bytes.

        Raises:
            MeasurementError: the model wrote a single token, so no step was timed.
        """
        answers = []
        for _ in range(self._plan.repeats if audio_s * batch <= REPEATED_UP_TO_S else 1):
            answer = worker.transcribe(audio_s, 1 + self._plan.n_tokens, batch)
            # Random weights may stop early: what was generated is counted, not what was asked for.
            if answer["n_tokens"] < 2:
                raise MeasurementError(f"{self._variant}: the model stopped at once on {audio_s:g} s of audio")
            answers.append({**answer, "step_s": answer["decode_s"] / (answer["n_tokens"] - 1)})
        found = {name: median(answer[name] for answer in answers) for name in ("encoder_s", "prefill_s", "step_s")}
        return {**found, "peak_rss": max(answer["peak_rss"] for answer in answers)}

    def _add(self, what: str, audio_s: float, batch: int, seconds: float, cost: Cost, found: dict[str, float]) -> None:
        floor_s, bound = cost.floor_s(self._limits)
        self.figures.append({
            "what": what, "variant": self._variant, "threads": self._threads, "audio_s": audio_s, "batch": batch,
            "seconds": seconds, "bytes": cost.n_bytes,
            "float32_operations": cost.n_float32, "int8_operations": cost.n_int8, "peak_rss": int(found["peak_rss"]),
            "commit": self._commit,
        })  # fmt: skip
        self._say(
            f"{self._variant} x{self._threads} {what}, {audio_s:g} s, batch {batch}: {1e3 * seconds:,.1f} ms, "
            f"{seconds / floor_s:.2f} floors ({bound})"
        )


def _evict(bundle: Bundle, variant: str) -> None:
    """Ask the system to drop a variant's files from its page cache, where it can be asked (Linux)."""
    if not hasattr(os, "posix_fadvise"):
        return
    for name in bundle.manifest.variants[variant].files:
        descriptor = os.open(bundle.path / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # pages that are not yet on disk cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class _MemorySampler:
    """Reads a process's memory every tenth of a second, in a thread. Use as a context manager."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._started = time.perf_counter()
        self._samples: list[tuple[float, int]] = []
        self._marks: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _MemorySampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def mark(self, label: str) -> None:
        """Note that something begins now."""
        self._marks.append((time.perf_counter() - self._started, label))

    def to_dict(self) -> dict[str, Any]:
        """Return at most 600 samples, the highest of each stretch, as seconds and resident bytes; and the marks."""
        every = max(1, -(-len(self._samples) // 600))
        thinned = [
            max(self._samples[first : first + every], key=lambda sample: sample[1])
            for first in range(0, len(self._samples), every)
        ]
        return {
            "samples": [[round(t, 2), rss] for t, rss in thinned],
            "marks": [[round(t, 2), label] for t, label in self._marks],
        }

    def _sample(self) -> None:
        with suppress(psutil.Error):
            while not self._stop.wait(SAMPLE_S):
                self._samples.append((time.perf_counter() - self._started, self._process.memory_info().rss))
