"""The name of a model anywhere in, a model of the store out: what `get` does, and who names a released checkpoint."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.sources import at_home
from qwen3_asr_onnx.errors import BundleError, OptionsError

from . import store
from .checkpoints import Found, fetch_model, look_into
from .choices import Origin, read_choices
from .files import Bundle
from .hub import is_hub_id, local_folder, meant
from .manifest import MANIFEST_FILE
from .modelscope import PREFIX, open_modelscope
from .pull import HubBundle, fetch_variant, restricted
from .repositories import FolderRepository, Repository, open_hub_repository
from .transfers import is_intact
from .workshops import check_recipe, make_variant
from .writing import atomic_directory

__all__ = ["GetOptions", "Recommend", "default_model_name", "get_model", "model_of"]

Recommend: TypeAlias = Callable[[int], tuple[str, str]]
"""The bytes of a checkpoint's weights in; the recipe for who names none, and why, out."""

MINIATURES = ("mini", "mini-aligner")
"""What a clone of the repository brings along: small models of a small world."""


def _smallest(_weight_bytes: int) -> tuple[str, str]:
    return "int4", "the smallest"


@dataclass(frozen=True, slots=True)
class GetOptions:
    """How to get a model.

    Attributes:
        recipe: name of a published recipe, or a .toml file; None is what `recommend` says, and the first variant of a
            ready bundle.
        name: what to call the model; None makes one of the source's.
        revision: branch, tag or commit on the hub.
        base: the checkpoint that an adapter belongs to, as a source; None for what the adapter says.
        keep_float32: keep the float32 variant too.
        calibration: 16 kHz waveforms for recipes that are calibrated.
        check: compare with transformers, which needs torch.
        overwrite: make a model that is there already anew.
        quiet: no progress bars.
        threads: cores to use; None for all.
        recommend: chooses the recipe if none is named.
    """

    recipe: str | None = None
    name: str | None = None
    revision: str | None = None
    base: str | None = None
    keep_float32: bool = False
    calibration: Sequence[Waveform] = ()
    check: bool = False
    overwrite: bool = False
    quiet: bool = False
    threads: int | None = None
    recommend: Recommend = _smallest


def get_model(source: str, options: GetOptions = GetOptions(), say: Callable[[str], object] = lambda _: None) -> Path:
    """Return the folder of a model in the store, made of what `source` names.

    It is in the store when all of it is there, and not before; what was downloaded by then is not downloaded again.

    Args:
        source: "owner/name" on the Hugging Face hub, "modelscope:owner/name", or a folder of this machine, with a
            checkpoint, a LoRA adapter or a bundle in it; or the name of a miniature.
        options: how.
        say: called with what the user should know, a line each.

    Raises:
        BundleError: there is no such source, or it holds no such model; it cannot be fetched or is damaged; the name is
            taken, or another process is making it; the store cannot be written.
        OptionsError: no such recipe, or options that do not fit the source.
        LimitError: the disk is full.
        MissingExtra: a package is missing.
    """
    name = options.name or default_model_name(source, options.recipe, options.revision)
    with store.claimed(name) as target:
        known = read_choices().origins.get(name) if target.exists() and not options.overwrite else None
        if known is not None and _is_same(known, source, options):
            say(f"{name} is here already, made of {known.source}; --overwrite makes it anew")
            return target
        repository = _opened(source, options.revision)
        if target.exists() and not options.overwrite:
            raise BundleError(
                f"{name}: a model of that name is in the store; --overwrite replaces it, --name gives this one another"
            )
        origin = _make(look_into(repository, quiet=options.quiet), target, options, say)
        store.record(name, origin)
    return target


def model_of(
    source: str,
    variant: str | None,
    revision: str | None,
    say: Callable[[str], object],
    recommend: Recommend = _smallest,
) -> Path:
    """Return the folder of a bundle for who names a checkpoint of the hub as if it were a bundle: got if it must be.

    Args:
        source: a folder, a model of the store, or "owner/name" on the hub.
        variant: name of the variant, or of the recipe that makes it; None is the first, or what is recommended.
        revision: branch, tag or commit on the hub.
        say: called with what the user should know, a line each.
        recommend: chooses the recipe if no variant is named.

    Raises:
        As `fetch_variant` and `get_model`.
    """
    if local_folder(source) is not None or store.got_variant(source, variant, revision) is not None:
        return fetch_variant(source, variant, revision=revision)
    if look_into(open_hub_repository(source, revision), quiet=True).kind == "bundle":
        return fetch_variant(source, variant, revision=revision)
    name = default_model_name(source, variant, revision)
    if store.find(name) is not None:  # another model is called so
        name = default_model_name(source.replace("/", "--"), variant, revision)
    say(f"{source} is a checkpoint: making the model {name} of it, once")
    return get_model(source, GetOptions(recipe=variant, name=name, revision=revision, recommend=recommend), say)


def default_model_name(source: str, recipe: str | None = None, revision: str | None = None) -> str:
    """Return what a model is called if nobody says: as its source is, and as what else was asked for."""
    path = at_home(Path(source), source)
    stem = path.resolve().name if path.is_dir() else re.split(r"[/:]", source)[-1]
    parts = [stem, "" if recipe is None else Path(recipe).stem, revision or ""]
    text = "-".join(part for part in parts if part).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-._")[:96] or "model"


