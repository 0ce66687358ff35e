"""Checkpoint in, bundle of one variant out: the workshops that do it, found where they register and joined here.

They register under the entry-point group `qwen3_asr_onnx.workshops`, so that the runtime imports none by name and none
imports another:

    [project.entry-points."qwen3_asr_onnx.workshops"]
    export = "qwen3_asr_onnx_export.workshop:WORKSHOP"
    quantize = "qwen3_asr_onnx_quantize.workshop:WORKSHOP"
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import MissingExtra, OptionsError

from .files import Bundle
from .leftovers import workplace
from .writing import atomic_directory

__all__ = ["GROUP", "ExportWorkshop", "QuantizeWorkshop", "check_recipe", "make_variant"]

GROUP = "qwen3_asr_onnx.workshops"
REMEDY = "pip install 'qwen3-asr-onnx[get]'"


class ExportWorkshop(Protocol):
    """What makes a float32 bundle of a checkpoint: the entry point `export`."""

    def export(self, checkpoint: Path, output: Path, *, name: str | None, check: bool, progress: bool) -> Bundle:
        """Write the bundle of a checkpoint."""


class QuantizeWorkshop(Protocol):
    """What makes variants by recipes: the entry point `quantize`."""

    def require(self, recipe: str, calibration: Sequence[Waveform], *, keeps_float32: bool) -> None:
        """Raise unless there is such a recipe, and calibration audio where it needs some, and there alone."""

    def add(
        self, bundle: Path, recipe: str, *, progress: bool, threads: int | None, calibration: Sequence[Waveform]
    ) -> None:
        """Add a variant to a bundle, as its first one."""

    def make(self, output: Path, bundle: Path, recipe: str, *, progress: bool, threads: int | None) -> None:
        """Write a bundle of one variant of another bundle."""


def make_variant(
    checkpoint: Path,
    output: Path,
    recipe: str,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    keep_float32: bool = False,
    check: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    threads: int | None = None,
    calibration: Sequence[Waveform] = (),
) -> Bundle:
    """Make a bundle of one variant from a checkpoint.

    Args:
        checkpoint: directory of a checkpoint in the original or the transformers-native layout.
        output: the directory to create; it appears when all of it is there, and not before.
        recipe: name of a published recipe, or a .toml file.
        adapter: directory of a LoRA adapter to merge into the checkpoint.
        name: what the manifest calls the model; None for the name of the checkpoint's directory.
        keep_float32: keep the float32 variant in the bundle, behind the one that the recipe makes.
        check: compare with transformers as `export` does, which needs torch.
        overwrite: replace `output` if it exists.
        progress: show progress bars if stderr is a terminal.
        threads: cores to use; None for all.
        calibration: 16 kHz waveforms for recipes that are calibrated, which need `keep_float32` too.

    Returns:
        The bundle.

    Raises:
        BundleError: the checkpoint or the adapter is not usable, `output` is occupied, or a check fails.
        OptionsError: no such recipe, or one that this model or these options cannot give.
        LimitError: not enough disk space.
        MissingExtra: a workshop, or a package that it needs, is not installed.
    """
    with _import_errors_named():
        export = cast(ExportWorkshop, _workshop("export"))
        quantize = cast(QuantizeWorkshop, _workshop("quantize"))
        if adapter is not None:
            raise OptionsError(f"{adapter}: adapters cannot be merged yet")
        quantize.require(recipe, calibration, keeps_float32=keep_float32)
        options: dict[str, Any] = {"progress": progress, "threads": threads}
        with atomic_directory(output, overwrite=overwrite) as partial:
            if keep_float32:
                export.export(checkpoint, partial, name=name, check=check, progress=progress)
                quantize.add(partial, recipe, calibration=calibration, **options)
            else:
                with workplace(output.parent, output.name) as place:
                    float32 = place.partial / "float32"
                    export.export(checkpoint, float32, name=name, check=check, progress=progress)
                    quantize.make(partial, float32, recipe, **options)
    return Bundle.open(output)


def check_recipe(recipe: str, calibration: Sequence[Waveform] = (), *, keeps_float32: bool = False) -> None:
    """Refuse now what `make_variant` would, perhaps after a long download.

    Raises:
        OptionsError: no such recipe, or one that needs other options.
        MissingExtra: a workshop, or a package that it needs, is not installed.
    """
    with _import_errors_named():
        _workshop("export")
        cast(QuantizeWorkshop, _workshop("quantize")).require(recipe, calibration, keeps_float32=keeps_float32)


def _workshop(name: str) -> object:
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    raise MissingExtra(f"making variants needs the workshop {name!r}, which is not installed: {REMEDY}")


@contextlib.contextmanager
def _import_errors_named() -> Iterator[None]:
    """Turn a failed import of somebody else's package into the pip line that installs it.

    Raises:
        MissingExtra: a package that a workshop needs is missing or broken.
    """
    try:
        yield
    except MissingExtra:
        raise
    except ImportError as error:
        if (error.name or "").startswith("qwen3_asr_onnx"):
            raise
        raise MissingExtra(f"making a variant needs more packages ({error}): {REMEDY}") from error
