"""Recipes -> variants -> one JSON row each: size, seconds, and distance from float32. Resumable; knows nothing of WER.

Rows are appended as they are made. A recipe whose row is there, made from the same files on the same clips by the same
onnxruntime, is not measured again. Word errors are measured by the `eval` workshop on the variants that this leaves
behind; its rows carry the same variant names.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle import Bundle, Variant
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.session import runtime_version
from qwen3_asr_onnx.types import SAMPLE_RATE, Waveform

from .apply import quantize_bundle
from .fidelity import Trace, compare, trace_reference
from .recipe import Recipe

__all__ = ["SweepPlan", "run_sweep", "table"]

Row: TypeAlias = dict[str, Any]

COLUMNS: Sequence[tuple[str, str, str]] = (
    ("variant", "variant", "{}"),
    ("MB", "size_mb", "{:,.1f}"),
    ("quantize s", "quantize_s", "{:.1f}"),
    ("load s", "load_s", "{:.2f}"),
    ("encoder ms", "encoder_ms", "{:.0f}"),
    ("prefill ms", "prefill_ms", "{:.0f}"),
    ("step ms", "step_ms", "{:.1f}"),
    ("features error", "features_error", "{:.4f}"),
    ("KL mean", "kl_mean", "{:.5f}"),
    ("KL p99", "kl_p99", "{:.4f}"),
    ("agree", "agree", "{:.2%}"),
)
"""Heading, key of the row, format."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What to measure.

    Attributes:
        bundle: a bundle with a float32 variant; the variants are added to it.
        recipes: what to make, by distinct names.
        clips: 16 kHz waveforms, each short enough to be one piece.
        output: the JSONL file to append to.
        max_new_tokens: most tokens the reference writes per clip.
        threads: threads per operator; None for all cores.
    """

    bundle: Path
    recipes: tuple[Recipe, ...]
    clips: tuple[Waveform, ...]
    output: Path
    max_new_tokens: int = 128
    threads: int | None = None


def run_sweep(plan: SweepPlan, progress: Callable[[str], object] | None = None) -> list[Row]:
    """Measure float32 and every recipe, and return all rows of the plan, old and new.

    Args:
        plan: what to measure.
        progress: called with the name of each variant before it is made or measured.

    Raises:
        BundleError: no float32 variant, or a variant of that name was made by another recipe.
        OptionsError: no clips, or two recipes of one name.
    """
    names = [recipe.name for recipe in plan.recipes]
    if len(set(names)) != len(names):
        raise OptionsError(f"two recipes are called {max(names, key=names.count)!r}; give each a name of its own")
    if not plan.clips or not all(clip.size for clip in plan.clips):
        raise OptionsError("a sweep needs audio: give at least one clip that is not empty")
    done = {row["key"]: row for row in _rows(plan.output)}
    traces: list[Trace] = []
    rows = []
    for recipe in (None, *plan.recipes):
        key = _key(plan, recipe)
        if key not in done:
            if progress is not None:
                progress(recipe.name if recipe else "fp32")
            if not traces:
                traces = trace_reference(
                    Transcriber(plan.bundle, _float32(plan.bundle), threads=plan.threads),
                    plan.clips,
                    plan.max_new_tokens,
                )
            done[key] = {"key": key, **_measured(plan, recipe, traces)}
            with plan.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[key]) + "\n")
        rows.append(done[key])
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| " + " | ".join(heading for heading, _, _ in COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(form.format(row[key]) for _, key, form in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


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
        if not isinstance(row, dict) or "key" not in row:
            raise OptionsError(f"{path}, line {number}: not a row of a sweep; give another --output")
        yield row


def _key(plan: SweepPlan, recipe: Recipe | None) -> str:
    """Return what a measurement depends on, as a digest: recipe, source files, clips, library."""
    bundle = Bundle.open(plan.bundle)
    source = bundle.manifest.variants[_float32(plan.bundle)]
    clips = hashlib.sha256(b"".join(hashlib.sha256(clip.tobytes()).digest() for clip in plan.clips)).hexdigest()
    parts = {
        "recipe": recipe.to_dict() if recipe else "fp32",
        "inputs": {name: bundle.manifest.files[name].sha256 for name in source.files},
        "clips": clips,
        "max_new_tokens": plan.max_new_tokens,
        "threads": plan.threads,
        "onnxruntime": runtime_version(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _float32(bundle: Path) -> str:
    for name, variant in Bundle.open(bundle).manifest.variants.items():
        if variant.recipe.get("scheme") == "fp32":
            return name
    raise OptionsError(f"{bundle}: no float32 variant to compare with; export the checkpoint again")


def _measured(plan: SweepPlan, recipe: Recipe | None, traces: Sequence[Trace]) -> Row:
    """Make the variant where it is not there yet, and measure it."""
    started = time.perf_counter()
    if recipe is not None and not _made(plan.bundle, recipe):
        quantize_bundle(plan.bundle, recipe, threads=plan.threads)
    quantize_s = time.perf_counter() - started
    name = recipe.name if recipe else _float32(plan.bundle)
    started = time.perf_counter()
    asr = Transcriber(plan.bundle, name, threads=plan.threads)
    load_s = time.perf_counter() - started
    fidelity = compare(asr, traces)  # also warms every buffer
    bundle = Bundle.open(plan.bundle)
    variant: Variant = bundle.manifest.variants[name]
    row: Row = {
        "variant": name,
        "recipe": recipe.to_dict() if recipe else {"scheme": "fp32"},
        "size_mb": sum(bundle.manifest.files[file].size for file in dict.fromkeys(variant.files)) / 1e6,
        "quantize_s": quantize_s,
        "load_s": load_s,
        **_timings(asr, traces, plan.max_new_tokens),
        **fidelity.to_dict(),
        "agree": fidelity.n_agree / fidelity.n_positions,
        "audio_s": sum(clip.size for clip in plan.clips) / SAMPLE_RATE,
        "onnxruntime": runtime_version(),
        "threads": plan.threads,
    }
    asr.close()
    return row


def _made(bundle: Path, recipe: Recipe) -> bool:
    """Return whether the variant is there already, made by this very recipe."""
    variant = Bundle.open(bundle).manifest.variants.get(recipe.name)
    if variant is None:
        return False
    wanted = recipe.to_dict()
    return {key: variant.recipe.get(key) for key in wanted} == wanted


def _timings(asr: Transcriber, traces: Sequence[Trace], max_new_tokens: int) -> dict[str, float]:
    """Return milliseconds: encoder and prefill per clip, step per token. Medians over the clips, each run once."""
    options = TranscribeOptions(max_new_tokens=max_new_tokens)
    encoder, prefill, step = [], [], []
    for trace in traces:
        transcript = asr.transcribe(trace.waveform, options)
        encoder.append(transcript.timings.encoder_s)
        prefill.append(transcript.timings.prefill_s)
        step.append(transcript.timings.decode_s / max(1, len(transcript.token_ids)))
    return {
        "encoder_ms": 1e3 * float(np.median(encoder)),
        "prefill_ms": 1e3 * float(np.median(prefill)),
        "step_ms": 1e3 * float(np.median(step)),
    }
