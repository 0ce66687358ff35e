"""A hub id and the names of variants in, a local folder with their files out, each checked against the manifest.

The manifest comes first, so a wrong name is refused before anything large moves. A file is downloaded under the name of
its digest and takes its place only when the digest is right: an interrupted download goes on where it stopped, and a
damaged one never gets into the cache. (huggingface_hub itself checks sizes only, and from version 2 on it throws
unfinished files away.)
"""

from __future__ import annotations

import importlib
import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from qwen3_asr_onnx.errors import BundleError

from .files import Bundle, file_record
from .hub import FOREIGN, explained, is_reachable, local_folder, refuse_checkpoint
from .manifest import MANIFEST_FILE, TOKENIZER_FILE, FileRecord, Manifest
from .partials import download_locks, remove_abandoned, remove_unneeded
from .store import Family, default_folder
from .writing import explained_full_disk, free_bytes, readable_bytes

__all__ = ["HubBundle", "fetch_variant", "open_on_hub", "pull_to_cache", "pull_to_folder"]

LOG = logging.getLogger(__name__)

_ETAG = re.compile(r"[0-9A-Za-z_-]{1,128}")


class _Bar(Protocol):
    """What downloads and checks do with a progress bar; units are bytes."""

    def update(self, n: float = 1) -> object: ...


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


def fetch_variant(
    name_or_path: str | Path | None, variant: str | None = None, *, revision: str | None = None, family: Family = "asr"
) -> Path:
    """Return the local folder of a bundle, with at least one variant's files in it if it comes from the hub.

    Args:
        name_or_path: a folder, which is returned as it is, a model of the store, or "owner/name" on the hub; None is
            the default of the family.
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
    blobs = folder.parent.parent / "blobs"
    missing = _missing(folder, found.needs(variants), check=check, quiet=quiet)
    _check_possible(found.repo_id, blobs, missing)
    with explained(found.repo_id, found.commit), _progress_bar(found.repo_id, missing, quiet=quiet) as bar:
        import huggingface_hub
        from huggingface_hub.file_download import are_symlinks_supported

        for name, record in missing.items():
            etag = _etag(found, name, record)
            content = blobs / etag if are_symlinks_supported(folder.parents[2]) else folder / name
            if not _is_intact(folder / name, record, check=True):  # another process may have put it there by now
                _remove(folder / name)
            if not _is_intact(content, record, check=True):
                _download(found, name, record, content, bar)
            # The content is there, so the snapshot is only made to point to it.
            huggingface_hub.hf_hub_download(found.repo_id, name, revision=found.commit)
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
    missing = _missing(folder, needed, check=True, quiet=quiet)
    cached = {name for name, record in missing.items() if _is_intact(found.bundle.path / name, record, check=True)}
    _check_possible(found.repo_id, folder, {name: missing[name] for name in missing if name not in cached})
    bar_shown = _progress_bar(found.repo_id, missing, quiet=quiet)
    with explained(found.repo_id, found.commit), bar_shown as bar, explained_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, record in missing.items():
            if name in cached:
                _copy(found.bundle.path / name, folder / name)
                bar.update(record.size)
                continue
            _etag(found, name, record)
            _download(found, name, record, folder / name, bar)
        _restricted(full, names, needed).save(folder)
        remove_unneeded(folder, (MANIFEST_FILE, *needed))
    return folder


def _variants_held(found: HubBundle, folder: Path) -> list[str]:
    """Return the variants of this very bundle that a folder holds.

    Raises:
        BundleError: the folder holds another bundle, or files that a download would replace.
    """
    if not (folder / MANIFEST_FILE).exists():
        for name, record in found.bundle.manifest.files.items():
            if (folder / name).exists() and not _is_intact(folder / name, record, check=True):
                raise BundleError(f"{folder / name} exists and is not a file of {found.repo_id}; give another folder")
        return []
    held = Bundle.open(folder).manifest
    names = [name for name in found.bundle.manifest.variants if name in held.variants]
    if len(names) != len(held.variants) or held != _restricted(found.bundle.manifest, names, found.needs(names)):
        raise BundleError(f"{folder} holds another bundle, or another revision of it; give another folder or remove it")
    return names


def _restricted(manifest: Manifest, names: Iterable[str], files: Mapping[str, FileRecord]) -> Manifest:
    return replace(manifest, variants={name: manifest.variants[name] for name in names}, files=dict(files))


def _missing(folder: Path, needed: Mapping[str, FileRecord], *, check: bool, quiet: bool) -> dict[str, FileRecord]:
    """Return the files that are absent, of another size, or, with `check`, of another digest."""
    if not check:
        return {name: record for name, record in needed.items() if not _is_intact(folder / name, record, check=False)}
    there = {name: record for name, record in needed.items() if (folder / name).exists()}
    with _progress_bar("checking", there, quiet=quiet) as bar:
        intact = {name for name, record in there.items() if _is_intact(folder / name, record, check=True, bar=bar)}
    return {name: record for name, record in needed.items() if name not in intact}


def _is_intact(path: Path, record: FileRecord, *, check: bool, bar: _Bar | None = None) -> bool:
    if not path.is_file() or path.stat().st_size != record.size:
        return False
    return not check or file_record(path, bar.update if bar else None).sha256 == record.sha256


def _etag(found: HubBundle, name: str, record: FileRecord) -> str:
    """Return the name under which the cache keeps a file's content, once the hub has the file the manifest means."""
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        metadata = get_hf_file_metadata(hf_hub_url(found.repo_id, name, revision=found.commit))
    except hub_errors.EntryNotFoundError as error:
        raise BundleError(
            f"{found.repo_id}: {MANIFEST_FILE} names {name}, which is not in the repository; tell its owner"
        ) from error
    if metadata.size not in (None, record.size) or not metadata.etag:
        raise BundleError(
            f"{found.repo_id}: {name} has {metadata.size} bytes on the hub, {record.size} in {MANIFEST_FILE}; "
            "the repository is damaged, tell its owner"
        )
    etag = str(metadata.etag)
    if not _ETAG.fullmatch(etag):  # it becomes the name of a file
        raise BundleError(f"{found.repo_id}: the hub gives {name} the ETag {etag[:80]!r}, which is no digest")
    return etag


