"""Recipes -> variants -> JSON rows, one per variant and measurement: size, fidelity, speed, word errors. Resumable.

Rows are appended as they are made. A measurement whose row is there, of the same recipe on the same files and clips by
the same onnxruntime, is not made again. `sweep_report` makes one table and one plot of them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx.model.session import runtime_version
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.calibration.attach import calibration_record
from qwen3_asr_onnx_quantize.calibration.clips import Clip, clips_digest
from qwen3_asr_onnx_quantize.plan import float32_name
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe

from .fidelity import Trace, compare, trace_reference
from .speed import probe_speed
from .word_errors import ErrorCounts, count_errors, difference, rate

__all__ = ["FLOAT32", "MEASURES", "Measure", "Row", "SweepPlan", "run_sweep"]

Row: TypeAlias = dict[str, Any]
Measure: TypeAlias = Literal["size", "fidelity", "speed", "errors"]

MEASURES: tuple[Measure, ...] = ("size", "fidelity", "speed", "errors")
FLOAT32 = "fp32"


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What to measure.

    Attributes:
        bundle: a bundle with a float32 variant; the variants are added to it.
        recipes: what to make, by distinct names.
        clips: recordings; those with a text count word errors.
        output: the JSONL file to append to.
        calibration: waveforms for recipes that are calibrated.
        n_fidelity: how many clips are compared with float32 position by position.
        n_speed: how many clips are timed.
        max_new_tokens: most tokens per clip where variants are compared and timed.
        threads: threads per operator; None for all cores.
    """

    bundle: Path
    recipes: tuple[Recipe, ...]
    clips: tuple[Clip, ...]
    output: Path
    calibration: tuple[Waveform, ...] = field(default=())
    n_fidelity: int = 100
    n_speed: int = 8
    max_new_tokens: int = 128
    threads: int | None = None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What can be measured on these clips."""
        return tuple(measure for measure in MEASURES if measure != "errors" or self.told)

    @property
    def told(self) -> tuple[Clip, ...]:
        """The clips whose text is known."""
        return tuple(clip for clip in self.clips if clip.text is not None)


def run_sweep(
    plan: SweepPlan,
    starting: Callable[[str, Measure], object] = lambda _variant, _measure: None,
    finished: Callable[[int], object] = lambda _: None,
) -> list[Row]:
    """Measure float32 and every recipe, and return all rows of the plan, old and new.

    Args:
        plan: what to measure.
        starting: called with the variant's name and the measure, before each measurement that has to be made.
        finished: called with 1 for each measurement that is there.

    Raises:
        BundleError: no float32 variant, or a variant of that name was made by another recipe.
        OptionsError: no clips, two recipes of one name, or calibration audio is missing.
        MissingExtra: a clip has a text and jiwer is not installed.
    """
    _check(plan)
    done = {row["key"]: row for row in _rows(plan.output)}
    sweep = _Sweep(plan, done)
    rows = []
    for recipe in (None, *plan.recipes):
        for measure in plan.measures:
            key = _key(plan, recipe, measure)
            if key not in done:
                name = recipe.name if recipe else FLOAT32
                starting(name, measure)
                line = measured_json(
                    {"key": key, "variant": name, "measure": measure, **sweep.measured(recipe, measure)}
                )
                with plan.output.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
                done[key] = json.loads(line)  # what the next run finds
            rows.append(done[key])
            finished(1)
        sweep.close()
    return rows


class _Sweep:
    """The measurements, and what they have in common: the float32 traces, the variant that is loaded."""

    def __init__(self, plan: SweepPlan, done: dict[str, Row]) -> None:
        self._plan = plan
        self._done = done
        self._traces: list[Trace] = []
        self._loaded: tuple[str, Transcriber] | None = None

    def measured(self, recipe: Recipe | None, measure: Measure) -> Row:
        """Make the variant where it is not there yet, and measure it."""
        plan = self._plan
        started = time.perf_counter()
        calibration = plan.calibration if recipe is not None and recipe.calibrated else ()
        if recipe is not None and not _made(plan.bundle, recipe, calibration):
            quantize_bundle(plan.bundle, recipe, threads=plan.threads, calibration=calibration)
        quantize_s = time.perf_counter() - started
        name = recipe.name if recipe else _float32(plan.bundle)
        if measure == "size":
            return {"recipe": recipe.to_dict() if recipe else {"scheme": "fp32"}, "quantize_s": quantize_s} | _size(
                plan.bundle, name
            )
        common = {"onnxruntime": runtime_version(), "threads": plan.threads}
        if measure == "speed":
            waveforms = [clip.waveform for clip in plan.clips[: plan.n_speed]]
            seconds = sum(waveform.size for waveform in waveforms) / SAMPLE_RATE
            speed = probe_speed(plan.bundle, name, waveforms, plan.max_new_tokens, plan.threads)
            return {**speed, "n_clips": len(waveforms), "audio_s": seconds, **common}
        if measure == "fidelity":
            fidelity = compare(self._transcriber(name), self._reference())
            return {**fidelity.to_dict(), "agree": fidelity.n_agree / fidelity.n_positions, **common}
        return {**self._errors(recipe, name), **common}

    def close(self) -> None:
        """Free the variant that is loaded."""
        if self._loaded is not None:
            self._loaded[1].close()
            self._loaded = None

    def _transcriber(self, name: str) -> Transcriber:
        if self._loaded is None or self._loaded[0] != name:
            self.close()
            self._loaded = (name, Transcriber(self._plan.bundle, name, threads=self._plan.threads))
        return self._loaded[1]

    def _reference(self) -> list[Trace]:
        plan = self._plan
        if not self._traces:
            with Transcriber(plan.bundle, _float32(plan.bundle), threads=plan.threads) as asr:
                waveforms = [clip.waveform for clip in plan.clips[: plan.n_fidelity]]
                self._traces = trace_reference(asr, waveforms, plan.max_new_tokens)
        return self._traces

    def _errors(self, recipe: Recipe | None, name: str) -> Row:
        """Return word and character errors of all clips with a text, and how many more than float32's."""
        clips = self._plan.told
        written = [one.text for one in self._transcriber(name).transcribe_many([clip.waveform for clip in clips])]
        said = [clip.text or "" for clip in clips]
        row: Row = {"n_clips": len(clips), "n_silent": sum(not text for text in said)}
        baseline = None if recipe is None else self._done.get(_key(self._plan, None, "errors"))
        for unit, characters in (("wer", False), ("cer", True)):
            counts = count_errors(said, written, characters=characters)
            row[unit] = {"errors": int(counts.errors.sum()), "units": int(counts.units.sum()), **asdict(rate(counts))}
            row[f"{unit}_per_clip"] = counts.errors.tolist()
            if baseline is not None:
                before = ErrorCounts(np.array(baseline[f"{unit}_per_clip"]), counts.units)
                row[f"{unit}_more_than_fp32"] = asdict(difference(counts, before))
        return row


