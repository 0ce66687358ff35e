"""Plan + bundle -> the graphs to write, their weights pending: which pass runs on what, and in what order."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassManager

from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import Variant
from qwen3_asr_onnx.bundle.names import HEAD
from qwen3_asr_onnx.bundle.workshops import Float32Source
from qwen3_asr_onnx.errors import BundleError, OptionsError

from .passes.expose_hidden import ExposeHiddenPass
from .passes.rotate_encoder import RotateEncoderPass
from .passes.rotate_residual import ROTATION, RotateResidualPass
from .passes.smooth import SmoothPass
from .plan import Plan
from .recipes.recipe import Recipe
from .schemes import SCHEMES, Keep, Scheme
from .schemes.embedding import int8_table_bytes
from .schemes.products import constant_products
from .weights.derived import DerivedTensor
from .weights.files import stored_bytes
from .weights.pending import PendingTensor
from .weights.sources import stream

__all__ = ["Draft", "draft", "quantized_decoder", "quantized_encoder", "verify"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan with its graphs built: all but the numbers.

    Attributes:
        plan: what was planned.
        models: the graph of each entry of `plan.graphs`.
        shared: a graph with pending weights and the bundle's finished graph like it: what they have in common with a
            graph that is made is not stored again.
        weights: the weight files of graphs that are there already.
    """

    plan: Plan
    models: tuple[ir.Model, ...]
    shared: tuple[ir.Model, Path] | None
    weights: tuple[str, ...]

    def inputs(self, bundle: Bundle) -> list[str]:
        """Return the weight files of the bundle that the new files are computed from."""
        tensors = [value.const_value for model in self.models for value in model.graph.initializers.values()]
        sources = [tensor.job.source if isinstance(tensor, PendingTensor) else tensor for tensor in tensors]
        sources = [source.source if isinstance(source, DerivedTensor) else source for source in sources]
        names = {str(source.location) for source in sources if isinstance(source, ir.ExternalTensor)}
        return [name for name in bundle.manifest.files if name in names or name == self.plan.table]

    def stored_bytes(self, bundle: Bundle) -> int:
        """Return the bytes that the new weights will take, padding aside."""
        dims = bundle.manifest.decoder
        table = int8_table_bytes(dims.vocab_size, dims.hidden) if self.plan.table else 0
        return stored_bytes(self.models) + table


def draft(bundle: Bundle, source: Variant, recipe: Recipe, plan: Plan, streamed: Float32Source | None = None) -> Draft:
    """Build every graph of a plan, once.

    Args:
        bundle: the bundle.
        source: its float32 variant.
        recipe: what the variant shall be.
        plan: what was planned for it.
        streamed: where the weights come from if they are not in the bundle's files.

    Raises:
        OptionsError: an exclusion of the recipe matches no weight.
        BundleError: a file that would be shared is damaged.
    """

    def loaded(name: str) -> ir.Model:
        model = ir.load(bundle.path / name)
        if streamed is not None:
            stream(model, streamed)
        return model

    def built(part: str) -> ir.Model:
        if part == "encoder":
            return quantized_encoder(loaded(source.encoder), recipe)
        if part == "init":
            return quantized_decoder(loaded(source.decoder_init), recipe, recipe.init, "[init]")
        return quantized_decoder(loaded(source.decoder_step), recipe, recipe.step, "[step]")

    verify(bundle, plan.taken)
    models = tuple(built(graph.part) for graph in plan.graphs)
    shared = None
    if plan.shared is not None:
        like = loaded(plan.shared) if plan.shared == source.decoder_init else built("step")
        shared = (like, bundle.require(plan.shared))
    weights = dict.fromkeys(file for name in plan.taken for file in _weights_of(bundle.require(name)))
    return Draft(plan, models, shared, tuple(weights))


def verify(bundle: Bundle, names: Iterable[str], progress: Callable[[int], object] | None = None) -> None:
    """Raise unless the files are what the manifest says: the variant's record of its inputs would lie."""
    for name in names:
        if file_record(bundle.require(name), progress) != bundle.manifest.files[name]:
            raise BundleError(f"{bundle.path / name}: damaged or edited since it was exported; export the bundle again")


def _weights_of(graph: Path) -> list[str]:
    """Return the external files that a graph of the bundle reads."""
    tensors = [value.const_value for value in ir.load(graph).graph.initializers.values()]
    return sorted({str(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)})


def quantized_encoder(model: ir.Model, recipe: Recipe) -> ir.Model:
    """Return a float32 encoder graph, changed in place, under the schemes for its products and its convolutions.

    Raises:
        OptionsError: an exclusion matches no weight.
    """
    part = recipe.encoder
    first = [RotateEncoderPass()] if recipe.encoder_rotation else []
    last = () if part.whole_graph else recipe.stem.passes()
    return _quantized(model, {"[encoder]": part}, lambda _: "[encoder]", first, last)


def quantized_decoder(model: ir.Model, recipe: Recipe, layers: Scheme, table: str) -> ir.Model:
    """Return a float32 decoder graph under one scheme for its layers and the recipe's for its head.

    Args:
        model: the source's graph, changed in place.
        recipe: what comes first, and the scheme of the head.
        layers: scheme of the layers.
        table: the recipe's table that gave the scheme of the layers, for errors.

    Raises:
        OptionsError: an exclusion matches no weight.
    """
    first: list[InPlacePass] = [
        *([SmoothPass()] if recipe.smoothing else []),
        *([RotateResidualPass()] if recipe.rotation else []),
        *([ExposeHiddenPass(HEAD)] if recipe.rescoring and not (recipe.verified and table == "[step]") else []),
    ]
    schemes = {table: layers, "[head]": recipe.head}
    return _quantized(model, schemes, lambda name: "[head]" if name == HEAD else table, first)


def _quantized(
    model: ir.Model,
    schemes: dict[str, Scheme],
    table_of: Callable[[str], str],
    first: Sequence[InPlacePass],
    last: Sequence[InPlacePass] = (),
) -> ir.Model:
    """Return a graph after some passes, those of its schemes, by table of the recipe, and some more."""
    names = [str(weight.name) for _, weight, _ in constant_products(model)]
    kept = {ROTATION}
    for table, scheme in schemes.items():
        kept |= _excluded(table, scheme, [name for name in names if table_of(name) == table])

    def choose(name: str) -> Scheme:
        return Keep() if name in kept else schemes[table_of(name)]

    kinds = {type(scheme) for scheme in schemes.values()}
    passes = [one for kind in dict.fromkeys(reversed(SCHEMES.values())) if kind in kinds for one in kind.passes(choose)]
    PassManager([*first, *passes, *last])(model)
    return model


def _excluded(table: str, scheme: Scheme, names: list[str]) -> set[str]:
    """Return the names that a scheme's patterns exclude; each pattern must exclude something."""
    found: set[str] = set()
    for pattern in scheme.exclude:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            raise OptionsError(f"{table}: exclude pattern {pattern!r} matches no weight; they are like {names[0]!r}")
        found.update(matches)
    return found
