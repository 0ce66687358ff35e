"""A dataset of the Hugging Face hub, or a local copy of one, through the `datasets` package (an optional extra)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import MissingExtra, OptionsError

from .dataset import Dataset, DatasetBuilder, Utterance

__all__ = ["read_hub_dataset"]

TEXT_COLUMNS = ("text", "sentence", "raw_transcription", "transcription", "transcript", "normalized_text")
LANGUAGE_COLUMNS = ("language", "locale", "lang")
SPEAKER_COLUMNS = ("speaker_id", "client_id", "speaker")
ID_COLUMNS = ("id", "utterance_id", "file", "path")


@dataclass(frozen=True, slots=True)
class TableCell:
    """The audio of one row, read from the table when it is needed."""

    rows: Any
    index: int
    column: str

    def read(self) -> bytes | Path:
        """Return the stored file, or its path."""
        cell = self.rows[self.index][self.column]
        content: bytes | None = cell["bytes"]
        return content if content is not None else Path(cell["path"])


def read_hub_dataset(spec: str, *, default_language: str = "") -> Dataset:
    """Return one split of a dataset: NAME[:CONFIG[:SPLIT]], the split being test unless named.

    Args:
        spec: a hub name, a folder that `save_to_disk` wrote, or a folder that `load_dataset` understands.
        default_language: for tables without a language column.

    Raises:
        MissingExtra: the `datasets` package is not installed.
        OptionsError: no such dataset or split, or its columns are not those of speech.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtra("hf: needs the datasets package: pip install 'qwen3-asr-onnx[hf-datasets]'") from error
    name, _, rest = spec.partition(":")
    config, _, split = rest.partition(":")
    try:
        rows = _load(datasets, name, config or None, split or "test")
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise OptionsError(f"hf:{spec}: cannot be loaded: {error}") from error
    audio = next((key for key, kind in rows.features.items() if isinstance(kind, datasets.Audio)), None)
    text = next((key for key in TEXT_COLUMNS if key in rows.features), None)
    if audio is None or text is None:
        raise OptionsError(f"hf:{spec}: no audio column or no text column among {', '.join(rows.features)}")
    # The files are decoded by our own reader, as those of every other dataset.
    rows = rows.cast_column(audio, datasets.Audio(decode=False))
    builder = DatasetBuilder(f"hf:{spec}", default_language)
    labels = rows.remove_columns([audio])
    for index, row in enumerate(labels):
        where = f"hf:{spec} row {index}"
        if not isinstance(row[text], str):
            builder.problem(where, f"{text} is {row[text]!r}, not a string")
            continue
        builder.add(
            Utterance(
                _id(row, index),
                TableCell(rows, index, audio),
                row[text],
                _text(row, LANGUAGE_COLUMNS),
                where,
                speaker=_text(row, SPEAKER_COLUMNS),
            )
        )
    return builder.build()


def _load(datasets: Any, name: str, config: str | None, split: str) -> Any:
    if (Path(name) / "dataset_dict.json").exists():
        found = datasets.load_from_disk(name)
        if split not in found:
            raise OptionsError(f"{name}: no split {split!r}; there are: {', '.join(found)}")
        return found[split]
    if (Path(name) / "state.json").exists():
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name, config, split=split)


def _text(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    """Return the first of the columns as text; "" where there is none."""
    return str(next((row[name] for name in columns if row.get(name) is not None), ""))


def _id(row: dict[str, Any], index: int) -> str:
    """Return the row's own id with its number: ids of sentences repeat from recording to recording."""
    named = _text(row, ID_COLUMNS)
    return f"{index}:{named}" if named else str(index)
