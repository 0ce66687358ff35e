"""Bundle + recipe -> the same bundle with one more variant, or a new bundle of that variant alone.

What is shared and what is made is decided by `plan`, from the manifest alone. Only what is new is built, computed and
stored.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.manifest import FileRecord, Manifest, Variant
from qwen3_asr_onnx.bundle.staging import publish, recover_bundle, staging_directory
from qwen3_asr_onnx.bundle.workshops import Float32Source
from qwen3_asr_onnx.bundle.writing import atomic_directory, require_space
from qwen3_asr_onnx.commands.console import progress_bar
from qwen3_asr_onnx.errors import BundleError

from .calibration.attach import attach_calibration, calibration_record, require_calibration
from .graphs import Draft, draft, verify
from .plan import Plan, float32_name, plan_variant
from .recipes.recipe import Recipe
from .schemes.embedding import TableRows, rows_of_file, write_int8_table
from .weights.files import WeightFiles, source_bytes

__all__ = ["quantize_bundle", "quantize_into", "quantize_streamed"]

GRAPH_ALLOWANCE_BYTES = 32 << 20
"""Room for graphs and manifest in the disk-space check."""


def quantize_bundle(
    path: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    default: bool = False,
    progress: bool = False,
    threads: int | None = None,
    calibration: Sequence[Waveform] = (),
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
        calibration: 16 kHz waveforms to calibrate on, for recipes that say so; others must not get any.

    Returns:
        The bundle with its new manifest.

    Raises:
        BundleError: no such bundle, nothing to quantise from, the variant exists, or a weight is not a finite number.
        OptionsError: an exclusion of the recipe matches no weight, or calibration audio is missing or not asked for.
        LimitError: not enough disk space.
    """
    require_calibration(recipe, calibration)
    recover_bundle(path)
    bundle = Bundle.open(path)
    recipe = _for_model(recipe, bundle.manifest)
    source = _float32_source(bundle)
    if recipe.name in bundle.manifest.variants and not force:
        raise BundleError(f"{path}: variant {recipe.name!r} exists; pass --overwrite to replace it")
    others = {name: other for name, other in bundle.manifest.variants.items() if name != recipe.name}
    plan = _planned(bundle, recipe, others, calibration)
    _refuse_files_of_others(bundle, recipe.name, plan)
    drafted = draft(bundle, source, recipe, plan)
    _require_space(path, drafted.stored_bytes(bundle))
    with staging_directory(path, recipe.name) as staged:
        variant, records = _make(bundle, source, drafted, staged, progress, threads, calibration)
        return publish(path, staged, lambda manifest: _changed(manifest, recipe.name, variant, records, default))


def quantize_into(
    output: Path,
    path: Path,
    recipe: Recipe,
    *,
    force: bool = False,
    progress: bool = False,
    threads: int | None = None,
    calibration: Sequence[Waveform] = (),
) -> Bundle:
    """Make a bundle that holds one variant of another bundle and nothing that it does not need.

    Args:
        output: the directory to create.
        path: a bundle with a float32 variant; it stays as it is.
        recipe: what to make.
        force: replace `output` if it exists.
        progress: show a progress bar if stderr is a terminal.
        threads: cores to use; None for all.
        calibration: as `quantize_bundle` takes it.

    Returns:
        The new bundle.

    Raises:
        BundleError: as `quantize_bundle`; or `output` exists, or is the source itself.
        OptionsError, LimitError: as `quantize_bundle`.
    """
    require_calibration(recipe, calibration)
    recover_bundle(path)
    bundle = Bundle.open(path)
    if output.resolve() == path.resolve():
        raise BundleError(f"{output} is the bundle itself; leave out --output-dir to add the variant to it")
    recipe = _for_model(recipe, bundle.manifest)
    source = _float32_source(bundle)
    plan = _planned(bundle, recipe, {}, calibration)
    drafted = draft(bundle, source, recipe, plan)
    manifest = _alone(bundle.manifest, recipe.name, replace(plan.variant, weights=drafted.weights), {})
    copied = [name for name in manifest.files if name not in plan.new_files]
    with atomic_directory(output, overwrite=force) as partial:
        _require_space(output, drafted.stored_bytes(bundle) + sum(manifest.files[name].size for name in copied))
        variant, records = _make(bundle, source, drafted, partial, progress, threads, calibration)
        manifest = _alone(bundle.manifest, recipe.name, variant, records)
        for name in manifest.files.keys() - records.keys():
            shutil.copyfile(bundle.require(name), partial / name)
        manifest.save(partial)
    return Bundle.open(output)


