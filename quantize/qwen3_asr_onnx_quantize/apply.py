"""Bundle + recipe -> the same bundle with one more variant.

A part that the recipe leaves in float32 is the source's files by name; a part that another variant was given by the
same scheme from the same source is that variant's files by name. Only what is new is computed and stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from qwen3_asr_onnx.bundle import Bundle, FileRecord, Manifest, Variant, file_record
from qwen3_asr_onnx.console import progress_bar
from qwen3_asr_onnx.errors import BundleError, LimitError

from .recipe import Keep, Recipe
from .scheme import quantized_decoder, quantized_encoder
from .staging import publish, staging_directory
from .weight_file import WeightFiles, source_bytes, stored_bytes

__all__ = ["QUANTIZER", "quantize_bundle"]

QUANTIZER = 1
"""Version of the arithmetic: a variant made by another one is not reused. Raise it when the same recipe gives new bytes."""

GRAPH_ALLOWANCE_BYTES = 32 << 20
"""Room for graphs and manifest in the disk-space check."""

DECODER_PARTS = ("init", "step", "head")


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph to write: under which names, and the file for those of its weights that are new."""

    model: ir.Model
    names: tuple[str, ...]
    weights: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """The new variant, still without weight files of its own graphs, and the graphs to make for it."""

    variant: Variant
    graphs: tuple[_Graph, ...]


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
    with (
        staging_directory(path, recipe.name) as staged,
        progress_bar(total=source_bytes(models), unit="B", scale=True, quiet=not progress) as bar,
    ):
        variant, records = _write(plan, WeightFiles(staged, bar.update, threads))
        return publish(path, staged, lambda manifest: _changed(manifest, recipe.name, variant, records, default))


def _source(bundle: Bundle) -> Variant:
    """Return the float32 variant, its files known to be there."""
    for name, variant in bundle.manifest.variants.items():
        if variant.recipe.get("scheme") == "fp32":
            return bundle.variant(name)
    names = ", ".join(bundle.manifest.variants) or "none"
    raise BundleError(
        f"{bundle.path}: no float32 variant to quantise from (it has: {names}); quantising twice only adds errors, "
        "so export the checkpoint again"
    )


def _plan(bundle: Bundle, source: Variant, recipe: Recipe) -> _Plan:
    record = {"scheme": "quantized", "quantizer": QUANTIZER, **recipe.to_dict(), "inputs": _digests(bundle, source)}
    variant = Variant(source.encoder, source.decoder_init, source.decoder_step, (), record, source.devices)
    others = {name: other for name, other in bundle.manifest.variants.items() if name != recipe.name}
    graphs: list[_Graph] = []
    if not isinstance(recipe.encoder, Keep):
        if (twin := _twin(others, record, ("encoder",))) is not None:
            variant = replace(variant, encoder=twin.encoder)
        else:
            name = f"encoder.{recipe.name}.onnx"
            model = quantized_encoder(bundle.path / source.encoder, recipe.encoder)
            graphs.append(_Graph(model, (name,), f"encoder.{recipe.name}.data"))
            variant = replace(variant, encoder=name)
    if any(not isinstance(part, Keep) for part in (recipe.init, recipe.step, recipe.head)):
        if (twin := _twin(others, record, DECODER_PARTS)) is not None:
            variant = replace(variant, decoder_init=twin.decoder_init, decoder_step=twin.decoder_step)
        else:
            graphs += _decoders(bundle, source, recipe)
            init, step = f"decoder_init.{recipe.name}.onnx", f"decoder_step.{recipe.name}.onnx"
            variant = replace(variant, decoder_init=init, decoder_step=step)
    kept = [_weights_of(bundle.path / name) for name in variant.files if name in bundle.manifest.files]
    mapped = {name for other in (source, *others.values()) for name in other.mapped}
    return _Plan(
        replace(
            variant,
            weights=tuple(dict.fromkeys(file for files in kept for file in files)),
            mapped=tuple(name for name in variant.files if name in mapped and name in source.files),
        ),
        tuple(graphs),
    )


def _decoders(bundle: Bundle, source: Variant, recipe: Recipe) -> list[_Graph]:
    """Return the decoder graphs to make: one under both names where prefill and step are alike."""
    init, step = f"decoder_init.{recipe.name}.onnx", f"decoder_step.{recipe.name}.onnx"
    weights = f"decoder_weights.{recipe.name}.data"
    digests = bundle.manifest.files
    same_source = digests[source.decoder_init].sha256 == digests[source.decoder_step].sha256
    step_model = quantized_decoder(bundle.path / source.decoder_step, recipe.step, recipe.head, table="[step]")
    if recipe.one_decoder and same_source:
        return [_Graph(step_model, (init, step), weights)]
    init_model = quantized_decoder(bundle.path / source.decoder_init, recipe.init, recipe.head, table="[init]")
    return [_Graph(step_model, (step,), weights), _Graph(init_model, (init,), f"decoder_init_weights.{recipe.name}.data")]


def _digests(bundle: Bundle, source: Variant) -> dict[str, str]:
    """Return the sha256 of every file the source reads, as its manifest states them."""
    return {name: bundle.manifest.files[name].sha256 for name in dict.fromkeys(source.files)}


def _twin(others: Mapping[str, Variant], record: Mapping[str, Any], parts: tuple[str, ...]) -> Variant | None:
    """Return a variant that was given the same schemes for these parts, from the same files by the same arithmetic."""
    keys = ("scheme", "quantizer", "inputs", *parts)
    for other in others.values():
        if all(other.recipe.get(key) == record[key] for key in keys):
            return other
    return None


def _weights_of(graph: Path) -> list[str]:
    """Return the external files a graph of the bundle reads."""
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
