"""Public datasets as they lie on disk: LibriSpeech, Common Voice, FLEURS, and audio with sibling .txt files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from qwen3_asr_onnx.audio.loading import AUDIO_SUFFIXES
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.text.languages import resolve_language

from .dataset import Dataset, DatasetBuilder, Utterance

__all__ = [
    "is_common_voice",
    "is_fleurs",
    "is_librispeech",
    "read_common_voice",
    "read_fleurs",
    "read_folder",
    "read_librispeech",
]

COMMON_VOICE_LOCALES = {"zh-HK": "Cantonese"}
"""Where Common Voice's locale is not the language tag it looks like: its zh-HK is spoken Cantonese."""

FLEURS_COLUMNS = 4
"""id, file name, raw transcription, normalised transcription; then characters, samples, gender."""

FLEURS_SPLITS = ("test", "dev", "train")
COMMON_VOICE_SPLITS = ("test", "dev", "validated", "train")


def is_librispeech(path: Path) -> bool:
    """Return whether a folder holds LibriSpeech's lists."""
    return path.is_dir() and next(path.rglob("*.trans.txt"), None) is not None


def is_common_voice(path: Path) -> bool:
    """Return whether a TSV, or the first of a folder, has Common Voice's columns."""
    return {"path", "sentence"} <= _columns(path)


def is_fleurs(path: Path) -> bool:
    """Return whether a path is a TSV, or a folder with one, that is not Common Voice's: FLEURS names no columns."""
    return bool(_columns(path)) and not is_common_voice(path)


def read_librispeech(folder: Path, *, default_language: str = "English") -> Dataset:
    """Return a LibriSpeech folder: SPEAKER-CHAPTER.trans.txt with `ID TEXT` lines beside ID.flac files.

    Raises:
        OptionsError: no *.trans.txt below the folder.
    """
    builder = DatasetBuilder(folder.name, default_language)
    lists = sorted(folder.rglob("*.trans.txt"))
    if not lists:
        raise OptionsError(f"{folder}: no *.trans.txt in it; give a folder such as LibriSpeech/test-clean")
    for path in lists:
        # test-clean/61/70968/61-70968.trans.txt: the part is what stands above speaker and chapter.
        parts = path.relative_to(folder).parts
        subset = parts[-4] if len(parts) > 3 else ""
        for number, line in _lines(path):
            where = f"{path}:{number}"
            name, _, text = line.partition(" ")
            if not text.strip():
                builder.problem(where, f"{name!r} has no text")
                continue
            audio = next((f for f in (path.parent / f"{name}{s}" for s in (".flac", ".wav")) if f.exists()), None)
            builder.add(
                Utterance(
                    name,
                    audio or path.parent / f"{name}.flac",
                    text.strip(),
                    "English",
                    where,
                    subset=subset,
                    speaker=name.partition("-")[0],
                )
            )
    return builder.build()


def read_common_voice(path: Path, *, default_language: str = "") -> Dataset:
    """Return a Common Voice split: a TSV with `path`, `sentence` and `locale` beside the folder clips.

    Args:
        path: the TSV, or the folder of a language, whose test.tsv is taken.
        default_language: for releases whose TSV has no locale.

    Raises:
        OptionsError: no such TSV, or not Common Voice's columns.
    """
    table = _split_in(path, COMMON_VOICE_SPLITS) if path.is_dir() else path
    builder = DatasetBuilder(f"{table.parent.name}/{table.stem}", default_language)
    lines = _lines(table)
    header = next(lines, (0, ""))[1].split("\t")
    if not {"path", "sentence"} <= set(header):
        raise OptionsError(f"{table}: no columns path and sentence in its first line; is it Common Voice's TSV?")
    for number, line in lines:
        where = f"{table}:{number}"
        cells = line.split("\t")
        if len(cells) != len(header):
            builder.problem(where, f"{len(cells)} columns where the header has {len(header)}")
            continue
        row = dict(zip(header, cells, strict=True))
        locale = row.get("locale", "")
        language = COMMON_VOICE_LOCALES.get(locale, locale)
        audio = table.parent / "clips" / row["path"]
        builder.add(Utterance(row["path"], audio, row["sentence"], language, where, speaker=row.get("client_id", "")))
    return builder.build()


def read_fleurs(path: Path, *, default_language: str = "") -> Dataset:
    """Return a FLEURS split: de_de/test.tsv with recordings in de_de/audio/test or de_de/test.

    References are the raw transcriptions, with case and punctuation. A sentence has several recordings, so the name of
    the recording is the id.

    Args:
        path: the TSV, or the folder of a language, whose test.tsv is taken.
        default_language: overrides the language that the folder is named after.

    Raises:
        OptionsError: no such TSV, or a folder named after no known language.
    """
    table = _split_in(path, FLEURS_SPLITS) if path.is_dir() else path
    language = resolve_language(default_language or table.parent.name)
    builder = DatasetBuilder(f"{table.parent.name}/{table.stem}", language)
    folders = (table.parent / "audio" / table.stem, table.parent / table.stem)
    recordings = next((folder for folder in folders if folder.is_dir()), folders[0])
    for number, line in _lines(table):
        where = f"{table}:{number}"
        cells = line.split("\t")
        if len(cells) < FLEURS_COLUMNS:
            builder.problem(where, f"{len(cells)} columns; FLEURS has id, file name, raw transcription, transcription")
            continue
        name = cells[1]
        builder.add(Utterance(Path(name).stem, recordings / name, cells[2], language, where))
    return builder.build()


def read_folder(folder: Path, *, default_language: str = "") -> Dataset:
    """Return a folder (searched to the bottom) of audio files, each with its text in a sibling .txt file.

    An empty .txt means that nobody speaks. The first folder level is the subset.

    Raises:
        OptionsError: no audio in the folder.
    """
    builder = DatasetBuilder(folder.name or str(folder), default_language)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    audio = [path for path in paths if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise OptionsError(f"{folder}: no audio file in it; give audio files, each with its text in a sibling .txt")
    for path in audio:
        relative = path.relative_to(folder)
        text_file = path.with_suffix(".txt")
        if not text_file.exists():
            builder.problem(str(path), f"no {text_file.name} beside it with its text")
            continue
        subset = relative.parts[0] if len(relative.parts) > 1 else ""
        text = "\n".join(line for _, line in _lines(text_file)).strip()
        builder.add(Utterance(relative.as_posix(), path, text, "", str(path), subset=subset))
    heard = {path.with_suffix("") for path in audio}
    for path in paths:
        if path.suffix == ".txt" and path.with_suffix("") not in heard:
            builder.problem(str(path), "no audio file beside it")
    return builder.build()


def _columns(path: Path) -> set[str]:
    """Return the cells of the first line of a TSV, or of the first TSV in a folder; empty where there is none."""
    table = path if path.suffix == ".tsv" else min(path.glob("*.tsv"), default=None) if path.is_dir() else None
    if table is None:
        return set()
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        return set(file.readline().rstrip("\r\n").split("\t"))


def _split_in(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / f"{name}.tsv" for name in names if (folder / f"{name}.tsv").exists()), None)
    if found is None:
        raise OptionsError(f"{folder}: none of {', '.join(f'{name}.tsv' for name in names)} in it; name the TSV itself")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line that is not blank. Only line feeds end one: texts may hold other breaks."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")
