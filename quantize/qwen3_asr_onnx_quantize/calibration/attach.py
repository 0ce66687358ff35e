"""Graphs with pending weights + calibration audio -> the same graphs, every calibrated weight told its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import onnx_ir as ir

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import Variant
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe
from qwen3_asr_onnx_quantize.weights.pending import PendingTensor

__all__ = ["attach_calibration", "calibration_record", "require_calibration"]


def require_calibration(recipe: Recipe, clips: Sequence[Waveform]) -> None:
    """Raise unless calibration audio is there exactly where the recipe asks for it.

    Raises:
        OptionsError: audio is missing, or nobody would listen to it.
    """
    if recipe.calibrated and not any(clip.size for clip in clips):
        raise OptionsError(
            f"recipe {recipe.name!r} is calibrated; name audio files with --calibration, for example 64 clips of the "
            "kind of speech it will hear"
        )
    if clips and not recipe.calibrated:
        raise OptionsError(
            f'recipe {recipe.name!r} is not calibrated; leave --calibration out, or set calibration = "gptq" in it'
        )


def calibration_record(clips: Sequence[Waveform]) -> dict[str, Any]:
    """Return what the manifest says about the audio a variant was calibrated on."""
    from .moments import calibration_digest

    seconds = sum(clip.size for clip in clips) / SAMPLE_RATE
    return {"clips": len(clips), "seconds": round(seconds, 2), "sha256": calibration_digest(clips)}


def attach_calibration(
    bundle: Bundle, source: Variant, models: Iterable[ir.Model], clips: Sequence[Waveform], threads: int | None
) -> None:
    """Tell every calibrated weight where to ask for its inputs. Nothing is run unless there is such a weight.

    Args:
        bundle: the bundle.
        source: its float32 variant.
        models: graphs with pending weights.
        clips: what to listen to.
        threads: threads per operator; None for all cores.
    """
    tensors = [value.const_value for model in models for value in model.graph.initializers.values()]
    jobs = {tensor.job for tensor in tensors if isinstance(tensor, PendingTensor) and tensor.job.storage.calibrated}
    if not jobs:
        return
    if bundle.manifest.kind != "asr":
        raise OptionsError(f"{bundle.path}: an {bundle.manifest.kind} bundle cannot transcribe calibration audio")
    from .moments import Calibration, calibration_texts

    name = next(name for name, variant in bundle.manifest.variants.items() if variant == source)
    texts = calibration_texts(bundle.path, name, clips, threads=threads)
    calibration = Calibration(bundle.path / source.decoder_step, bundle.manifest.decoder, texts, threads)
    for job in jobs:
        job.factor = partial(calibration.factor, str(job.source.name), job.source)
