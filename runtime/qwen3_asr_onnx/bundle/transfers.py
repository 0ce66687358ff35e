"""Files of known size and digest on a hub in, checked files on this disk out; what was interrupted is gone on with.

A file is downloaded under the name of its digest and takes its place only when the digest is right: a damaged one never
gets into the cache. (huggingface_hub itself checks sizes only, and from version 2 on it throws unfinished files away.)
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from qwen3_asr_onnx.errors import BundleError

from .files import file_record
from .manifest import FileRecord
from .partials import download_locks
from .writing import free_bytes, readable_bytes

__all__ = [
    "Bar",
    "Remote",
    "check_possible",
    "copy_file",
    "download",
    "etag_of",
    "hub_file",
    "into_cache",
    "is_intact",
    "known_record",
    "missing",
    "no_bars_of_small_files",
    "remove_damaged",
    "total_size",
    "transfer_bar",
]

LOG = logging.getLogger(__name__)

_ETAG = re.compile(r"[0-9A-Za-z_-]{1,128}")

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Bar(Protocol):
    """What downloads and checks do with a progress bar; units are bytes."""

    def update(self, n: float = 1) -> object:
        """Move the bar by `n` bytes."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One file of a repository, of which it is known what it holds.

    Attributes:
        owner: the repository, for messages.
        name: of the file.
        url: where it is.
        record: its size and digest.
        listed_in: what says so.
        headers: to send along, credentials among them.
    """

    owner: str
    name: str
    url: str
    record: FileRecord
    listed_in: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def known_record(owner: str, name: str, size: object, sha256: object) -> FileRecord:
    """Return what a list of files says of one; the digest becomes the name of a file, so it is looked at.

    Raises:
        BundleError: it is no size, or no digest.
    """
    if not isinstance(size, int) or size < 0 or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise BundleError(
            f"{owner}: its list of files says of {name[:80]!r} what is no size and digest; tell its owner"
        )
    return FileRecord(size, sha256.lower())


def hub_file(repo_id: str, commit: str, name: str, record: FileRecord, listed_in: str) -> Remote:
    """Return a file of the Hugging Face hub."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repo_id, name, revision=commit)
    return Remote(repo_id, name, url, record, listed_in, _hub_utils().build_hf_headers())


def missing(folder: Path, needed: Mapping[str, FileRecord], *, check: bool, quiet: bool) -> dict[str, FileRecord]:
    """Return the files that are absent, of another size, or, with `check`, of another digest."""
    if not check:
        return {name: record for name, record in needed.items() if not is_intact(folder / name, record, check=False)}
    there = {name: record for name, record in needed.items() if (folder / name).exists()}
    with transfer_bar("checking", there, quiet=quiet) as bar:
        intact = {name for name, record in there.items() if is_intact(folder / name, record, check=True, bar=bar)}
    return {name: record for name, record in needed.items() if name not in intact}


def is_intact(path: Path, record: FileRecord, *, check: bool, bar: Bar | None = None) -> bool:
    """Return whether a file has its size and, with `check`, its digest."""
    if not path.is_file() or path.stat().st_size != record.size:
        return False
    return not check or file_record(path, bar.update if bar else None).sha256 == record.sha256


def etag_of(remote: Remote) -> str:
    """Return the name under which the hub's cache keeps a file's content, once the hub has the file that is meant.

    Raises:
        BundleError: it has not, or gives it a name that is no digest.
    """
    from huggingface_hub import errors as hub_errors
    from huggingface_hub import get_hf_file_metadata

    try:
        metadata = get_hf_file_metadata(remote.url)
    except hub_errors.EntryNotFoundError as error:
        raise BundleError(
            f"{remote.owner}: {remote.listed_in} names {remote.name}, which is not in the repository; tell its owner"
        ) from error
    if metadata.size not in (None, remote.record.size) or not metadata.etag:
        raise BundleError(
            f"{remote.owner}: {remote.name} has {metadata.size} bytes on the hub, {remote.record.size} in "
            f"{remote.listed_in}; the repository is damaged, tell its owner"
        )
    etag = str(metadata.etag)
    if not _ETAG.fullmatch(etag):  # it becomes the name of a file
        raise BundleError(f"{remote.owner}: the hub gives {remote.name} the ETag {etag[:80]!r}, which is no digest")
    return etag


