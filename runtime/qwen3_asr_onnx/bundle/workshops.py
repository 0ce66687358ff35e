"""Checkpoint in, bundle of one variant out: the workshops that do it, found where they register and joined here.

They register under the entry-point group `qwen3_asr_onnx.workshops`, so that the runtime imports none by name and none
imports another:

    [project.entry-points."qwen3_asr_onnx.workshops"]
    export = "qwen3_asr_onnx_export.workshop:WORKSHOP"
    quantize = "qwen3_asr_onnx_quantize.workshop:WORKSHOP"
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import MissingExtra, OptionsError, import_errors_named

from .files import Bundle
from .leftovers import workplace
from .manifest import FileRecord
from .writing import atomic_directory

__all__ = ["GROUP", "ExportWorkshop", "Float32Source", "QuantizeWorkshop", "check_recipe", "make_variant"]

GROUP = "qwen3_asr_onnx.workshops"
REMEDY = "pip install 'qwen3-asr-onnx[get]'"


Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.float16]


class Float32Source(Protocol):
    """A float32 bundle whose large files are not there: what is in them can be asked for, and written.

    Attributes:
        origin: what it is made from, for errors.
        bundle: its manifest, and a folder with its small files. The manifest has the sizes of the large ones, and
            nothing for their sha256.
        streamed: the names of the large ones.
    """

    @property
    def origin(self) -> Path: ...  # noqa: D102
    @property
    def bundle(self) -> Bundle: ...  # noqa: D102
    @property
    def streamed(self) -> frozenset[str]: ...  # noqa: D102

    def read(self, name: str, start: int, stop: int, *, columns: bool) -> Floats:
        """Return rows, or columns, [start, stop) of a weight as its graph has it: rows in C order, columns in any.

        Raises:
            BundleError: it cannot be read.
        """

    def table(self, start: int, stop: int) -> Halves:
        """Return rows [start, stop) of the table of input embeddings.

        Raises:
            BundleError: they cannot be read, or FP16 cannot hold them.
        """

    def deliver(self, file: str, target: Path | None) -> Future[FileRecord]:
        """Write a large file in another thread, and return its size and digest; without a target only those.

        Raises:
            BundleError: by way of the future: its numbers cannot be read, or are none.
        """


class ExportWorkshop(Protocol):
    """What makes a float32 bundle of a checkpoint: the entry point `export`."""

    def export(
        self, checkpoint: Path, output: Path, *, adapter: Path | None, name: str | None, check: bool, progress: bool
    ) -> object:
        """Write the bundle of a checkpoint."""

    def stream(
        self, checkpoint: Path, folder: Path, *, adapter: Path | None, name: str | None
    ) -> AbstractContextManager[Float32Source]:
        """Open a checkpoint as a bundle, its small files written to an empty folder."""


class QuantizeWorkshop(Protocol):
    """What makes variants by recipes: the entry point `quantize`."""

    def require(self, recipe: str, calibration: Sequence[Waveform], *, keeps_float32: bool) -> None:
        """Raise unless there is such a recipe, and calibration audio where it needs some, and there alone."""

    def add(
        self, bundle: Path, recipe: str, *, progress: bool, threads: int | None, calibration: Sequence[Waveform]
    ) -> None:
        """Add a variant to a bundle, as its first one."""

    def make(self, output: Path, source: Float32Source, recipe: str, *, progress: bool, threads: int | None) -> None:
        """Fill an empty directory with the bundle of one variant."""

    def check(self, bundle: Path, source: Float32Source, recipe: str, *, threads: int | None) -> None:
        """Raise unless the variant of a bundle computes what the source means, up to rounding, and answers a clip."""


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
        check: compare the float32 graphs with transformers as `export` does, which needs torch, and room for them. The
            variant is compared with numpy in any case, and must answer a clip.
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
    with import_errors_named("making a variant", REMEDY):
        export = cast(ExportWorkshop, _workshop("export"))
        quantize = cast(QuantizeWorkshop, _workshop("quantize"))
        if check and adapter is not None:
            raise OptionsError(f"{adapter}: transformers cannot be asked about a merged adapter; leave out the check")
        quantize.require(recipe, calibration, keeps_float32=keep_float32)
        with (
            atomic_directory(output, overwrite=overwrite) as partial,
            workplace(output.parent, output.name) as place,
            export.stream(checkpoint, _empty(place.partial / "small"), adapter=adapter, name=name) as source,
        ):
            # What is compared with transformers are float32 graphs with their weights in files.
            float32 = partial if keep_float32 else place.partial / "float32"
            if keep_float32 or check:
                export.export(checkpoint, float32, adapter=adapter, name=name, check=check, progress=progress)
            if keep_float32:
                quantize.add(partial, recipe, progress=progress, threads=threads, calibration=calibration)
            else:
                if check:
                    shutil.rmtree(float32)
                quantize.make(partial, source, recipe, progress=progress, threads=threads)
            quantize.check(partial, source, recipe, threads=threads)
    return Bundle.open(output)


def check_recipe(recipe: str, calibration: Sequence[Waveform] = (), *, keeps_float32: bool = False) -> None:
    """Refuse now what `make_variant` would, perhaps after a long download.

    Raises:
        OptionsError: no such recipe, or one that needs other options.
        MissingExtra: a workshop, or a package that it needs, is not installed.
    """
    with import_errors_named("making a variant", REMEDY):
        _workshop("export")
        cast(QuantizeWorkshop, _workshop("quantize")).require(recipe, calibration, keeps_float32=keeps_float32)


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _workshop(name: str) -> object:
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    raise MissingExtra(f"making variants needs the workshop {name!r}, which is not installed: {REMEDY}")
