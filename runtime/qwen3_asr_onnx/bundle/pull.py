"""A hub id and the names of variants in, a local folder with their files out, each checked against the manifest.

The manifest comes first, so a wrong name is refused before anything large moves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qwen3_asr_onnx.errors import BundleError

from .files import Bundle
from .hub import FOREIGN, explained, is_reachable, local_folder, refuse_checkpoint
from .manifest import MANIFEST_FILE, TOKENIZER_FILE, FileRecord, Manifest
from .partials import remove_abandoned, remove_unneeded
from .store import Family, default_folder, got_variant
from .transfers import (
    Remote,
    check_possible,
    copy_file,
    download,
    etag_of,
    hub_file,
    into_cache,
    is_intact,
    missing,
    transfer_bar,
)
from .writing import explained_full_disk

__all__ = ["HubBundle", "fetch_variant", "open_on_hub", "pull_to_cache", "pull_to_folder", "restricted"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HubBundle:
    """A bundle on the hub whose manifest has been read.

    Attributes:
        repo_id: "owner/name".
        commit: the commit everything is taken from, even if the branch moves on meanwhile.
        bundle: the folder in the local cache, where some or all of its files may lie.
    """

    repo_id: str
    commit: str
    bundle: Bundle

    def needs(self, variants: Sequence[str]) -> dict[str, FileRecord]:
        """Return every file that running these variants reads.

        Raises:
            BundleError: no such variant, or the manifest lacks one of its files.
        """
        manifest = self.bundle.manifest
        for name in variants:
            if name not in manifest.variants:
                known = ", ".join(manifest.variants) or "none"
                raise BundleError(f"{self.repo_id}: no variant {name!r}; this bundle has: {known}")
        names = [file for name in variants for file in manifest.variants[name].files]
        try:
            return {name: manifest.files[name] for name in (TOKENIZER_FILE, *names)}
        except KeyError as error:
            raise BundleError(f"{self.repo_id}: {error.args[0]} is not listed in {MANIFEST_FILE}") from error

    def remote(self, name: str) -> Remote:
        """Return one of its files, as it is on the hub."""
        return hub_file(self.repo_id, self.commit, name, self.bundle.manifest.files[name], MANIFEST_FILE)


def fetch_variant(
    name_or_path: str | Path | None, variant: str | None = None, *, revision: str | None = None, family: Family = "asr"
) -> Path:
    """Return the local folder of a bundle, with at least one variant's files in it if it comes from the hub.

    Args:
        name_or_path: a folder, which is returned as it is, a model of the store, or "owner/name" on the hub, of which
            the store may have a model; None is the default of the family.
        variant: what to fetch; None is the first one the bundle lists.
        revision: branch, tag or commit on the hub; None is the main branch.
        family: whose default is meant.

    Raises:
        BundleError: neither a folder nor a model nor a hub id, or there is no default; the repository is no bundle or
            has no such variant; it cannot be fetched; what was fetched is damaged.
        MissingExtra: it is a hub id and huggingface_hub is not installed.
    """
    folder = default_folder(family) if name_or_path is None else local_folder(name_or_path)
    if folder is not None:
        return folder
    got = got_variant(str(name_or_path), variant, revision)
    if got is not None:
        return got
    found = open_on_hub(str(name_or_path), revision)
    names = list(found.bundle.manifest.variants)[:1] if variant is None else [variant]
    return pull_to_cache(found, names)


def open_on_hub(repo_id: str, revision: str | None = None) -> HubBundle:
    """Return the bundle `repo_id`, its manifest fetched if it is not in the cache or has changed.

    Raises:
        BundleError: no such repository, no access, no connection, or no bundle.
        MissingExtra: huggingface_hub is not installed.
    """
    with explained(repo_id, revision):
        import huggingface_hub
        from huggingface_hub import errors as hub_errors

        try:
            only_here = not is_reachable()
            path = Path(
                huggingface_hub.hf_hub_download(repo_id, MANIFEST_FILE, revision=revision, local_files_only=only_here)
            )
        except hub_errors.EntryNotFoundError as error:
            if isinstance(error, hub_errors.LocalEntryNotFoundError):
                raise
            raise BundleError(f"{repo_id}: {FOREIGN}: it has no {MANIFEST_FILE}; check the name") from error
    LOG.info("%s: commit %s", repo_id, path.parent.name)
    remove_abandoned(path.parent.parent.parent / "blobs")
    refuse_checkpoint(repo_id, path)
    return HubBundle(repo_id, path.parent.name, Bundle.open(path.parent))


def pull_to_cache(found: HubBundle, variants: Sequence[str], *, check: bool = False, quiet: bool = False) -> Path:
    """Return the bundle's folder in the cache of the hub, with the variants' files in it.

    Args:
        found: the bundle.
        variants: names of variants.
        check: compare the digests of files that are there already; otherwise their sizes.
        quiet: no progress bar.

    Raises:
        BundleError: a variant does not exist, or its files cannot be fetched or are damaged.
    """
    folder = found.bundle.path
    lacking = missing(folder, found.needs(variants), check=check, quiet=quiet)
    check_possible(found.repo_id, folder.parent.parent / "blobs", lacking)
    with explained(found.repo_id, found.commit), transfer_bar(found.repo_id, lacking, quiet=quiet) as bar:
        for name in lacking:
            into_cache(found.remote(name), found.commit, folder, bar)
    return folder


def pull_to_folder(found: HubBundle, variants: Sequence[str], folder: Path, *, quiet: bool = False) -> Path:
    """Return `folder`, made a bundle of its own that holds these variants, beside those of it that are there already.

    Its manifest names only what is there, and is written last: a folder that is not complete is no bundle yet, and the
    next pull goes on with it.

    Raises:
        BundleError: as `pull_to_cache`; or the folder holds something else.
        LimitError: the disk is full.
    """
    full = found.bundle.manifest
    found.needs(variants)
    wanted = {*variants, *_variants_held(found, folder)}
    names = [name for name in full.variants if name in wanted]
    needed = found.needs(names)
    lacking = missing(folder, needed, check=True, quiet=quiet)
    cached = {name for name, record in lacking.items() if is_intact(found.bundle.path / name, record, check=True)}
    check_possible(found.repo_id, folder, {name: lacking[name] for name in lacking if name not in cached})
    bar_shown = transfer_bar(found.repo_id, lacking, quiet=quiet)
    with explained(found.repo_id, found.commit), bar_shown as bar, explained_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, record in lacking.items():
            if name in cached:
                copy_file(found.bundle.path / name, folder / name)
                bar.update(record.size)
                continue
            remote = found.remote(name)
            etag_of(remote)
            download(remote, folder / name, bar)
        restricted(full, names, needed).save(folder)
        remove_unneeded(folder, (MANIFEST_FILE, *needed))
    return folder


def _variants_held(found: HubBundle, folder: Path) -> list[str]:
    """Return the variants of this very bundle that a folder holds.

    Raises:
        BundleError: the folder holds another bundle, or files that a download would replace.
    """
    if not (folder / MANIFEST_FILE).exists():
        for name, record in found.bundle.manifest.files.items():
            if (folder / name).exists() and not is_intact(folder / name, record, check=True):
                raise BundleError(f"{folder / name} exists and is not a file of {found.repo_id}; give another folder")
        return []
    held = Bundle.open(folder).manifest
    names = [name for name in found.bundle.manifest.variants if name in held.variants]
    if len(names) != len(held.variants) or held != restricted(found.bundle.manifest, names, found.needs(names)):
        raise BundleError(f"{folder} holds another bundle, or another revision of it; give another folder or remove it")
    return names


def restricted(manifest: Manifest, names: Iterable[str], files: Mapping[str, FileRecord]) -> Manifest:
    """Return a manifest that names these variants and files alone."""
    return replace(manifest, variants={name: manifest.variants[name] for name in names}, files=dict(files))
