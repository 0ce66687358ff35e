"""A bundle in, a folder to publish out: an archive a variant and layout, their digests, and a model card."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.leftovers import workplace
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.pull import restricted
from qwen3_asr_onnx.bundle.writing import atomic_directory, require_space
from qwen3_asr_onnx.commands.console import progress_bar
from qwen3_asr_onnx.errors import BundleError, OptionsError

from .archives import PART_BYTES, Content, write_archive
from .card import CARD_FILE, Packed, model_card
from .folder import SUMS_FILE

__all__ = ["BUNDLE", "package_bundle"]

BUNDLE = "bundle"
"""The layout of this project itself."""

WriteLayout = Callable[[Path, Path, str, str], None]
"""Puts a variant of a bundle into a new folder, in a layout."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One archive: what it is called, what its files lie in, and where they are."""

    name: str
    variant: str
    layout: str
    files: Mapping[str, Content]

    @property
    def n_bytes(self) -> int:
        return sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in self.files.values())


def package_bundle(
    bundle_dir: Path,
    output: Path,
    *,
    variants: Sequence[str] = (),
    layouts: Sequence[str] = (BUNDLE,),
    write_layout: WriteLayout | None = None,
    compression: str = "tar.zst",
    part_bytes: int = PART_BYTES,
    base_model: str = "",
    measured: str = "",
    overwrite: bool = False,
    progress: bool = False,
) -> list[Path]:
    """Make a folder of what is published of a bundle: the same bundle gives the same bytes.

    Args:
        bundle_dir: the bundle, whose files are compared with its manifest first.
        output: the directory to create. It appears when all of it is there.
        variants: names of variants; none for all.
        layouts: "bundle", and names of other programs' layouts, which `write_layout` makes.
        write_layout: called with the bundle, a folder to create, a layout and a variant.
        compression: one of `archives.FORMATS`.
        part_bytes: most bytes of a file; what is larger is cut into parts.
        base_model: hub id of the checkpoint, for the card; "" for what the manifest says.
        measured: Markdown of measured results, for the card.
        overwrite: replace `output` if it exists.
        progress: show a progress bar, where stderr is a terminal.

    Returns:
        What is in the folder.

    Raises:
        BundleError: the bundle is not usable, or damaged; `output` is occupied.
        OptionsError: no such variant, or a layout that cannot express one.
        LimitError: not enough disk space.
        MissingExtra: a package is not installed.
    """
    bundle = Bundle.open(bundle_dir)
    names = [*dict.fromkeys(variants or bundle.manifest.variants)]
    _check_intact(bundle, names)
    with (
        atomic_directory(output, overwrite=overwrite) as folder,
        workplace(output.parent, output.name) as place,
    ):
        packed: list[Packed] = []
        sums: dict[str, str] = {}
        for layout, variant in itertools.product(dict.fromkeys(layouts), names):
            if layout == BUNDLE:
                files = _files_of(bundle, variant)
            else:
                assert write_layout is not None
                write_layout(bundle_dir, place.partial / layout / variant, layout, variant)
                files = _files_in(place.partial / layout / variant)
            wanted = _Wanted(_name(bundle, variant, layout), variant, layout, files)
            require_space(folder, wanted.n_bytes, "the archive", "choose another disk")
            parts = _pack(wanted, folder / f"{wanted.name}.{compression}", part_bytes, progress=progress)
            sums |= {path.name: digest for path, digest in parts.items()}
            sizes = {path.name: path.stat().st_size for path in parts}
            packed.append(Packed(wanted.name, variant, layout, sizes, wanted.n_bytes))
        (folder / SUMS_FILE).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), encoding="ascii")
        card = model_card(bundle.manifest, packed, base_model=base_model, measured=measured)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return sorted(output.iterdir())


def _check_intact(bundle: Bundle, names: Sequence[str]) -> None:
    """Raise unless the bundle has these variants, whole and undamaged."""
    for name in names:
        if name not in bundle.manifest.variants:
            known = ", ".join(bundle.manifest.variants) or "none"
            raise OptionsError(f"{bundle.path}: no variant {name!r}; this bundle has: {known}")
    for file in dict.fromkeys(file for name in names for file in _file_names(bundle, name)):
        bundle.require(file, digest=True)


def _file_names(bundle: Bundle, variant: str) -> list[str]:
    """Return what a variant reads, and what belongs to no variant."""
    own = set(bundle.manifest.variants[variant].files)
    others = {file for one in bundle.manifest.variants.values() for file in one.files} - own
    return [name for name in bundle.manifest.files if name not in others]


def _files_of(bundle: Bundle, variant: str) -> dict[str, Content]:
    """Return the files of a bundle with this variant alone."""
    records = {name: bundle.manifest.files[name] for name in _file_names(bundle, variant)}
    manifest = restricted(bundle.manifest, [variant], records).to_json().encode()
    return {**{name: bundle.path / name for name in records}, MANIFEST_FILE: manifest}


def _files_in(folder: Path) -> dict[str, Content]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _name(bundle: Bundle, variant: str, layout: str) -> str:
    return "-".join([bundle.manifest.name, variant, *([] if layout == BUNDLE else [layout])])


def _pack(wanted: _Wanted, target: Path, part_bytes: int, *, progress: bool) -> dict[Path, str]:
    with progress_bar(total=wanted.n_bytes, unit="B", scale=True, quiet=not progress) as bar:
        try:
            return write_archive(wanted.files, wanted.name, target, part_bytes=part_bytes, progress=bar.update)
        except FileNotFoundError as error:
            raise BundleError(f"{error.filename}: it went away while it was packed") from error
