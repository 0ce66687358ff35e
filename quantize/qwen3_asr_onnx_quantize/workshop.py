"""What `qwen3_asr_onnx.bundle.workshops` finds here by the entry point `quantize`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.workshops import Float32Source, QuantizeWorkshop
from qwen3_asr_onnx.errors import OptionsError

from .apply import quantize_bundle, quantize_streamed
from .calibration.attach import require_calibration
from .checks.checks import check_variant
from .recipes.recipe import load_recipe

__all__ = ["WORKSHOP"]


class _Workshop:
    """The quantizer."""

    def require(self, recipe: str, calibration: Sequence[Waveform], *, keeps_float32: bool) -> None:
        """Raise unless there is such a recipe, and calibration audio where it needs some, and there alone."""
        loaded = load_recipe(recipe)
        if loaded.calibrated and not (keeps_float32 and calibration):
            raise OptionsError(
                f"recipe {loaded.name!r} is calibrated: it listens to the float32 model, which must be kept, and to "
                "audio; give --keep-float32 and --calibration"
            )
        require_calibration(loaded, calibration)

    def add(
        self, bundle: Path, recipe: str, *, progress: bool, threads: int | None, calibration: Sequence[Waveform]
    ) -> None:
        """Add a variant to a bundle, as its first one."""
        quantize_bundle(
            bundle, load_recipe(recipe), default=True, progress=progress, threads=threads, calibration=calibration
        )

    def make(self, output: Path, source: Float32Source, recipe: str, *, progress: bool, threads: int | None) -> None:
        """Fill an empty directory with the bundle of one variant."""
        quantize_streamed(output, source, load_recipe(recipe), progress=progress, threads=threads)

    def check(self, bundle: Path, source: Float32Source, recipe: str, *, threads: int | None) -> None:
        """Raise unless the variant of a bundle computes what the source means, up to rounding, and answers a clip."""
        check_variant(bundle, source, load_recipe(recipe), threads)


WORKSHOP: QuantizeWorkshop = _Workshop()
