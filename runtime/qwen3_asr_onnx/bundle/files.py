"""The files of a bundle: present, of the right size, unchanged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.errors import BundleError

from .json_text import read_regular_text, require_regular
from .manifest import MANIFEST_FILE, TOKENIZER_FILE, FileRecord, Manifest, Variant

__all__ = ["Bundle", "file_record"]

HASH_BLOCK_BYTES = 1 << 22

CHANGED = "contents differ from the manifest's sha256 (damaged or edited)"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle directory whose manifest has been read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read the manifest of the bundle at `path`.

        Raises:
            BundleError: the directory or its manifest is missing or damaged.
        """
        directory = Path(path)
        try:
            if not directory.is_dir():
                what = "is a file" if directory.exists() else "does not exist"
                raise BundleError(f"{directory} {what}; give the directory that `qwen3-asr-onnx export` wrote")
        except OSError as error:
            raise BundleError(f"{directory}: cannot be looked into ({error.strerror})") from error
        manifest = directory / MANIFEST_FILE
        try:
            text = read_regular_text(manifest)
        except FileNotFoundError as error:
            raise BundleError(f"{directory}: no {MANIFEST_FILE}, so this is not a bundle") from error
        return cls(directory, Manifest.from_json(text, manifest))

    def variant(self, name: str) -> Variant:
        """Return the variant called `name`, with its files known to exist in the right size.

        Raises:
            BundleError: no such variant, or one of its files is missing or truncated.
        """
        try:
            variant = self.manifest.variants[name]
        except KeyError as error:
            known = ", ".join(self.manifest.variants) or "none"
            raise BundleError(f"{self.path}: no variant {name!r}; this bundle has: {known}") from error
        for file in (*variant.files, TOKENIZER_FILE):
            self.require(file)
        return variant

    def require(self, file: str, *, digest: bool = False) -> Path:
        """Return the path of a file of this bundle, checked for presence and size.

        Args:
            file: its name.
            digest: compare its contents too. Graphs and the tokenizer are small, and one wrong byte in them means
                another model; weights are what `verify` is for.

        Raises:
            BundleError: the file is missing, no regular file, not listed, or not what the manifest says.
        """
        record = self.manifest.files.get(file)
        if record is None:
            raise BundleError(
                f"{self.path}: {file} is not listed in {MANIFEST_FILE}; export or download the bundle again"
            )
        path = self.path / file
        try:
            size = require_regular(path).st_size
        except FileNotFoundError as error:
            raise BundleError(f"{path}: missing; export or download the bundle again") from error
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error})") from error
        if size != record.size:
            raise BundleError(
                f"{path}: {size} bytes, the manifest says {record.size} (truncated or replaced); "
                "export or download the bundle again"
            )
        if digest and self._has_changed(path, record):
            raise BundleError(f"{path}: {CHANGED}; export or download the bundle again")
        return path

    @staticmethod
    def _has_changed(path: Path, record: FileRecord, progress: Callable[[int], object] | None = None) -> bool:
        try:
            return file_record(path, progress).sha256 != record.sha256
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error})") from error

    def not_here(self) -> set[str]:
        """Return the files that are missing where nobody misses them: a download brings the variants asked for.

        They are those that no variant reads, and those of a variant of which nothing is here but what it shares with
        one that is complete.
        """
        missing = {name for name in self.manifest.files if not _is_there(self.path / name)}
        needed = [{*variant.files, TOKENIZER_FILE} for variant in self.manifest.variants.values()]
        here = set[str]().union(*(names for names in needed if not names & missing))
        missed = set[str]().union(*(names for names in needed if not here or not names - here <= missing))
        return missing - missed

    def verify(self, progress: Callable[[int], object] | None = None) -> list[str]:
        """Compare every listed file with its size and sha256.

        Args:
            progress: called with the number of bytes just hashed.

        Returns:
            One sentence per damaged or missing file; empty when all is well. Files that are `not_here` are well.
        """
        problems = []
        not_here = self.not_here()
        for file, record in self.manifest.files.items():
            if file in not_here:
                continue
            try:
                if self._has_changed(self.require(file), record, progress):
                    problems.append(f"{self.path / file}: {CHANGED}")
            except BundleError as error:
                problems.append(str(error))
        return problems


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()  # a link that leads nowhere is a fault
    except OSError:
        return True  # it cannot be looked at, which is another fault


def file_record(path: Path, progress: Callable[[int], object] | None = None) -> FileRecord:
    """Return the size and sha256 of a file, reading it in blocks."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
            size += len(block)
            if progress is not None:
                progress(len(block))
    return FileRecord(size, digest.hexdigest())
