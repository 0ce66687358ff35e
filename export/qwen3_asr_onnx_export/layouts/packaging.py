"""A checkpoint or a bundle -> a folder in another program's layout, which appears when all of it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.leftovers import workplace
from qwen3_asr_onnx.bundle.manifest import FORMAT_NAME, MANIFEST_FILE
from qwen3_asr_onnx.bundle.workshops import make_variant
from qwen3_asr_onnx.bundle.writing import atomic_directory, require_space
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_export.streamed import streamed_bundle
from qwen3_asr_onnx_export.tensor_index import read_json

from .sherpa import write_sherpa
from .source import LayoutSource
from .split import write_split
from .weight_files import LayoutFiles
from .wyoming import write_wyoming

__all__ = ["LAYOUTS", "write_layout"]

LAYOUTS: dict[str, Callable[[LayoutSource, LayoutFiles], None]] = {
    "sherpa": write_sherpa,
    "wyoming": write_wyoming,
    "split": write_split,
}

FLOAT32 = "fp32"
"""What a checkpoint is without a recipe."""

GRAPH_ALLOWANCE_BYTES = 64 << 20
"""Room for graphs and tokenizer in the disk-space check."""


def write_layout(
    origin: Path,
    output: Path,
    layout: str,
    *,
    variant: str | None = None,
    half_logits: bool = False,
    inline: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> None:
    """Make a folder of files that another program loads.

    Args:
        origin: a bundle, or a checkpoint in the original or the transformers-native layout.
        output: the directory to create.
        layout: one of `LAYOUTS`.
        variant: of a bundle one of its variants, its first if None; of a checkpoint "fp32", which None is too, or a
            recipe by name or file, which makes the variant in a temporary folder beside the output.
        half_logits: let the decoder give logits in float16, where the layout's programs take that.
        inline: have the weights inside the graphs, not beside them.
        overwrite: replace `output` if it exists.
        progress: show progress bars of what is made for it, where stderr is a terminal.

    Raises:
        BundleError: `origin` is not usable, or `output` is occupied.
        OptionsError: the layout cannot express the variant, or one of the options.
        LimitError: not enough disk space.
        MissingExtra: something must be traced or quantized, and a package for it is not installed.
    """
    write = LAYOUTS[layout]
    if half_logits:
        if layout != "sherpa":
            raise OptionsError(f"programs that load layout {layout!r} want logits in float32; leave out --fp16-logits")
        write = partial(write_sherpa, half_logits=True)
    with (
        atomic_directory(output, overwrite=overwrite) as folder,
        _source(origin, output, variant, progress) as source,
    ):
        needed = sum(source.bundle.manifest.files[name].size for name in source.variant.files)
        require_space(output, needed + GRAPH_ALLOWANCE_BYTES, "the layout", "choose another disk")
        write(source, LayoutFiles(folder, source, inline=inline))


@contextlib.contextmanager
def _source(origin: Path, output: Path, variant: str | None, progress: bool) -> Iterator[LayoutSource]:
    """Open what a layout is made of."""
    if read_json(origin / MANIFEST_FILE, required=False).get("format") == FORMAT_NAME:
        yield LayoutSource.of_bundle(Bundle.open(origin), variant)
        return
    with workplace(output.parent, output.name) as place:
        folder = place.partial
        if variant not in (None, FLOAT32):
            make_variant(origin, folder / "bundle", str(variant), progress=progress)
            yield LayoutSource.of_bundle(Bundle.open(folder / "bundle"), None)
            return
        with streamed_bundle(origin, folder) as streamed:
            source = LayoutSource(streamed.bundle, FLOAT32, streamed)
            source.require_expressible()
            yield source
