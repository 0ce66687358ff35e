"""Systems x dataset -> rows of results, in one run: the same samples to all, in turns, resumable at every row."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra, OptionsError
from qwen3_asr_onnx.text.languages import resolve_language
from qwen3_asr_onnx_eval.datasets.dataset import Dataset, Utterance, read_waveform
from qwen3_asr_onnx_eval.machine.clip import benchmark_clip
from qwen3_asr_onnx_eval.machine.machine import environment
from qwen3_asr_onnx_eval.systems.process import SystemFailedError, SystemProcess, SystemSpec

from .rows import Header, ResultRow, ResultsWriter

__all__ = ["EvaluationPlan", "RunCounts", "evaluate"]

WARM_UP_S = 3.0
Report = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """How to evaluate.

    Attributes:
        repeats: times each utterance is transcribed; times are medians, texts those of the last.
        settle_s: pause before each turn, so that the thread pool of the system before stops spinning.
        timeout_s: longest time for one utterance and repeat; after that the system is started anew.
        forced_language: given to every system; "" lets them detect.
        one_at_a_time: load one system after the other instead of all beside each other.
        retry_failed: try again what failed in an earlier run of the same results.
        command: as typed, for the record.
    """

    repeats: int = 1
    settle_s: float = 0.1
    timeout_s: float = 600.0
    forced_language: str = ""
    one_at_a_time: bool = False
    retry_failed: bool = False
    command: str = ""


@dataclass(slots=True)
class RunCounts:
    """What became of the utterances: every one asked for is in exactly one count per system."""

    done_before: int = 0
    transcribed: int = 0
    failed: int = 0
    undecodable: int = 0


def evaluate(
    dataset: Dataset,
    specs: Sequence[SystemSpec],
    plan: EvaluationPlan,
    results: Path,
    *,
    report: Report = lambda _: None,
    progress: Callable[[str], object] = lambda _: None,
) -> RunCounts:
    """Run every system on every utterance that the results file does not hold yet.

    Args:
        dataset: what to transcribe; its problems are recorded in the header.
        specs: what to run.
        plan: how.
        results: the .jsonl file, begun or gone on with.
        report: called with a line for everything that went wrong.
        progress: called with the id of every utterance when all systems are done with it.

    Raises:
        OptionsError: two systems have one name, or the results are of another dataset or of other settings.
        SystemFailedError: a system cannot be loaded, before anything is run.
    """
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise OptionsError(f"systems need different names, these are: {', '.join(names)}; give NAME=KIND:MODEL")
    header = Header(
        dataset.name,
        dataset.digest,
        len(dataset.utterances),
        tuple(str(problem) for problem in dataset.problems),
        plan.forced_language,
        plan.command,
    )
    counts = RunCounts()
    with ResultsWriter(results, header, retry_failed=plan.retry_failed) as writer:
        for spec in specs:
            _require_same_settings(spec, plan, writer.earlier)
        groups = [[spec] for spec in specs] if plan.one_at_a_time else [list(specs)]
        for group in groups:
            _run_group(dataset, group, plan, writer, counts, report, progress)
    return counts


def _run_group(
    dataset: Dataset,
    specs: Sequence[SystemSpec],
    plan: EvaluationPlan,
    writer: ResultsWriter,
    counts: RunCounts,
    report: Report,
    progress: Callable[[str], object],
) -> None:
    """Run some systems, all loaded at once, taking turns; who begins changes from utterance to utterance."""
    todo = [(u, [spec for spec in specs if (spec.name, u.id) not in writer.done]) for u in dataset.utterances]
    counts.done_before += sum(len(specs) - len(left) for _, left in todo)
    needed = [spec for spec in specs if any(spec in left for _, left in todo)]
    facts = environment()
    with tempfile.TemporaryDirectory(prefix="qwen3-asr-eval-") as folder:
        runners = {}
        try:
            for spec in needed:
                runners[spec.name] = _Runner(spec, plan, Path(folder), facts, len(needed) > 1)
                _require_same_files(runners[spec.name], writer.earlier)
            for turn, (utterance, left) in enumerate(todo):
                if left:
                    shift = turn % len(left)
                    order = [runners[spec.name] for spec in (*left[shift:], *left[:shift])]
                    for row in _rows(utterance, order, Path(folder), writer.path.parent, report):
                        writer.append(row)
                        _count(row, counts, report)
                progress(utterance.id)
        finally:
            for runner in runners.values():
                runner.close()


def _rows(
    utterance: Utterance, order: Sequence[_Runner], folder: Path, beside: Path, report: Report
) -> Iterator[ResultRow]:
    """Yield the rows of one utterance, each when it is there; if its audio cannot be decoded, all of them say so."""
    base = ResultRow(
        "",
        utterance.id,
        utterance.where,
        utterance.subset,
        utterance.speaker,
        utterance.language,
        utterance.text,
        0.0,
        "",
        _relative(utterance.audio, beside) if isinstance(utterance.audio, Path) else "",
        utterance.start_s,
        utterance.end_s,
    )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            waveform = read_waveform(utterance)
    except (AudioError, LimitError, MissingExtra, OSError) as error:
        report(f"{utterance.where}: {error}")
        for runner in order:
            yield replace(base, system=runner.spec.name, error=str(error), error_kind="audio", **runner.facts())
        return
    for warning in caught:
        report(f"{utterance.where}: warning: {warning.message}")
    path = folder / "utterance.npy"
    np.save(path, waveform)
    digest = hashlib.sha256(waveform.tobytes()).hexdigest()
    base = replace(base, audio_s=len(waveform) / SAMPLE_RATE, audio_sha256=digest)
    for runner in order:
        yield runner.run(base, path)


def _relative(audio: Path, folder: Path) -> str:
    """Return the path of an audio file as seen from the folder of the results, so that both can be moved together."""
    try:
        return Path(os.path.relpath(audio, folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return str(audio.absolute())


def _count(row: ResultRow, counts: RunCounts, report: Report) -> None:
    if row.error_kind == "audio":
        counts.undecodable += 1
    elif row.error_kind == "system":
        counts.failed += 1
        report(f"{row.where}: {row.error}")
    else:
        counts.transcribed += 1


class _Runner:
    """One system's process: asks it, and starts it anew when it has ended."""

    def __init__(
        self, spec: SystemSpec, plan: EvaluationPlan, folder: Path, facts: dict[str, Any], interleaved: bool
    ) -> None:
        self.spec = spec
        self._plan = plan
        self._environment = facts
        self._warm_up = folder / "warm-up.npy"
        np.save(self._warm_up, benchmark_clip(WARM_UP_S))
        self.settings = {**_settings(spec, plan), "interleaved": interleaved}
        self._process: SystemProcess | None = self._start()
        self._loaded = self._process.loaded

    def _start(self) -> SystemProcess:
        process = SystemProcess(self.spec)
        try:
            # A system that fails on the warm-up may still work on speech: only its end matters here.
            process.transcribe(self._warm_up, None, 1, self._plan.timeout_s)
        except BaseException:
            process.close(kill=True)
            raise
        return process

    def facts(self) -> dict[str, Any]:
        """Return the fields of a row that say what was run, and on what."""
        return {
            "load_s": self._loaded["load_s"],
            "info": self._loaded["info"],
            "settings": self.settings,
            "environment": self._environment,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def run(self, base: ResultRow, audio: Path) -> ResultRow:
        """Return the row of one utterance."""
        plan = self._plan
        time.sleep(plan.settle_s)
        started = time.perf_counter()
        try:
            if self._process is None:
                self._process = self._start()
                started = time.perf_counter()
            answer = self._process.transcribe(
                audio, plan.forced_language or None, plan.repeats, plan.timeout_s * plan.repeats
            )
        except SystemFailedError as error:
            self.close()
            return replace(base, system=self.spec.name, error=str(error), error_kind="system", **self.facts())
        elapsed = time.perf_counter() - started
        complaint = answer.get("error", "")
        return replace(
            base,
            system=self.spec.name,
            hypothesis=answer.get("text"),
            hypothesis_language=_language_name(answer.get("language")),
            stop_reason=answer.get("stop_reason"),
            error=f"{self.spec.name}: {complaint}" if complaint else "",
            error_kind="system" if complaint else "",
            seconds=tuple(answer["seconds"]),
            harness_s=elapsed - sum(answer["seconds"]),
            peak_rss=answer["peak_rss"],
            **self.facts(),
        )

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _language_name(told: str | None) -> str | None:
    """Return the language's name where a system told a code; what is not known stays as it is."""
    if not told:
        return told
    try:
        return resolve_language(told)
    except OptionsError:
        return told


def _settings(spec: SystemSpec, plan: EvaluationPlan) -> dict[str, Any]:
    return {
        "kind": spec.kind,
        "model": spec.model,
        "precision": spec.precision,
        "threads": spec.threads,
        "repeats": plan.repeats,
    }


def _require_same_settings(spec: SystemSpec, plan: EvaluationPlan, earlier: Sequence[ResultRow]) -> None:
    """Refuse to mix rows of two models, precisions or thread counts under one name."""
    row = next((row for row in earlier if row.system == spec.name), None)
    if row is None:
        return
    wanted = _settings(spec, plan)
    changed = [key for key in wanted if row.settings.get(key) != wanted[key]]
    if changed:
        raise OptionsError(f"the results hold rows of {spec.name!r} with another {changed[0]}; give another -o DIR")


def _require_same_files(runner: _Runner, earlier: Sequence[ResultRow]) -> None:
    """Refuse to mix rows of two contents of one model's files."""
    row = next((row for row in earlier if row.system == runner.spec.name), None)
    if row is not None and row.info.get("sha256") != runner.facts()["info"].get("sha256"):
        raise OptionsError(
            f"the results hold rows of {runner.spec.name!r} with other files of the same model; give another -o DIR"
        )