def into_cache(remote: Remote, commit: str, folder: Path, bar: Bar) -> None:
    """Put a file of the hub into its cache.

    Args:
        remote: the file.
        commit: of which commit it is.
        folder: that commit's folder in the cache.
        bar: moved as it is downloaded.

    Raises:
        BundleError: the hub has another file, or it arrives damaged.
    """
    import huggingface_hub
    from huggingface_hub.file_download import are_symlinks_supported

    place = folder / remote.name
    etag = etag_of(remote)
    content = folder.parent.parent / "blobs" / etag if are_symlinks_supported(folder.parents[2]) else place
    if not is_intact(place, remote.record, check=True):  # another process may have put it there by now
        remove_damaged(place)
    if not is_intact(content, remote.record, check=True):
        download(remote, content, bar)
    # The content is there, so the snapshot is only made to point to it.
    huggingface_hub.hf_hub_download(remote.owner, remote.name, revision=commit)


def download(remote: Remote, target: Path, bar: Bar) -> None:
    """Put a file at `target` when all of it is there and its digest is right; go on where an earlier attempt stopped.

    Raises:
        BundleError: the content is not what it should be; it has been removed.
    """
    from huggingface_hub.file_download import http_get

    record = remote.record
    target.parent.mkdir(parents=True, exist_ok=True)
    # The name that huggingface_hub before version 2 gives to an unfinished download of the same content.
    partial = target.with_name(f"{record.sha256}.incomplete")
    lock = download_locks() / f"{record.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _hub_utils().WeakFileLock(lock):
        if is_intact(target, record, check=False):  # another process was faster
            bar.update(record.size)
            return
        n_bytes = partial.stat().st_size if partial.exists() else 0
        told = (remote.owner, remote.name, record.size, n_bytes)
        LOG.info("%s: %s of %d bytes, %d of them from an earlier attempt", *told)
        if n_bytes > record.size:
            partial.unlink()
            n_bytes = 0
        bar.update(n_bytes)
        with partial.open("ab") as file:
            http_get(
                remote.url,
                file,
                resume_size=n_bytes,
                headers=dict(remote.headers),
                expected_size=record.size,
                _tqdm_bar=bar,
            )
        if not is_intact(partial, record, check=True):
            partial.unlink()
            raise BundleError(
                f"{remote.owner}: {remote.name} arrived damaged: its digest is not the one in {remote.listed_in}. It "
                "was removed, and the next attempt fetches it anew; if that fails too, tell the owner of the repository"
            )
        LOG.debug("%s: %s has the digest it should have", remote.owner, remote.name)
        partial.replace(target)


def remove_damaged(path: Path) -> None:
    """Remove a damaged file, and what it points to."""
    if path.is_symlink():
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, so that `target` is whole or not there."""
    partial = target.with_name(f"{target.name}.incomplete")
    shutil.copyfile(source, partial)
    partial.replace(target)


def check_possible(owner: str, folder: Path, files: Mapping[str, FileRecord], remedy: str = "") -> None:
    """Refuse now what would fail later, perhaps after a long download.

    Args:
        owner: the repository, for messages.
        folder: where the files will lie.
        files: those to download.
        remedy: what to do where the disk has no room, other than to make some.

    Raises:
        BundleError: there are files to download, and the hub must not be asked or the disk has no room for them.
    """
    if not files:
        return
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise BundleError(
            f"{owner}: {', '.join(files)} ({readable_bytes(total_size(files))}) are not here or damaged, and "
            "HF_HUB_OFFLINE is set; unset it to download them"
        )
    partials = (folder / f"{record.sha256}.incomplete" for record in files.values())
    n_bytes = total_size(files) - sum(partial.stat().st_size for partial in partials if partial.exists())
    free = free_bytes(folder)
    if n_bytes > free:
        raise BundleError(
            f"{owner}: {readable_bytes(n_bytes)} are to be downloaded and {folder} has {readable_bytes(free)} free; "
            f"free some space, or {remedy or 'set HF_HOME to a folder on another disk'}"
        )


def transfer_bar(name: str, files: Mapping[str, FileRecord], *, quiet: bool) -> Any:
    """Return a bar of the hub's own kind, which users know how to turn off; it shows itself on a terminal only."""
    disable = True if quiet or not files else None
    return _hub_utils().tqdm(
        total=total_size(files), unit="B", unit_scale=True, desc=name, disable=disable, leave=False
    )


@contextlib.contextmanager
def no_bars_of_small_files() -> Iterator[None]:
    """Keep huggingface_hub from leaving a bar on the terminal for every file of a few kilobytes."""
    from huggingface_hub import constants

    utils, group = _hub_utils(), "huggingface_hub.http_get"
    # Where the variable decides, huggingface_hub does not let programs change it.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled(group):
        yield
        return
    utils.disable_progress_bars(group)
    try:
        yield
    finally:
        utils.enable_progress_bars(group)


def total_size(files: Mapping[str, FileRecord]) -> int:
    """Return the bytes of files together."""
    return sum(record.size for record in files.values())


def _hub_utils() -> Any:
    """Return `huggingface_hub.utils`, whose names are public in its documentation but not for type checkers."""
    return importlib.import_module("huggingface_hub.utils")
