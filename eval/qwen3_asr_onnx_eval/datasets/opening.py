"""What a user types for a dataset in, the `Dataset` out: the only place that knows every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.errors import OptionsError

from . import folders
from .dataset import Dataset
from .hub import read_hub_dataset
from .manifest import is_manifest, read_manifest
from .mini import MINI_SETS, read_mini, read_mini_clips

__all__ = ["DATASET_HELP", "KINDS", "Kind", "open_dataset"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of dataset.

    Attributes:
        read: a path, or for kinds that are not on disk what is typed after `KIND:` -> the dataset.
        recognises: whether a path whose kind is not typed is of this one; None for kinds that are not on disk.
        takes: which of `open_dataset`'s options `read` takes by keyword.
    """

    read: Callable[..., Dataset]
    recognises: Callable[[Path], bool] | None = None
    takes: tuple[str, ...] = ("default_language",)


KINDS = {
    "manifest": Kind(read_manifest, is_manifest, ("default_language", "by_segment")),
    "librispeech": Kind(folders.read_librispeech, folders.is_librispeech),
    "commonvoice": Kind(folders.read_common_voice, folders.is_common_voice),
    "fleurs": Kind(folders.read_fleurs, folders.is_fleurs),
    "folder": Kind(folders.read_folder, Path.is_dir),
    "hf": Kind(read_hub_dataset),
    "mini": Kind(read_mini, takes=("cache_dir",)),
}
"""The first that recognises a path reads it."""

DATASET_HELP = (
    "manifest.jsonl, a folder of audio with sibling .txt files, a LibriSpeech folder, a Common Voice or FLEURS TSV or "
    f"folder, hf:NAME[:CONFIG[:SPLIT]], mini, mini-clips, or mini:SET ({', '.join(MINI_SETS)}); "
    f"a kind can be forced: {', '.join(f'{name}:' for name, kind in KINDS.items() if kind.recognises)} (default: mini)"
)


def open_dataset(
    spec: str,
    *,
    default_language: str = "",
    by_segment: bool = False,
    cache_dir: Path = Path("build/eval/mini"),
) -> Dataset:
    """Return the dataset that `spec` names.

    Args:
        spec: see `DATASET_HELP`.
        default_language: of entries that name none.
        by_segment: take the segments of a manifest as utterances.
        cache_dir: where the miniature's clips are kept.

    Raises:
        OptionsError: no such dataset, or not of a known kind.
        MissingExtra: its reader needs a package.
    """
    if spec == "mini-clips":
        return read_mini_clips()
    name, _, rest = spec.partition(":")
    kind = KINDS.get(name) if rest or name == "mini" else None
    where: str | Path = rest if kind else spec
    if kind is None or kind.recognises:
        path = Path(where)
        if not path.exists():
            raise OptionsError(f"{where}: no such file or folder; a dataset is a {DATASET_HELP}")
        kind = kind or _kind_of(path)
        if by_segment and "by_segment" not in kind.takes:
            raise OptionsError(f"{where}: only a manifest has segments")
        where = path
    options = {"default_language": default_language, "by_segment": by_segment, "cache_dir": cache_dir}
    return kind.read(where, **{option: options[option] for option in kind.takes})


def _kind_of(path: Path) -> Kind:
    """Return the kind of a file or folder."""
    for kind in KINDS.values():
        if kind.recognises and kind.recognises(path):
            return kind
    raise OptionsError(f"{path}: not a kind of dataset that is known; a dataset is a {DATASET_HELP}")
