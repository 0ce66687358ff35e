"""The miniature's own test sets: regenerated from their seeds in a clone, with hashes, and kept for the next run.

The clips are made by the script folder `eval/mini`, which is no part of the wheel: they need the voices of Debian
packages. From an installed wheel these names say so instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.commands.console import progress_bar
from qwen3_asr_onnx.errors import MissingExtra, OptionsError

from .dataset import Dataset, DatasetBuilder, Utterance
from .manifest import read_manifest, write_manifest

__all__ = ["MINI_SETS", "read_mini", "read_mini_clips"]

MINI_SETS = ("seen", "unseen", "long", "nonspeech", "names")
DEFAULT_SETS = ("seen", "unseen", "long", "nonspeech")
"""Names are left out by default: their spelling is only known from a context, which is not given here."""

DEFAULT_COUNT = 75
FULL_COUNT = 300

CLONE = Path(__file__).parents[3]
TEST_MANIFEST = CLONE / "tests" / "data" / "mini-test-manifest.jsonl"
CLIPS = CLONE / "tests" / "data" / "mini-clips"


def read_mini(which: str, cache_dir: Path) -> Dataset:
    """Return the embedded test set: "" for 4 x 75 clips of all kinds, or one set of 300 by name.

    Args:
        which: "", or one of `MINI_SETS`.
        cache_dir: where the clips are kept; what is there already is used again, after checking its hashes.

    Raises:
        OptionsError: no such set, or this is not a clone.
        MissingExtra: the voices are not installed.
    """
    if which and which not in MINI_SETS:
        raise OptionsError(f"no miniature test set {which!r}; there are: {', '.join(MINI_SETS)}")
    _require_clone(TEST_MANIFEST)
    sets, count = ((which,), FULL_COUNT) if which else (DEFAULT_SETS, DEFAULT_COUNT)
    rows = [json.loads(line) for line in TEST_MANIFEST.read_text(encoding="utf-8").splitlines()]
    chosen = [row for wanted in sets for row in [row for row in rows if row["set"] == wanted][:count]]
    digest = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()
    folder = cache_dir / f"{which or 'default'}-{digest[:8]}"
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        _render(chosen, folder, manifest)
    return read_manifest(manifest, name=f"mini:{which}" if which else "mini")


def read_mini_clips() -> Dataset:
    """Return the few clips that are checked in: no voices are needed.

    Raises:
        OptionsError: this is not a clone.
    """
    manifest = CLIPS / "manifest.jsonl"
    _require_clone(manifest)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    builder = DatasetBuilder("mini-clips")
    for number, row in enumerate(rows, 1):
        where = f"{manifest}:{number}"
        builder.add(
            Utterance(row["file"], CLIPS / row["file"], row["text"], row["language"], where, subset=row["kind"])
        )
    return builder.build()


def _require_clone(path: Path) -> None:
    if not path.exists():
        raise OptionsError(
            "the miniature's test sets are part of a clone, not of the installed package; evaluate from a clone "
            "(pip install -e '.[eval]'), or name a dataset: a manifest.jsonl or a folder"
        )


def _render(rows: Sequence[dict[str, Any]], folder: Path, manifest: Path) -> None:
    """Regenerate the clips as 16-bit FLAC; the manifest is written last, so a half-made folder is made again."""
    import soundfile

    try:
        from mini.speech.clips import regenerate
        from mini.speech.voices import SpeechError
    except ModuleNotFoundError as error:
        raise OptionsError(
            f"the miniature's clips cannot be made ({error}); install the clone: pip install -e '.[eval]'"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with progress_bar(total=len(rows), unit="clip") as bar:
        bar.set_postfix_str("making the test clips")
        for row in rows:
            try:
                sample = regenerate(row)
            except SpeechError as error:
                raise MissingExtra(
                    f"the miniature's test clips need voices ({error}): apt-get install libespeak-ng1 espeak-ng-data "
                    "libflite1; or evaluate mini-clips, which are checked in"
                ) from error
            name = f"{row['set']}_{row['index']:03}.flac"
            soundfile.write(folder / name, sample.waveform, SAMPLE_RATE, subtype="PCM_16")
            found.append({
                "path": name, "text": sample.text, "language": sample.language, "subset": row["set"],
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            })  # fmt: skip
            bar.update()
    write_manifest(manifest, found)
