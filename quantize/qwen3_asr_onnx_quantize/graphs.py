"""Recipe + source graph -> the variant's graph, its weights pending: which pass runs on what, and in what order."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassManager

from qwen3_asr_onnx.errors import OptionsError

from .passes.dynamic_per_tensor import DynamicPerTensorPass
from .passes.dynamic_per_token import DynamicPerTokenPass
from .passes.expose_hidden import ExposeHiddenPass
from .passes.half_convolutions import HalfConvolutionsPass
from .passes.half_graph import HalfGraphPass
from .passes.integer_convolutions import IntegerConvolutionsPass
from .passes.products import Choose, constant_products
from .passes.rotate_encoder import RotateEncoderPass
from .passes.rotate_residual import ROTATION, RotateResidualPass
from .passes.smooth import SmoothPass
from .passes.weight_only import WeightOnlyPass
from .recipes.recipe import Half, Keep, Part, Stem

__all__ = ["HEAD", "quantized_decoder", "quantized_encoder"]

HEAD = "lm_head.weight"
"""The checkpoint's name, and so the graph's, for the projection to the vocabulary."""


def quantized_encoder(path: Path, part: Part, stem: Stem, *, rotation: bool = False) -> ir.Model:
    """Return the encoder graph at `path` under one scheme for its products and one for its convolutions.

    Args:
        path: the source's graph.
        part: scheme of the products.
        stem: scheme of the convolutions.
        rotation: turn the residual stream first.

    Raises:
        OptionsError: an exclusion matches no weight.
    """
    first = [RotateEncoderPass()] if rotation else []
    model = _quantized(path, lambda _: part, [("[encoder]", part, lambda _: True)], first=first)
    if isinstance(part, Half):
        HalfGraphPass()(model)
    elif stem.scheme != "fp32":
        if stem.scheme == "w8a8":
            IntegerConvolutionsPass(reduce_range=stem.reduce_range)(model)
        HalfConvolutionsPass()(model)
    return model


def quantized_decoder(
    path: Path,
    layers: Part,
    head: Part,
    *,
    table: str,
    rotation: bool = False,
    smoothing: bool = False,
    rescoring: bool = False,
) -> ir.Model:
    """Return the decoder graph at `path` under one scheme for its layers and one for its head.

    Args:
        path: the source's graph.
        layers: scheme of the layers.
        head: scheme of the head.
        table: the recipe's table that gave the scheme of the layers, for errors.
        rotation: turn the residual stream first.
        smoothing: even out the channels between two products before that.
        rescoring: add the final hidden state to the outputs.

    Raises:
        OptionsError: an exclusion matches no weight.
    """
    first: list[InPlacePass] = [
        *([SmoothPass()] if smoothing else []),
        *([RotateResidualPass()] if rotation else []),
        *([ExposeHiddenPass(HEAD)] if rescoring else []),
    ]
    model = _quantized(
        path,
        lambda name: head if name == HEAD else layers,
        [(table, layers, lambda name: name != HEAD), ("[head]", head, lambda name: name == HEAD)],
        first=first,
    )
    if isinstance(layers, Half):
        HalfGraphPass()(model)
    return model


def _quantized(
    path: Path, part_of: Choose, tables: list[tuple[str, Part, Callable[[str], bool]]], *, first: Sequence[InPlacePass]
) -> ir.Model:
    model = ir.load(path)
    names = [str(weight.name) for _, weight, _ in constant_products(model)]
    excluded: set[str] = set()
    for table, part, covers in tables:
        excluded |= _excluded(table, part, [name for name in names if covers(name)])

    def choose(name: str) -> Part:
        return Keep() if name in excluded or name == ROTATION else part_of(name)

    passes = [DynamicPerTokenPass(choose), DynamicPerTensorPass(choose), WeightOnlyPass(choose)]
    PassManager([*first, *passes])(model)
    return model


def _excluded(table: str, part: Part, names: list[str]) -> set[str]:
    """Return the names that a part's patterns exclude; each pattern must exclude something."""
    if isinstance(part, Keep | Half):
        return set()
    found: set[str] = set()
    for pattern in part.exclude:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise OptionsError(f"{table}: exclude pattern {pattern!r} matches no weight; they are like {names[0]!r}")
        found.update(matches)
    return found
