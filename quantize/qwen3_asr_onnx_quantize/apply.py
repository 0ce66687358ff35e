"""Bundle + recipe -> the same bundle with one more variant.

A part that the recipe leaves in float32 is the source's files by name; a part that another variant was given by the
same scheme from the same source is that variant's files by name. Only what is new is computed and stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qwen3_asr_onnx.bundle import Bundle, FileRecord, Manifest, Variant, file_record
from qwen3_asr_onnx.console import progress_bar
from qwen3_asr_onnx.errors import BundleError, LimitError

from .pending import PendingTensor
from .recipe import Keep, Recipe
from .rotation import RotatedTensor
from .scheme import quantized_decoder, quantized_encoder
from .staging import publish, staging_directory
from .weight_file import WeightFiles, source_bytes, stored_bytes

__all__ = ["QUANTIZER", "quantize_bundle"]

QUANTIZER = 1
"""Version of the arithmetic, to be raised when a recipe gives new bytes: parts made by another one are not shared."""

GRAPH_ALLOWANCE_BYTES = 32 << 20
"""Room for graphs and manifest in the disk-space check."""


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph to write: under which names, and the file for those of its weights that are new."""

    model: ir.Model
    names: tuple[str, ...]
    weights: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to make and what to take.

    Attributes:
        variant: the new variant, still without weight files of graphs that are to be made.
        graphs: the graphs to make, in order.
        shared: pairs of a graph with pending weights and the bundle's finished graph like it: what they have in common
            with a graph that is made is not stored again.
    """

    variant: Variant
    graphs: tuple[_Graph, ...]
    shared: tuple[tuple[ir.Model, Path], ...]


def quantize_bundle(
    path: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    default: bool = False,
    progress: bool = False,
    threads: int | None = None,
) -> Bundle:
    """Add a variant to a bundle.

    Args:
        path: a bundle with a float32 variant.
        recipe: what to do; its name is the variant's.
        force: replace the variant if it exists.
        default: put the variant first: the one a `Transcriber` takes when none is named. A new variant is otherwise
            put last, and one that is replaced keeps its place.
        progress: show a progress bar if stderr is a terminal.
        threads: cores to use; None for all.

    Returns:
        The bundle with its new manifest.

    Raises:
        BundleError: no such bundle, nothing to quantise from, the variant exists, or a weight is not a finite number.
        OptionsError: an exclusion of the recipe matches no weight.
        LimitError: not enough disk space.
    """
    bundle = Bundle.open(path)
    source = _source(bundle)
    if recipe.name in bundle.manifest.variants and not force:
        raise BundleError(f"{path}: variant {recipe.name!r} exists; pass --force to replace it")
    plan = _plan(bundle, source, recipe)
    _refuse_files_of_others(bundle, recipe.name, plan)
    models = [graph.model for graph in plan.graphs]
    _require_space(path, stored_bytes(models))
    inputs = _inputs(bundle, plan)
    total = source_bytes(models) + sum(bundle.manifest.files[name].size for name in inputs)
    with (
        progress_bar(total=total, unit="B", scale=True, quiet=not progress) as bar,
        staging_directory(path, recipe.name) as staged,
    ):
        _verify(bundle, inputs, bar.update)
        variant, records = _write(plan, WeightFiles(staged, bar.update, threads))
        return publish(path, staged, lambda manifest: _changed(manifest, recipe.name, variant, records, default))


def _source(bundle: Bundle) -> Variant:
    """Return the float32 variant, its files known to be there."""
    for name, variant in bundle.manifest.variants.items():
        if variant.recipe.get("scheme") == "fp32":
            bundle.variant(name)
            _verify(bundle, (variant.encoder, variant.decoder_init, variant.decoder_step))
            return variant
    names = ", ".join(bundle.manifest.variants) or "none"
    raise BundleError(
        f"{bundle.path}: no float32 variant to quantise from (it has: {names}); quantising twice only adds errors, "
        "so export the checkpoint again"
    )


def _plan(bundle: Bundle, source: Variant, recipe: Recipe) -> _Plan:
    record = {"scheme": "quantized", "quantizer": QUANTIZER, **recipe.to_dict(), "inputs": _digests(bundle, source)}
    others = {name: other for name, other in bundle.manifest.variants.items() if name != recipe.name}
    encoder, graphs = _plan_encoder(bundle, source, recipe, _twin(others, record, "encoder", "stem"))
    init, step, decoders, shared = _plan_decoder(bundle, source, recipe, others, record)
    graphs += decoders
    made = {name for graph in graphs for name in graph.names}
    taken = [name for name in dict.fromkeys((encoder, init, step)) if name not in made]
    _verify(bundle, taken)
    return _Plan(
        Variant(
            encoder,
            init,
            step,
            weights=tuple(dict.fromkeys(file for name in taken for file in _weights_of(bundle.require(name)))),
            recipe=record,
            devices=source.devices,
            mapped=tuple(name for name in taken if name in source.mapped),
        ),
        tuple(graphs),
        tuple(shared),
    )


def _plan_encoder(bundle: Bundle, source: Variant, recipe: Recipe, twin: Variant | None) -> tuple[str, list[_Graph]]:
    """Return the name of the encoder graph, and the graph if it has to be made."""
    if isinstance(recipe.encoder, Keep) and recipe.stem.scheme == "fp32":
        return source.encoder, []
    if twin is not None:
        return twin.encoder, []
    name = f"encoder.{recipe.name}.onnx"
    model = quantized_encoder(bundle.path / source.encoder, recipe.encoder, recipe.stem)
    return name, [_Graph(model, (name,), f"encoder.{recipe.name}.data")]


def _plan_decoder(
    bundle: Bundle, source: Variant, recipe: Recipe, others: Mapping[str, Variant], record: Mapping[str, Any]
) -> tuple[str, str, list[_Graph], list[tuple[ir.Model, Path]]]:
    """Return the names of the prefill and step graphs, those that have to be made, and what they share with others."""
    if not recipe.rotation and all(isinstance(part, Keep) for part in (recipe.init, recipe.step, recipe.head)):
        return source.decoder_init, source.decoder_step, [], []
    digests = bundle.manifest.files
    alike = recipe.init == recipe.step and digests[source.decoder_init].sha256 == digests[source.decoder_step].sha256
    init, step = f"decoder_init.{recipe.name}.onnx", f"decoder_step.{recipe.name}.onnx"
    weights = f"decoder_weights.{recipe.name}.data"
    graphs: list[_Graph] = []
    shared: list[tuple[ir.Model, Path]] = []
    step_model = quantized_decoder(
        bundle.path / source.decoder_step, recipe.step, recipe.head, table="[step]", rotation=recipe.rotation
    )
    step_twin, init_twin = (_twin(others, record, part, "head", "rotation") for part in ("step", "init"))
    if step_twin is not None:
        step = step_twin.decoder_step
        shared.append((step_model, bundle.require(step)))
    else:
        # One graph under both names: the runtime sees equal digests and opens one session.
        graphs.append(_Graph(step_model, (init, step) if alike else (step,), weights))
    if alike:
        return (step if step_twin is not None else init), step, graphs, shared
    if init_twin is not None:
        return init_twin.decoder_init, step, graphs, shared
    init_model = quantized_decoder(
        bundle.path / source.decoder_init, recipe.init, recipe.head, table="[init]", rotation=recipe.rotation
    )
    graphs.append(_Graph(init_model, (init,), f"decoder_init_weights.{recipe.name}.data"))
    return init, step, graphs, shared


def _inputs(bundle: Bundle, plan: _Plan) -> list[str]:
    """Return the weight files that the graphs to be made are computed from."""
    tensors = [value.const_value for graph in plan.graphs for value in graph.model.graph.initializers.values()]
    sources = [tensor.job.source if isinstance(tensor, PendingTensor) else tensor for tensor in tensors]
    sources = [source.base if isinstance(source, RotatedTensor) else source for source in sources]
    names = {str(source.location) for source in sources if isinstance(source, ir.ExternalTensor)}
    return [name for name in bundle.manifest.files if name in names]


def _verify(bundle: Bundle, names: Iterable[str], progress: Callable[[int], object] | None = None) -> None:
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
    for other in others.values():
        if all(other.recipe.get(key) == record[key] for key in keys):
            return other
    return None


def _weights_of(graph: Path) -> list[str]:
    """Return the external files that a graph of the bundle reads."""
    tensors = [value.const_value for value in ir.load(graph).graph.initializers.values()]
    return sorted({str(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)})


def _refuse_files_of_others(bundle: Bundle, name: str, plan: _Plan) -> None:
    """Raise when a file to be written belongs to another variant as well: that variant would change unasked."""
    new = {file for graph in plan.graphs for file in (*graph.names, graph.weights)}
    for other, variant in bundle.manifest.variants.items():
        shared = new.intersection(variant.files)
        if other != name and shared:
            raise BundleError(
                f"{bundle.path}: {min(shared)} is shared with variant {other!r}, which a new {name!r} would change; "
                "give the recipe another name"
            )


def _require_space(path: Path, n_bytes: int) -> None:
    needed = n_bytes + GRAPH_ALLOWANCE_BYTES
    free = shutil.disk_usage(path).free
    if free < needed:
        raise LimitError(
            f"{path}: {free / 1e9:.1f} GB free, the variant needs {needed / 1e9:.1f} GB; "
            "free some space or move the bundle to another disk"
        )


def _write(plan: _Plan, files: WeightFiles) -> tuple[Variant, dict[str, FileRecord]]:
    """Write weights and graphs, and return the variant with all its weight files."""
    weights = dict.fromkeys(plan.variant.weights)
    records: dict[str, FileRecord] = {}
    for model, finished in plan.shared:
        files.adopt(model, ir.load(finished).graph)
    for graph in plan.graphs:
        weights |= dict.fromkeys(files.add(graph.model, graph.weights))
        for name in graph.names:
            ir.save(graph.model, files.directory / name)
            records[name] = file_record(files.directory / name)
    return replace(plan.variant, weights=tuple(weights)), records | files.records


def _changed(
    manifest: Manifest, name: str, variant: Variant, records: Mapping[str, FileRecord], default: bool
) -> Manifest:
    """Return the manifest with the variant in it, and without files that only its predecessor used."""
    variants = {**manifest.variants, name: variant}
    if default:
        variants = {name: variant, **variants}
    before = {file for old in manifest.variants.values() for file in old.files}
    after = {file for new in variants.values() for file in new.files}
    files = {**manifest.files, **records}
    kept = {file: files[file] for file in sorted(files) if file not in before - after}
    return replace(manifest, variants=variants, files=kept)
