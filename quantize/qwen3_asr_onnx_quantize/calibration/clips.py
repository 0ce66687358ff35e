"""Audio files, or a JSONL manifest of them -> waveforms, with what is said in them where that is known.

    {"path": "a.flac", "text": "Hello.", "language": "English"}

One object per line; `path` (also `file`, `audio` or `audio_filepath`) is relative to the manifest. Other fields may be
present and are not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.audio.manifests import audio_name
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["Clip", "clips_digest", "load_clips"]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One recording.

    Attributes:
        waveform: (n_samples,) float32, 16 kHz.
        text: what is said; "" where nobody speaks, None where it is not known.
    """

    waveform: Waveform
    text: str | None = None


def load_clips(paths: Iterable[str]) -> tuple[Clip, ...]:
    """Return the clips of audio files and of manifests (names that end in .jsonl), in order.

    Raises:
        OptionsError: a manifest cannot be read, or a line of it names no audio.
        AudioError: a file cannot be read.
    """
    return tuple(clip for path in paths for clip in (_listed(Path(path)) if path.endswith(".jsonl") else [_file(path)]))


def clips_digest(clips: Sequence[Clip]) -> str:
    """Return what identifies the clips and their texts, in 16 digits."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(hashlib.sha256(clip.waveform.tobytes()).digest())
        digest.update(json.dumps(clip.text).encode())
    return digest.hexdigest()[:16]


def _file(path: str) -> Clip:
    return Clip(load_audio(path))


def _listed(manifest: Path) -> Iterator[Clip]:
    try:
        # Not at the other separators of str.splitlines, which a text may hold.
        lines = manifest.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"{manifest}: cannot be read as a UTF-8 manifest ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, text = _row(line, f"{manifest}:{number}")
            yield Clip(load_audio(manifest.parent / name), text)


def _row(line: str, where: str) -> tuple[str, str | None]:
    """Return the file a line names, and what is said in it."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise OptionsError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise OptionsError(f'{where}: names no audio; give {{"path": "clip.flac", "text": "..."}}')
    try:
        name = audio_name(row)
    except OptionsError as error:
        raise OptionsError(f"{where}: names no audio: {error}") from error
    text = row.get("text")
    if not isinstance(text, str | None):
        raise OptionsError(f"{where}: text is {text!r}; give a string, or leave it out")
    return name, text
