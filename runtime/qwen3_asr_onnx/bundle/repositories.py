"""Where a model to get lies: a folder of this machine, or a repository of the Hugging Face hub and its cache."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qwen3_asr_onnx.errors import BundleError

from .hub import ADAPTER_FILE, FOREIGN, explained, is_reachable, no_connection
from .manifest import MANIFEST_FILE, FileRecord
from .partials import remove_abandoned
from .transfers import (
    check_possible,
    hub_file,
    into_cache,
    known_record,
    missing,
    no_bars_of_small_files,
    remove_damaged,
    transfer_bar,
)
from .writing import readable_bytes

__all__ = ["FolderRepository", "HubRepository", "Repository", "open_hub_repository"]

LISTING = "the hub's list of files"


class Repository(Protocol):
    """What files are taken from."""

    @property
    def label(self) -> str:
        """What messages call it, and the store."""

    @property
    def name(self) -> str:
        """What the model is called there."""

    @property
    def commit(self) -> str:
        """What everything is taken from, even if a branch moves on meanwhile; "" where there are no commits."""

    @property
    def names(self) -> Collection[str]:
        """Every file it has at its top."""

    @property
    def hint(self) -> str:
        """What to add where a file is missed."""

    def fetch(self, names: Collection[str], *, quiet: bool) -> Path:
        """Return a folder of this machine with these files in it, whole and undamaged."""

    def left_behind(self) -> str | None:
        """Return what fetching left on this disk and how to remove it; None if that is nothing."""


@dataclass(frozen=True, slots=True)
class FolderRepository:
    """A folder of this machine.

    Attributes:
        folder: the folder.
        label: what the user calls it.
    """

    folder: Path
    label: str

    @property
    def name(self) -> str:
        """What the folder is called, links followed."""
        return self.folder.resolve().name

    @property
    def commit(self) -> str:
        """None."""
        return ""

    @property
    def names(self) -> Collection[str]:
        """What lies in it."""
        return frozenset(path.name for path in self.folder.iterdir())

    @property
    def hint(self) -> str:
        """The usual reason."""
        return "is the copy complete?"

    def fetch(self, names: Collection[str], *, quiet: bool) -> Path:  # noqa: ARG002 - nothing moves
        """Return the folder."""
        return self.folder

    def left_behind(self) -> str | None:
        """Return None: nothing was fetched."""
        return None


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A commit of a repository on the hub.

    Attributes:
        label: "owner/name".
        commit: the commit.
        folder: that commit's folder in the cache.
        large: file name -> size and digest, of those that the hub keeps by their digest; None when only the cache can
            be asked.
        small: name of any other file -> its id in git, "" where a mirror does not say it.
    """

    label: str
    commit: str
    folder: Path
    large: Mapping[str, FileRecord] | None
    small: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name without its owner."""
        return self.label.partition("/")[2]

    @property
    def names(self) -> Collection[str]:
        """Its files, or what the cache has of them."""
        if self.large is None:
            return frozenset(path.name for path in self.folder.iterdir())
        return self.large.keys() | self.small.keys()

    @property
    def hint(self) -> str:
        """The usual reason, which is another one where only the cache can be asked."""
        if self.large is None:
            return f"the cache has a part of it only ({self.folder}), and the hub cannot be reached: {no_connection()}"
        return "tell the owner of the repository"

    def fetch(self, names: Collection[str], *, quiet: bool) -> Path:
        """Return the folder in the cache, with these files in it.

        Raises:
            BundleError: a file cannot be fetched, or arrives damaged.
            LimitError: the disk is full.
        """
        if self.large is None:
            return self.folder
        large = {name: self.large[name] for name in names if name in self.large}
        lacking = missing(self.folder, large, check=True, quiet=quiet)
        check_possible(self.label, self._blobs, lacking)
        with explained(self.label, self.commit), transfer_bar(self.label, lacking, quiet=quiet) as bar:
            with no_bars_of_small_files():
                for name in sorted(set(names) & self.small.keys()):
                    self._fetch_small(name)
            for name, record in sorted(lacking.items()):
                into_cache(hub_file(self.label, self.commit, name, record, LISTING), self.commit, self.folder, bar)
        return self.folder

    def left_behind(self) -> str | None:
        """Return how much of the cache this repository takes, and how to free it."""
        n_bytes = sum(path.stat().st_size for path in self.folder.parent.parent.rglob("*") if not path.is_symlink())
        return (
            f"{readable_bytes(n_bytes)} of downloads stay in the cache of the hub ({self._blobs.parent}); "
            f"to free them: hf cache rm model/{self.label}"
        )

    @property
    def _blobs(self) -> Path:
        return self.folder.parent.parent / "blobs"

    def _fetch_small(self, name: str) -> None:
        import huggingface_hub

        path = Path(huggingface_hub.hf_hub_download(self.label, name, revision=self.commit))
        if self.small[name] and _git_id(path) != self.small[name]:
            remove_damaged(path)
            raise BundleError(
                f"{self.label}: {name} is damaged: its digest is not the one in {LISTING}. It was removed, and the "
                "next attempt fetches it anew; if that fails too, tell the owner of the repository"
            )


def open_hub_repository(repo_id: str, revision: str | None = None) -> HubRepository:
    """Return a repository of the hub, its config fetched; without a connection, what the cache has of it.

    Raises:
        BundleError: no such repository, no access, no connection and nothing in the cache; or it holds no model.
        MissingExtra: what getting models needs is not installed.
    """
    with explained(repo_id, revision, extra="get"):
        import huggingface_hub

        only_here = not is_reachable()
        with no_bars_of_small_files():
            folder = _first_file(repo_id, revision, only_here=only_here).parent
        remove_abandoned(folder.parent.parent / "blobs")
        if only_here:
            return HubRepository(repo_id, folder.name, folder, None, {})
        listing = huggingface_hub.HfApi().model_info(repo_id, revision=folder.name, files_metadata=True)
    large: dict[str, FileRecord] = {}
    small: dict[str, str] = {}
    for file in listing.siblings or ():
        sha256 = _sha256(file.lfs)
        if sha256 and file.size is not None:
            large[file.rfilename] = known_record(repo_id, file.rfilename, file.size, sha256)
        else:
            small[file.rfilename] = str(file.blob_id or "")
    return HubRepository(repo_id, folder.name, folder, large, small)


def _first_file(repo_id: str, revision: str | None, *, only_here: bool) -> Path:
    """Return what says of which kind the repository is."""
    import huggingface_hub
    from huggingface_hub import errors as hub_errors

    for name in (MANIFEST_FILE, ADAPTER_FILE):  # a checkpoint's and a bundle's have the same name
        try:
            return Path(huggingface_hub.hf_hub_download(repo_id, name, revision=revision, local_files_only=only_here))
        except hub_errors.EntryNotFoundError as error:
            if isinstance(error, hub_errors.LocalEntryNotFoundError) and (not only_here or name == ADAPTER_FILE):
                raise
    raise BundleError(
        f"{repo_id}: {FOREIGN}, checkpoint or adapter: it has no {MANIFEST_FILE} and no {ADAPTER_FILE}; check the name"
    )


def _sha256(lfs: Any) -> str:
    """Return the digest of a file that git does not keep itself; "" of one that it does."""
    found = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    return str(found or "")


def _git_id(path: Path) -> str:
    """Return by what name git keeps a small file."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
