"""The files of a bundle: present, of the right size, unchanged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.errors import BundleError

from .manifest import MANIFEST_FILE, TOKENIZER_FILE, FileRecord, Manifest, Variant

__all__ = ["Bundle", "file_record"]

HASH_BLOCK_BYTES = 1 << 22


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
        if not directory.is_dir():
            what = "is a file" if directory.exists() else "does not exist"
            raise BundleError(f"{directory} {what}; give the directory that `qwen3-asr-onnx export` wrote")
        manifest = directory / MANIFEST_FILE
        try:
            text = manifest.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise BundleError(f"{directory}: no {MANIFEST_FILE}, so this is not a bundle") from error
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{manifest}: cannot be read ({error})") from error
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

    def require(self, file: str) -> Path:
        """Return the path of a file of this bundle, checked for presence and size.

        Raises:
            BundleError: the file is missing, not listed, or has another size than the manifest says.
        """
        record = self.manifest.files.get(file)
        if record is None:
            raise BundleError(
                f"{self.path}: {file} is not listed in {MANIFEST_FILE}; export or download the bundle again"
            )
        path = self.path / file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path}: missing; export or download the bundle again") from error
        if size != record.size:
            raise BundleError(
                f"{path}: {size} bytes, the manifest says {record.size} (truncated or replaced); "
                "export or download the bundle again"
            )
        return path

    def verify(self, progress: Callable[[int], object] | None = None) -> list[str]:
        """Compare every listed file with its size and sha256.

        Args:
            progress: called with the number of bytes just hashed.

        Returns:
            One sentence per damaged or missing file; empty when all is well.
        """
        problems = []
        for file, record in self.manifest.files.items():
            try:
                digest = file_record(self.require(file), progress).sha256
            except BundleError as error:
                problems.append(str(error))
                continue
            except OSError as error:
                problems.append(f"{self.path / file}: cannot be read ({error})")
                continue
            if digest != record.sha256:
                problems.append(f"{self.path / file}: contents differ from the manifest's sha256 (damaged or edited)")
        return problems


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