def _is_same(known: Origin, source: str, options: GetOptions) -> bool:
    """Return whether a model is what is asked for: of the same commit, which folders have not, and recipe."""
    return (
        bool(known.revision)
        and known.source == source
        and options.recipe in (None, known.recipe)
        and options.revision in (None, known.revision)
    )


def _opened(source: str, revision: str | None) -> Repository:
    """Return what a source means."""
    path = at_home(Path(source), source)
    if path.is_dir() or source in MINIATURES:
        if revision is not None:
            raise OptionsError(f"--revision {revision}: {source} is a folder, which has none")
        if not path.is_dir():
            return FolderRepository(_miniature(source), source)
        return FolderRepository(path.absolute(), str(path.absolute()))
    if path.exists():
        raise BundleError(f"{path}: this is a file; give the folder that it lies in")
    if source.startswith(PREFIX):
        return open_modelscope(source.removeprefix(PREFIX), revision)
    if not is_hub_id(source):
        hint = _id_of_url(source) or meant(source) or meant(source.rpartition("/")[2]) or "check the name"
        raise BundleError(f"{source}: no such folder, and not a hub id (owner/name) either; {hint.strip()}")
    return open_hub_repository(source, revision)


def _id_of_url(text: str) -> str:
    """Return what to give in place of the address of a model's page, "" for what is none."""
    found = re.match(r"https?://([^/]+)/(?:models/)?([^/?#]+/[^/?#]+)", text)
    return f"give {PREFIX if 'modelscope' in found[1] else ''}{found[2]}" if found else ""


def _miniature(name: str) -> Path:
    """Return the checkpoint of a miniature, which lies beside the package in a clone."""
    folder = Path(__file__).parents[3] / "tests" / "data" / {"mini": "mini-asr"}.get(name, name)
    if not folder.is_dir():
        raise BundleError(
            f"{name}: the miniatures come with a clone of the repository, and this package does not run from one; "
            "install it from a clone with pip install -e, or get a real model: qwen3-asr-onnx get Qwen/Qwen3-ASR-0.6B"
        )
    return folder


def _make(found: Found, target: Path, options: GetOptions, say: Callable[[str], object]) -> Origin:
    """Make the model, and return where it came from."""
    repository = found.repository
    if found.kind == "bundle":
        recipe = _take_bundle(repository, target, options)
    else:
        check_recipe(options.recipe or _smallest(0)[0], options.calibration, keeps_float32=options.keep_float32)
        base = _base(found, options) if found.kind == "adapter" else None
        folder = fetch_model(found, quiet=options.quiet)
        checkpoint = folder if base is None else fetch_model(base, quiet=options.quiet)
        recipe = options.recipe or _recommended(checkpoint, options, say)
        make_variant(
            checkpoint,
            target,
            recipe,
            adapter=None if base is None else folder,
            name=repository.name,
            keep_float32=options.keep_float32,
            check=options.check,
            overwrite=options.overwrite,
            progress=not options.quiet,
            threads=options.threads,
            calibration=options.calibration,
        )
        if base is not None and (left := base.repository.left_behind()):
            say(left)
    if left := repository.left_behind():
        say(left)
    return Origin(repository.label, repository.commit, recipe)


def _recommended(checkpoint: Path, options: GetOptions, say: Callable[[str], object]) -> str:
    """Return the recipe for who names none, and say why."""
    recipe, why = options.recommend(sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")))
    say(f"recipe {recipe}: {why}; --recipe names another")
    return recipe


def _base(adapter: Found, options: GetOptions) -> Found:
    """Return the checkpoint that an adapter belongs to."""
    label, source = adapter.repository.label, options.base or adapter.base
    if not source:
        raise BundleError(f"{label}: this adapter does not say what it belongs to; give its checkpoint with --base")
    try:
        base = look_into(_opened(source, None), quiet=options.quiet)
    except BundleError as error:
        why = "--base" if options.base else "the adapter says it belongs to this; --base names another place"
        raise BundleError(f"{label}: {error} ({why})") from error
    if base.kind != "checkpoint":
        raise BundleError(
            f"{label}: its base {source} is a{'n' * (base.kind == 'adapter')} {base.kind}; give a checkpoint"
        )
    return base


def _take_bundle(repository: Repository, target: Path, options: GetOptions) -> str:
    """Put one variant of a ready bundle into the store as it is, and return the variant's name."""
    if options.keep_float32 or options.calibration or options.check or options.base:
        raise OptionsError(
            f"{repository.label}: a ready bundle, which is taken as it is; only --recipe chooses a variant"
        )
    bundle = Bundle.open(repository.fetch((MANIFEST_FILE,), quiet=options.quiet))
    variant = options.recipe or next(iter(bundle.manifest.variants), "")
    files = HubBundle(repository.label, repository.commit, bundle).needs([variant])
    folder = repository.fetch((*files, MANIFEST_FILE), quiet=options.quiet)
    with atomic_directory(target, overwrite=options.overwrite) as partial:
        for name, record in files.items():
            shutil.copyfile(bundle.require(name), partial / name)
            if not is_intact(partial / name, record, check=True):
                raise BundleError(f"{folder / name}: contents differ from the manifest's sha256; get it anew")
        restricted(bundle.manifest, [variant], files).save(partial)
    return variant
