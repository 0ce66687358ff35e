"""Manifest + recipe -> what has to be made for the variant, and what is there already under another variant's name.

A part that the recipe leaves in float32 is the source's files by name; a part that another variant was given by the
same scheme from the same source is that variant's files by name. Only the manifest is read for that, no graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwen3_asr_onnx.bundle.manifest import EMBEDDINGS_INT8_FILE, Manifest, Variant
from qwen3_asr_onnx.bundle.names import VariantFiles, variant_files
from qwen3_asr_onnx.errors import OptionsError

from .recipes.recipe import BASIS_SWITCHES, Recipe

__all__ = ["QUANTIZER", "Graph", "Plan", "float32_name", "plan_variant"]

QUANTIZER = 1
"""Version of the arithmetic, to be raised when a recipe gives new bytes: parts made by another one are not shared."""


RESCORED = 8
"""Tokens per position that the runtime scores anew where the recipe asks for it."""

JUDGE_STEPS_FROM = 3
"""Rows from which on a step of W8A8 weights costs less than one of 4 bits and its share of the judging: products count
then, no longer bytes (INVESTIGATION.md, entry 084)."""

Twin: TypeAlias = Callable[..., Variant | None]


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph to write: of which part of the recipe, under which names, and the file for those weights that are new."""

    part: Literal["encoder", "init", "step"]
    names: tuple[str, ...]
    weights: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make and what to take.

    Attributes:
        variant: the new variant, still without weight files.
        graphs: the graphs to make, in order.
        shared: the finished graph that a new one shares tensors with, if any: the step graph of another variant, or
            the source's prefill graph.
        table: file name of the embedding table to make the variant's from; None where that one is there already.
    """

    variant: Variant
    graphs: tuple[Graph, ...]
    shared: str | None
    table: str | None

    @property
    def taken(self) -> tuple[str, ...]:
        """The names of the variant's graphs that are there already."""
        variant, made = self.variant, {name for graph in self.graphs for name in graph.names}
        graphs = dict.fromkeys((variant.encoder, variant.decoder_init, variant.decoder_step))
        return tuple(name for name in graphs if name not in made)

    @property
    def new_files(self) -> set[str]:
        """The names of all files to write."""
        graphs = {file for graph in self.graphs for file in (*graph.names, graph.weights)}
        return graphs | ({self.variant.embeddings} if self.table else set())


def float32_name(manifest: Manifest) -> str | None:
    """Return the name of the variant that everything is made from, None if there is none."""
    return next((name for name, one in manifest.variants.items() if one.recipe.get("scheme") == "fp32"), None)


def plan_variant(
    where: Path,
    manifest: Manifest,
    recipe: Recipe,
    others: Mapping[str, Variant],
    calibration: Mapping[str, Any] | None = None,
) -> Plan:
    """Return what has to be made.

    Args:
        where: the bundle, for errors.
        manifest: its manifest, with a float32 variant.
        recipe: what the variant shall be.
        others: variants of the bundle whose files it may share.
        calibration: what identifies the audio that a calibrated recipe listens to.

    Raises:
        OptionsError: the recipe asks for what this model cannot give.
    """
    if recipe.rescoring and not manifest.source.get("tied_head"):
        raise OptionsError(
            f"{where}: this model's head is not its embedding table, so rescoring would be wrong; "
            "set rescoring = false in the recipe"
        )
    source, files = manifest.variants[float32_name(manifest) or ""], variant_files(recipe.name)
    inputs = {file: manifest.files[file].sha256 for file in dict.fromkeys(source.files)}
    heard = {} if calibration is None else {"calibration": calibration}
    record = {"scheme": "quantized", "quantizer": QUANTIZER, **recipe.to_dict(), "inputs": inputs, **heard}
    twin = partial(_twin, others, record)
    encoder, graphs = _plan_encoder(source, recipe, files, twin)
    init, step, decoders = _plan_decoder(manifest, source, recipe, files, twin)
    int8_table = recipe.embedding.scheme == "int8"
    graph_names = (encoder, init, step)
    variant = Variant(
        *graph_names,
        weights=(),
        recipe=record,
        devices=recipe.step.devices or source.devices,
        cache_dtype=recipe.step.cache_dtype,
        rescored=RESCORED if recipe.rescoring else 0,
        mapped=tuple(name for name in dict.fromkeys(graph_names) if name in source.mapped),
        embeddings=EMBEDDINGS_INT8_FILE if int8_table else source.embeddings,
        needs=recipe.needs,
        verified=recipe.verified and init != step,
        judge_steps_from=JUDGE_STEPS_FROM if recipe.verified and recipe.init.scheme == "w8a8" else 0,
    )
    return Plan(
        variant,
        (*graphs, *decoders),
        shared=_finished(recipe, init, step, [graph.part for graph in decoders]),
        table=source.embeddings if int8_table and twin("embedding") is None else None,
    )


