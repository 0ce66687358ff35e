"""A folder in; what of it is for others out, and that none of it is damaged.

It is a bundle, the files of another program's layout, or archives with their `SHA256SUMS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.json_text import read_regular_text, require_regular
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE, TOKENIZER_FILE, Manifest
from qwen3_asr_onnx.errors import BundleError

from .identity import Identity, read_identity

__all__ = ["SUMS_FILE", "PublishedFolder", "open_folder"]

SUMS_FILE = "SHA256SUMS"

_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")

LEFTOVERS = (".incomplete", ".partial", ".part", ".tmp", ".lock", "~")
"""How the names end of what an interrupted program, or an editor, leaves behind. What is hidden stays here too."""

CACHES = frozenset({"__pycache__"})


@dataclass(frozen=True, slots=True)
class PublishedFolder:
    """What is to be published.

    Attributes:
        path: the folder.
        files: name in the repository, with slashes -> the file, in the order of the names.
        sizes: name -> bytes.
        changed_ns: name -> when it was last changed.
        identity: what its `config.json` says; None without one.
        bundle: the bundle that it is, None if it is something else.
        sums: name -> sha256 of what `SHA256SUMS` lists.
    """

    path: Path
    files: Mapping[str, Path]
    sizes: Mapping[str, int]
    changed_ns: Mapping[str, int]
    identity: Identity | None
    bundle: Bundle | None = None
    sums: Mapping[str, str] = field(default_factory=dict)

    def vouched_for(self) -> set[str]:
        """Return the files whose digests it brings: those that `verified` reads."""
        listed = set() if self.bundle is None else set(self.bundle.manifest.files)
        return (listed | self.sums.keys()) & self.files.keys()

    def verified(self, progress: Callable[[int], object] | None = None) -> dict[str, str]:
        """Return name -> sha256 of the files whose digests it brings, once each is known to be right.

        Args:
            progress: called with the number of bytes just hashed.

        Raises:
            BundleError: a file is damaged, or lacks where another needs it.
        """
        digests: dict[str, str] = {}
        problems = []
        if self.bundle is not None:
            bundle = self.bundle
            problems = [*bundle.verify(progress), *_unlisted(bundle.manifest, self.path)]
            digests = {name: record.sha256 for name, record in bundle.manifest.files.items() if name in self.files}
        for name, sha256 in self.sums.items():
            if name not in self.files:
                problems.append(f"{self.path / name}: missing, {SUMS_FILE} lists it")
            elif digests.get(name) != sha256 and file_record(self.files[name], progress).sha256 != sha256:
                problems.append(f"{self.path / name}: contents differ from {SUMS_FILE} (damaged or edited)")
            digests[name] = sha256
        if problems:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise BundleError(f"{problems[0]}{others}; nothing was sent")
        return digests

    def require_unchanged(self, name: str) -> Path:
        """Return a file that nobody has changed since it was looked at.

        Raises:
            BundleError: somebody has.
            OSError: it is gone.
        """
        path = self.files[name]
        state = path.stat()
        if (state.st_size, state.st_mtime_ns) != (self.sizes[name], self.changed_ns[name]):
            raise BundleError(
                f"{path}: was changed after it was checked; run the same command again when it is finished"
            )
        return path


def open_folder(path: Path) -> PublishedFolder:
    """Return what there is to publish in a folder; its `config.json` and `SHA256SUMS` are read, and nothing is hashed.

    Raises:
        BundleError: there is no such folder, it is none of those that can be published, its manifest or `SHA256SUMS` is
            damaged, or what lies in it is no file.
    """
    if not path.is_dir():
        raise BundleError(f"{path}: no such folder; give a bundle, or what export --layout or package wrote")
    manifest = path / MANIFEST_FILE
    identity = read_identity(manifest) if manifest.exists() else None
    if identity is not None and identity.form in ("checkpoint", "other"):
        make = "; make a bundle of it: qwen3-asr-onnx export" if identity.form == "checkpoint" else ""
        raise BundleError(f"{path}: this is {identity}, and not what was made of it here{make}")
    if identity is None and not (path / SUMS_FILE).is_file() and not any(path.glob("*.onnx")):
        raise BundleError(
            f"{path}: no {MANIFEST_FILE}, no .onnx file and no {SUMS_FILE}: neither a bundle, nor what export --layout "
            "or package wrote"
        )
    files = dict(sorted(_files(path, "")))
    states = {name: file.stat() for name, file in files.items()}
    return PublishedFolder(
        path,
        files,
        sizes={name: state.st_size for name, state in states.items()},
        changed_ns={name: state.st_mtime_ns for name, state in states.items()},
        identity=identity,
        bundle=Bundle.open(path) if identity is not None and identity.form == "bundle" else None,
        sums=_sums(files[SUMS_FILE]) if SUMS_FILE in files else {},
    )


def _files(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield name and path of all that is for others.

    Raises:
        BundleError: something is no regular file, nor a folder of this one.
    """
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name.endswith(LEFTOVERS) or path.name in CACHES:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, f"{prefix}{path.name}/")
            continue
        try:
            require_regular(path)
        except FileNotFoundError as error:
            raise BundleError(f"{path}: a link that leads nowhere; remove it, or put back what it led to") from error
        yield f"{prefix}{path.name}", path


def _sums(path: Path) -> dict[str, str]:
    """Return name -> sha256, as `sha256sum` writes and reads it."""
    sums = {}
    for line in read_regular_text(path).splitlines():
        match = _SUM.fullmatch(line)
        if match is None:
            raise BundleError(f"{path}: {line[:80]!r} is no digest and name; package again")
        sums[match[2].removeprefix("./")] = match[1].lower()
    return sums


def _unlisted(manifest: Manifest, folder: Path) -> list[str]:
    """Return a sentence for each file that a variant reads and the manifest does not list."""
    needed = dict.fromkeys(name for variant in manifest.variants.values() for name in variant.files)
    absent = [name for name in (*needed, TOKENIZER_FILE) if name not in manifest.files]
    return [f"{folder / name}: needed by a variant, not listed in {MANIFEST_FILE}" for name in absent]
