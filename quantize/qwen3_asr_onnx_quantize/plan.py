"""Bundle + recipe -> what has to be made for the variant, and what is there already under another variant's name.

A part that the recipe leaves in float32 is the source's files by name; a part that another variant was given by the
same scheme from the same source is that variant's files by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_INT8_FILE, Variant
from qwen3_asr_onnx.errors import BundleError, OptionsError

from .calibration.attach import calibration_record
from .graphs import quantized_decoder, quantized_encoder
from .recipes.recipe import DECODER_SWITCHES, Keep, Recipe
from .weights.derived import DerivedTensor
from .weights.embedding_table import int8_table_bytes
from .weights.files import stored_bytes
from .weights.pending import PendingTensor

__all__ = ["QUANTIZER", "Graph", "Plan", "float32_source", "plan_variant", "verify"]

QUANTIZER = 1
"""Version of the arithmetic, to be raised when a recipe gives new bytes: parts made by another one are not shared."""


RESCORED = 8
"""Tokens per position that the runtime scores anew where the recipe asks for it."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph to write: under which names, and the file for those of its weights that are new."""

    model: ir.Model
    names: tuple[str, ...]
    weights: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make and what to take.

    Attributes:
        variant: the new variant, still without weight files of graphs that are to be made.
        graphs: the graphs to make, in order.
        shared: pairs of a graph with pending weights and the bundle's finished graph like it: what they have in common
            with a graph that is made is not stored again.
        table: file name of the embedding table to make the variant's from; None where that one is there already.
    """

    variant: Variant
    graphs: tuple[Graph, ...]
    shared: tuple[tuple[ir.Model, Path], ...]
    table: str | None

    @property
    def models(self) -> list[ir.Model]:
        """The graphs to make, without their names."""
        return [graph.model for graph in self.graphs]

    @property
    def new_files(self) -> set[str]:
        """The names of all files to write."""
        graphs = {file for graph in self.graphs for file in (*graph.names, graph.weights)}
        return graphs | ({self.variant.embeddings} if self.table else set())

    def inputs(self, bundle: Bundle) -> list[str]:
        """Return the weight files of the bundle that the new files are computed from."""
        tensors = [value.const_value for model in self.models for value in model.graph.initializers.values()]
        sources = [tensor.job.source if isinstance(tensor, PendingTensor) else tensor for tensor in tensors]
        sources = [source.source if isinstance(source, DerivedTensor) else source for source in sources]
        names = {str(source.location) for source in sources if isinstance(source, ir.ExternalTensor)}
        return [name for name in bundle.manifest.files if name in names or name == self.table]

    def stored_bytes(self, bundle: Bundle) -> int:
        """Return the bytes that the new weights will take, padding aside."""
        dims = bundle.manifest.decoder
        return stored_bytes(self.models) + (int8_table_bytes(dims.vocab_size, dims.hidden) if self.table else 0)


def float32_source(bundle: Bundle) -> Variant:
    """Return the float32 variant, its files known to be there."""
    for name, variant in bundle.manifest.variants.items():
        if variant.recipe.get("scheme") == "fp32":
            bundle.variant(name)
            verify(bundle, (variant.encoder, variant.decoder_init, variant.decoder_step))
            return variant
    names = ", ".join(bundle.manifest.variants) or "none"
    raise BundleError(
        f"{bundle.path}: no float32 variant to quantise from (it has: {names}); quantising twice only adds errors, "
        "so export the checkpoint again"
    )


def plan_variant(
    bundle: Bundle,
    source: Variant,
    recipe: Recipe,
    others: Mapping[str, Variant],
    calibration: Sequence[Waveform] = (),
) -> Plan:
    """Return what has to be made.

    Args:
        bundle: the bundle.
        source: its float32 variant.
        recipe: what the variant shall be.
        others: variants of the bundle whose files it may share.
        calibration: the waveforms that a calibrated recipe listens to.

    Raises:
        OptionsError: an exclusion of the recipe matches no weight.
        BundleError: a file that would be shared is damaged.
    """
    if recipe.rescoring and not bundle.manifest.source.get("tied_head"):
        raise OptionsError(
            f"{bundle.path}: this model's head is not its embedding table, so rescoring would be wrong; "
            "set rescoring = false in the recipe"
        )
    record = {"scheme": "quantized", "quantizer": QUANTIZER, **recipe.to_dict(), "inputs": _digests(bundle, source)}
    if recipe.calibrated:
        record["calibration"] = calibration_record(calibration)
    encoder, graphs = _plan_encoder(
        bundle, source, recipe, _twin(others, record, "encoder", "stem", "encoder_rotation")
    )
    init, step, decoders, shared = _plan_decoder(bundle, source, recipe, others, record)
    graphs += decoders
    made = {name for graph in graphs for name in graph.names}
    taken = [name for name in dict.fromkeys((encoder, init, step)) if name not in made]
    verify(bundle, taken)
    int8_table = recipe.embedding.scheme == "int8"
    make_table = int8_table and _twin(others, record, "embedding") is None
    return Plan(
        Variant(
            encoder,
            init,
            step,
            weights=tuple(dict.fromkeys(file for name in taken for file in _weights_of(bundle.require(name)))),
            recipe=record,
            devices=("cuda",) if recipe.half else source.devices,
            cache_dtype="float16" if recipe.half else source.cache_dtype,
            rescored=RESCORED if recipe.rescoring else 0,
            mapped=tuple(name for name in taken if name in source.mapped),
            embeddings=EMBEDDINGS_INT8_FILE if int8_table else source.embeddings,
        ),
        tuple(graphs),
        tuple(shared),
        source.embeddings if make_table else None,
    )


def _plan_encoder(bundle: Bundle, source: Variant, recipe: Recipe, twin: Variant | None) -> tuple[str, list[Graph]]:
    """Return the name of the encoder graph, and the graph if it has to be made."""
    if isinstance(recipe.encoder, Keep) and recipe.stem.scheme == "fp32" and not recipe.encoder_rotation:
        return source.encoder, []
    if twin is not None:
        return twin.encoder, []
    name = f"encoder.{recipe.name}.onnx"
    model = quantized_encoder(
        bundle.path / source.encoder, recipe.encoder, recipe.stem, rotation=recipe.encoder_rotation
    )
    return name, [Graph(model, (name,), f"encoder.{recipe.name}.data")]


def _plan_decoder(
    bundle: Bundle, source: Variant, recipe: Recipe, others: Mapping[str, Variant], record: Mapping[str, Any]
) -> tuple[str, str, list[Graph], list[tuple[ir.Model, Path]]]:
    """Return the names of the prefill and step graphs, those that have to be made, and what they share with others."""
    if source.decoder_init == source.decoder_step:
        name, made = _plan_aligner(bundle, source, recipe, _twin(others, record, "init", "head", *DECODER_SWITCHES))
        return name, name, made, []
    untouched = all(isinstance(part, Keep) for part in (recipe.init, recipe.step, recipe.head))
    if untouched and not recipe.rotation and not recipe.rescoring:
        return source.decoder_init, source.decoder_step, [], []
    digests = bundle.manifest.files
    switches = {key: getattr(recipe, key) for key in DECODER_SWITCHES}
    alike = recipe.init == recipe.step and digests[source.decoder_init].sha256 == digests[source.decoder_step].sha256
    init, step = f"decoder_init.{recipe.name}.onnx", f"decoder_step.{recipe.name}.onnx"
    weights = f"decoder_weights.{recipe.name}.data"
    graphs: list[Graph] = []
    shared: list[tuple[ir.Model, Path]] = []
    step_model = quantized_decoder(
        bundle.path / source.decoder_step, recipe.step, recipe.head, table="[step]", **switches
    )
    step_twin, init_twin = (_twin(others, record, part, "head", *DECODER_SWITCHES) for part in ("step", "init"))
    if step_twin is not None:
        step = step_twin.decoder_step
        shared.append((step_model, bundle.require(step)))
    else:
        # One graph under both names: the runtime sees equal digests and opens one session.
        graphs.append(Graph(step_model, (init, step) if alike else (step,), weights))
    if alike:
        return (step if step_twin is not None else init), step, graphs, shared
    if init_twin is not None:
        return init_twin.decoder_init, step, graphs, shared
    init_model = quantized_decoder(
        bundle.path / source.decoder_init, recipe.init, recipe.head, table="[init]", **switches
    )
    graphs.append(Graph(init_model, (init,), f"decoder_init_weights.{recipe.name}.data"))
    return init, step, graphs, shared


def _plan_aligner(bundle: Bundle, source: Variant, recipe: Recipe, twin: Variant | None) -> tuple[str, list[Graph]]:
    """Return the name of the only decoder graph of an aligner, and the graph if it has to be made."""
    if not recipe.rotation and all(isinstance(part, Keep) for part in (recipe.init, recipe.head)):
        return source.decoder_init, []
    if twin is not None:
        return twin.decoder_init, []
    name = f"decoder_init.{recipe.name}.onnx"
    switches = {key: getattr(recipe, key) for key in DECODER_SWITCHES}
    model = quantized_decoder(bundle.path / source.decoder_init, recipe.init, recipe.head, table="[init]", **switches)
    return name, [Graph(model, (name,), f"decoder_weights.{recipe.name}.data")]


def verify(bundle: Bundle, names: Iterable[str], progress: Callable[[int], object] | None = None) -> None:
    """Raise unless the files are what the manifest says: the variant's record of its inputs would lie."""
    for name in names:
        if file_record(bundle.require(name), progress) != bundle.manifest.files[name]:
            raise BundleError(f"{bundle.path / name}: damaged or edited since it was exported; export the bundle again")


def _digests(bundle: Bundle, source: Variant) -> dict[str, str]:
    """Return the sha256 of every file the source reads, as its manifest states them."""
    return {name: bundle.manifest.files[name].sha256 for name in dict.fromkeys(source.files)}


def _twin(others: Mapping[str, Variant], record: Mapping[str, Any], *parts: str) -> Variant | None:
    """Return a variant that was given the same schemes for these parts, from the same files by the same arithmetic."""
    keys = ("scheme", "quantizer", "inputs", *parts)
    if any(record[part].get("calibration", "none") != "none" for part in parts if isinstance(record[part], dict)):
        keys = (*keys, "calibration")
    for other in others.values():
        if all(other.recipe.get(key) == record[key] for key in keys):
            return other
    return None


def _weights_of(graph: Path) -> list[str]:
    """Return the external files that a graph of the bundle reads."""
    tensors = [value.const_value for value in ir.load(graph).graph.initializers.values()]
    return sorted({str(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)})