def _download(found: HubBundle, name: str, record: FileRecord, target: Path, bar: _Bar) -> None:
    """Put a file at `target` when all of it is there and its digest is right; go on where an earlier attempt stopped.

    Raises:
        BundleError: the content is not what the manifest says; it has been removed.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    utils = _hub_utils()
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name that huggingface_hub before version 2 gives to an unfinished download of the same content.
    partial = target.with_name(f"{record.sha256}.incomplete")
    lock = download_locks() / f"{record.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with utils.WeakFileLock(lock):
        if _is_intact(target, record, check=False):  # another process was faster
            bar.update(record.size)
            return
        n_bytes = partial.stat().st_size if partial.exists() else 0
        LOG.info("%s: %s of %d bytes, %d of them from an earlier attempt", found.repo_id, name, record.size, n_bytes)
        if n_bytes > record.size:
            partial.unlink()
            n_bytes = 0
        bar.update(n_bytes)
        with partial.open("ab") as file:
            http_get(
                hf_hub_url(found.repo_id, name, revision=found.commit),
                file,
                resume_size=n_bytes,
                headers=utils.build_hf_headers(),
                expected_size=record.size,
                _tqdm_bar=bar,
            )
        if not _is_intact(partial, record, check=True):
            partial.unlink()
            raise BundleError(
                f"{found.repo_id}: {name} arrived damaged: its digest is not the one in {MANIFEST_FILE}. It was "
                "removed, and the next attempt fetches it anew; if that fails too, tell the owner of the repository"
            )
        LOG.debug("%s: %s has the digest it should have", found.repo_id, name)
        partial.replace(target)


def _remove(path: Path) -> None:
    """Remove a damaged file, and what it points to."""
    if path.is_symlink():
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.incomplete")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _check_possible(repo_id: str, folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Refuse now what would fail later, perhaps after a long download.

    Raises:
        BundleError: there are files to download, and the hub must not be asked or the disk has no room for them.
    """
    if not files:
        return
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise BundleError(
            f"{repo_id}: {', '.join(files)} ({readable_bytes(_size(files))}) are not here or damaged, and "
            "HF_HUB_OFFLINE is set; unset it to download them"
        )
    partials = (folder / f"{record.sha256}.incomplete" for record in files.values())
    n_bytes = _size(files) - sum(partial.stat().st_size for partial in partials if partial.exists())
    free = free_bytes(folder)
    if n_bytes > free:
        raise BundleError(
            f"{repo_id}: {readable_bytes(n_bytes)} are to be downloaded and {folder} has {readable_bytes(free)} free; "
            "free some space, or set HF_HOME to a folder on another disk"
        )


def _progress_bar(name: str, files: Mapping[str, FileRecord], *, quiet: bool) -> Any:
    """Return a bar of the hub's own kind, which users know how to turn off; it shows itself on a terminal only."""
    disable = True if quiet or not files else None
    return _hub_utils().tqdm(total=_size(files), unit="B", unit_scale=True, desc=name, disable=disable, leave=False)


def _hub_utils() -> Any:
    """Return `huggingface_hub.utils`, whose names are public in its documentation but not for type checkers."""
    return importlib.import_module("huggingface_hub.utils")


def _size(files: Mapping[str, FileRecord]) -> int:
    return sum(record.size for record in files.values())