def _finished(recipe: Recipe, init: str, step: str, made: Sequence[str]) -> str | None:
    """Return the decoder graph that is there already and has tensors in common with the one that has to be made."""
    if made == ["init"] and step != init:
        return step
    return init if made == ["step"] and recipe.source_judges else None


def _plan_encoder(source: Variant, recipe: Recipe, files: VariantFiles, twin: Twin) -> tuple[str, list[Graph]]:
    """Return the name of the encoder graph, and the graph if it has to be made."""
    if {recipe.encoder.scheme, recipe.stem.scheme} == {"fp32"} and not recipe.encoder_rotation:
        return source.encoder, []
    found = twin("encoder", "stem", "encoder_rotation")
    if found is not None:
        return found.encoder, []
    return files.encoder, [Graph("encoder", (files.encoder,), files.encoder_weights)]


def _plan_decoder(
    manifest: Manifest, source: Variant, recipe: Recipe, files: VariantFiles, twin: Twin
) -> tuple[str, str, list[Graph]]:
    """Return the names of the prefill and step graphs, and those that have to be made."""
    aligner = source.decoder_init == source.decoder_step
    parts = (recipe.init, recipe.head) if aligner else recipe.decoder
    if {part.scheme for part in parts} == {"fp32"} and not recipe.rotation and not recipe.rescoring:
        return source.decoder_init, source.decoder_step, []
    init_twin = twin("init", "head", *BASIS_SWITCHES, "rescoring")
    if aligner:
        if init_twin is not None:
            return init_twin.decoder_init, init_twin.decoder_init, []
        return files.decoder_init, files.decoder_init, [Graph("init", (files.decoder_init,), files.decoder_weights)]
    step_twin = twin("step", "head", *BASIS_SWITCHES, same=_step_is_rescored)
    step = files.decoder_step if step_twin is None else step_twin.decoder_step
    digests = manifest.files
    if recipe.source_judges:
        graphs = [Graph("step", (step,), files.decoder_weights)] if step_twin is None else []
        return source.decoder_init, step, graphs
    if recipe.init == recipe.step and digests[source.decoder_init].sha256 == digests[source.decoder_step].sha256:
        if step_twin is not None:
            return step, step, []
        # One graph under both names: the runtime sees equal digests and opens one session.
        return files.decoder_init, step, [Graph("step", (files.decoder_init, step), files.decoder_weights)]
    graphs = [Graph("step", (step,), files.decoder_weights)] if step_twin is None else []
    if init_twin is not None:
        return init_twin.decoder_init, step, graphs
    return files.decoder_init, step, [*graphs, Graph("init", (files.decoder_init,), files.init_weights)]


def _step_is_rescored(record: Mapping[str, Any]) -> bool:
    """Return whether the step graph of a recorded recipe hands out what is rescored; drafts are not."""
    return bool(record.get("rescoring")) and not record.get("verified")


def _twin(
    others: Mapping[str, Variant],
    record: Mapping[str, Any],
    *parts: str,
    same: Callable[[Mapping[str, Any]], object] = lambda _: None,
) -> Variant | None:
    """Return a variant that was given the same schemes for these parts, from the same files by the same arithmetic."""
    keys = ("scheme", "quantizer", "inputs", *parts)
    if any(record[part].get("calibration", "none") != "none" for part in parts if isinstance(record[part], dict)):
        keys = (*keys, "calibration")
    for other in others.values():
        if all(other.recipe.get(key) == record[key] for key in keys) and same(other.recipe) == same(record):
            return other
    return None