def quantize_streamed(
    output: Path, source: Float32Source, recipe: Recipe, *, progress: bool = False, threads: int | None = None
) -> None:
    """Fill a directory with what `quantize_into` would make of a bundle, without its weights ever being in files.

    Args:
        output: an empty directory.
        source: where the numbers come from.
        recipe: what to make; it must not be calibrated.
        progress: show a progress bar if stderr is a terminal.
        threads: cores to use; None for all.

    Raises:
        BundleError: a weight cannot be read or is not a finite number.
        OptionsError, LimitError: as `quantize_bundle`.
    """
    bundle, name = source.bundle, float32_name(source.bundle.manifest)
    recipe = _for_model(recipe, bundle.manifest)
    assert name is not None
    plan = plan_variant(source.origin, bundle.manifest, recipe, {})
    drafted = draft(bundle, bundle.manifest.variants[name], recipe, plan, source)
    manifest = _alone(bundle.manifest, recipe.name, replace(plan.variant, weights=drafted.weights), {})
    kept = manifest.files.keys() - plan.new_files
    _require_space(output, drafted.stored_bytes(bundle) + sum(manifest.files[file].size for file in kept))
    # Digests of float32 files that nobody keeps are wanted too: they tell what the variant was made from.
    pending = {file: source.deliver(file, output / file if file in kept else None) for file in source.streamed}
    total = source_bytes(drafted.models)
    with (
        _blamed_on_source(pending.values()),
        progress_bar(total=total, unit="B", scale=True, quiet=not progress) as bar,
    ):
        variant, records = _write(drafted, WeightFiles(output, bar.update, threads))
        if plan.table is not None:
            records |= _write_table(bundle, source.table, output / variant.embeddings)
    files = {**bundle.manifest.files, **{file: future.result() for file, future in pending.items()}}
    settled = replace(bundle.manifest, files=files)
    variant = replace(variant, recipe=plan_variant(source.origin, settled, recipe, {}).variant.recipe)
    for file in kept - source.streamed:
        shutil.copyfile(bundle.require(file), output / file)
    _alone(settled, recipe.name, variant, records).save(output)


@contextlib.contextmanager
def _blamed_on_source(pending: Iterable[Future[FileRecord]]) -> Iterator[None]:
    """Let what is wrong with a weight be said by the source, which knows the checkpoint's name for it.

    Raises:
        BundleError: the source's, or that of the block where the source finds nothing wrong.
    """
    try:
        yield
    except BundleError as error:
        for future in pending:
            if isinstance(why := future.exception(), BundleError):
                raise why from error
        raise


def _float32_source(bundle: Bundle) -> Variant:
    """Return the float32 variant, its files known to be there."""
    name = float32_name(bundle.manifest)
    if name is None:
        names = ", ".join(bundle.manifest.variants) or "none"
        raise BundleError(
            f"{bundle.path}: no float32 variant to quantise from (it has: {names}); quantising twice only adds errors, "
            "so export the checkpoint again"
        )
    variant = bundle.variant(name)
    verify(bundle, (variant.encoder, variant.decoder_init, variant.decoder_step))
    return variant


def _for_model(recipe: Recipe, manifest: Manifest) -> Recipe:
    return recipe.for_head(tied=bool(manifest.source.get("tied_head")))


def _planned(bundle: Bundle, recipe: Recipe, others: Mapping[str, Variant], calibration: Sequence[Waveform]) -> Plan:
    heard = calibration_record(calibration) if recipe.calibrated else None
    return plan_variant(bundle.path, bundle.manifest, recipe, others, heard)


def _make(
    bundle: Bundle,
    source: Variant,
    drafted: Draft,
    directory: Path,
    progress: bool,
    threads: int | None,
    calibration: Sequence[Waveform],
) -> tuple[Variant, dict[str, FileRecord]]:
    """Write every new file into a directory; return the finished variant and the records of the files."""
    inputs, table = drafted.inputs(bundle), drafted.plan.table
    total = source_bytes(drafted.models) + sum(bundle.manifest.files[name].size for name in inputs)
    with progress_bar(total=total, unit="B", scale=True, quiet=not progress) as bar:
        verify(bundle, inputs, bar.update)
        attach_calibration(bundle, source, drafted.models, calibration, threads)
        variant, records = _write(drafted, WeightFiles(directory, bar.update, threads))
    if table is not None:
        dims = bundle.manifest.decoder
        rows = rows_of_file(bundle.path / table, dims.vocab_size, dims.hidden)
        records |= _write_table(bundle, rows, directory / variant.embeddings)
    return variant, records


def _write_table(bundle: Bundle, rows: TableRows, target: Path) -> dict[str, FileRecord]:
    """Write the int8 table of a variant, and return its record by name."""
    return {target.name: write_int8_table(rows, target, bundle.manifest.decoder.vocab_size)}


def _refuse_files_of_others(bundle: Bundle, name: str, plan: Plan) -> None:
    """Raise when a file to be written belongs to another variant as well: that variant would change unasked."""
    for other, variant in bundle.manifest.variants.items():
        shared = plan.new_files.intersection(variant.files)
        if other != name and shared:
            raise BundleError(
                f"{bundle.path}: {min(shared)} is shared with variant {other!r}, which a new {name!r} would change; "
                "give the recipe another name"
            )


def _require_space(path: Path, n_bytes: int) -> None:
    require_space(path, n_bytes + GRAPH_ALLOWANCE_BYTES, "the variant", "move the bundle to another disk")


def _write(drafted: Draft, files: WeightFiles) -> tuple[Variant, dict[str, FileRecord]]:
    """Write weights and graphs, and return the variant with all its weight files."""
    weights = dict.fromkeys(drafted.weights)
    records: dict[str, FileRecord] = {}
    if drafted.shared is not None:
        model, finished = drafted.shared
        files.adopt(model, ir.load(finished).graph)
    for graph, model in zip(drafted.plan.graphs, drafted.models, strict=True):
        weights |= dict.fromkeys(files.add(model, graph.weights))
        for name in graph.names:
            ir.save(model, files.directory / name)
            records[name] = file_record(files.directory / name)
    return replace(drafted.plan.variant, weights=tuple(weights)), records | files.records


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


def _alone(manifest: Manifest, name: str, variant: Variant, records: Mapping[str, FileRecord]) -> Manifest:
    """Return the manifest of a bundle that holds this variant alone."""
    others = {file for old in manifest.variants.values() for file in old.files} - set(variant.files)
    kept = {file: record for file, record in manifest.files.items() if file not in others}
    return replace(manifest, variants={name: variant}, files=dict(sorted({**kept, **records}.items())))
