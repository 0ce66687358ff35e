"""What a user types for a dataset in, the `Dataset` out: the only place that knows every kind."""

from __future__ import annotations

from pathlib import Path

from qwen3_asr_onnx.errors import OptionsError

from .dataset import Dataset
from .folders import read_common_voice, read_fleurs, read_folder, read_librispeech
from .hub import read_hub_dataset
from .manifest import read_manifest
from .mini import MINI_SETS, read_mini, read_mini_clips

__all__ = ["DATASET_HELP", "open_dataset"]

DATASET_HELP = (
    "manifest.jsonl, a folder of audio with sibling .txt files, a LibriSpeech folder, a Common Voice or FLEURS TSV or "
    f"folder, hf:NAME[:CONFIG[:SPLIT]], mini, mini-clips, or mini:SET ({', '.join(MINI_SETS)}); "
    "a kind can be forced: manifest:, folder:, librispeech:, commonvoice:, fleurs: (default: mini)"
)

KINDS = ("manifest", "folder", "librispeech", "commonvoice", "fleurs", "hf", "mini")


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
    kind, _, rest = spec.partition(":")
    if kind not in KINDS or (kind != "mini" and not rest):
        kind, rest = ("", spec)
    if spec == "mini-clips":
        return read_mini_clips()
    if kind == "mini":
        return read_mini(rest, cache_dir)
    if kind == "hf":
        return read_hub_dataset(rest, default_language=default_language)
    path = Path(rest)
    if not path.exists():
        raise OptionsError(f"{rest}: no such file or folder; a dataset is a {DATASET_HELP}")
    kind = kind or _kind_of(path)
    if by_segment and kind != "manifest":
        raise OptionsError(f"{rest}: only a manifest has segments")
    if kind == "manifest":
        return read_manifest(path, default_language=default_language, by_segment=by_segment)
    readers = {
        "librispeech": read_librispeech,
        "commonvoice": read_common_voice,
        "fleurs": read_fleurs,
        "folder": read_folder,
    }
    return readers[kind](path, default_language=default_language)


def _kind_of(path: Path) -> str:
    """Return which reader fits a file or folder."""
    if path.suffix == ".jsonl":
        return "manifest"
    if path.is_dir() and next(path.rglob("*.trans.txt"), None) is not None:
        return "librispeech"
    table = path if path.suffix == ".tsv" else next(iter(sorted(path.glob("*.tsv"))), None) if path.is_dir() else None
    if table is not None:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            columns = set(file.readline().rstrip("\r\n").split("\t"))
        return "commonvoice" if {"path", "sentence"} <= columns else "fleurs"
    if path.is_dir():
        return "folder"
    raise OptionsError(f"{path}: not a kind of dataset that is known; a dataset is a {DATASET_HELP}")