def _check(plan: SweepPlan) -> None:
    names = [recipe.name for recipe in plan.recipes]
    if len(set(names)) != len(names):
        raise OptionsError(f"two recipes are called {max(names, key=names.count)!r}; give each a name of its own")
    if not plan.clips or not all(clip.waveform.size for clip in plan.clips):
        raise OptionsError("a sweep needs audio: give at least one clip, and none that is empty")
    if not plan.calibration:
        for recipe in plan.recipes:
            if recipe.calibrated:
                raise OptionsError(f"recipe {recipe.name!r} is calibrated; name audio files with --calibration")


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of an earlier run. A last line cut short by a crash counts as not written."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    text = path.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise OptionsError(
                f"{path}, line {number}: not a row of a sweep ({error}); give another --output"
            ) from error
        if not isinstance(row, dict) or not {"key", "variant", "measure"} <= row.keys():
            raise OptionsError(f"{path}, line {number}: not a row of a sweep; give another --output")
        yield row


def _key(plan: SweepPlan, recipe: Recipe | None, measure: Measure) -> str:
    """Return what a measurement depends on, as a digest: recipe, source files, clips, library."""
    bundle = Bundle.open(plan.bundle)
    source = bundle.manifest.variants[_float32(plan.bundle)]
    clips = {
        "size": (),
        "fidelity": plan.clips[: plan.n_fidelity],
        "speed": plan.clips[: plan.n_speed],
        "errors": plan.told,
    }
    calibrated = recipe is not None and recipe.calibrated
    parts = {
        "measure": measure,
        "recipe": recipe.to_dict() if recipe else FLOAT32,
        "inputs": {name: bundle.manifest.files[name].sha256 for name in source.files},
        "clips": clips_digest(clips[measure]),
        "calibration": clips_digest([Clip(waveform) for waveform in plan.calibration]) if calibrated else None,
        "max_new_tokens": None if measure in ("size", "errors") else plan.max_new_tokens,
        "threads": None if measure == "size" else plan.threads,
        "onnxruntime": None if measure == "size" else runtime_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _float32(bundle: Path) -> str:
    name = float32_name(Bundle.open(bundle).manifest)
    if name is None:
        raise OptionsError(f"{bundle}: no float32 variant to compare with; export the checkpoint again")
    return name


def _made(bundle: Path, recipe: Recipe, calibration: Sequence[Waveform]) -> bool:
    """Return whether the variant is there already.

    Raises:
        BundleError: one of that name is there, made by another recipe or on other calibration audio.
    """
    variant = Bundle.open(bundle).manifest.variants.get(recipe.name)
    if variant is None:
        return False
    wanted = recipe.to_dict()
    if recipe.calibrated:
        wanted["calibration"] = calibration_record(calibration)
    if {key: variant.recipe.get(key) for key in wanted} != wanted:
        raise BundleError(
            f"{bundle}: variant {recipe.name!r} exists and was made in another way; give the recipe another name, or "
            "make the variant again with `quantize --overwrite`"
        )
    return True


def _size(path: Path, name: str) -> Row:
    manifest = Bundle.open(path).manifest
    variant = manifest.variants[name]
    n_bytes = {file: manifest.files[file].size for file in dict.fromkeys(variant.files)}
    return {"size_mb": sum(n_bytes.values()) / 1e6, "files": n_bytes}
