"""What the command line remembers between runs: journals of what goes to stdout, and which recording a result is of.

Both lie in the user's state folder (`QWEN3_ASR_HOME` moves it). They name nothing: places and recordings are digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.choices import moved_home
from qwen3_asr_onnx.transcription.identity import fingerprint
from qwen3_asr_onnx.transcription.journal import Journal

from .places import JOURNAL_SUFFIX, place_of

__all__ = ["Records", "forget_old_journals", "state_folder", "stdout_journal"]

KEPT_S = 30 * 24 * 3600.0
"""So long the journal of a run to stdout waits for the next one. It holds what was said."""


def state_folder() -> Path:
    """Return the folder, which need not exist."""
    moved = moved_home()
    if moved is not None:
        return moved / "state"
    import platformdirs

    return Path(platformdirs.user_state_dir("qwen3-asr-onnx", appauthor=False))


def stdout_journal(audio: str | Path, *, anew: bool) -> Journal:
    """Return the journal of an input whose result goes to stdout, as any number of runs at once may send it there."""
    name = _digest(place_of(audio) if isinstance(audio, Path) else audio)
    return Journal(_journals() / f"{name}{JOURNAL_SUFFIX}", anew=anew, shared=True)


def forget_old_journals() -> None:
    """Remove the journals of runs to stdout that nobody has gone on with for a month, and what else is empty."""
    folder = _journals()
    with contextlib.suppress(OSError):
        for path in folder.glob(f"*{JOURNAL_SUFFIX}"):
            if path.stat().st_mtime < time.time() - KEPT_S:
                path.unlink()
        folder.rmdir()
        folder.parent.rmdir()


class Records:
    """Which recording each result on disk is of, as far as that was written down: a line for each result.

    Who cannot write there does without: then the times of the files tell.
    """

    def __init__(self) -> None:
        """Remember where the records are; they are read when they are asked for."""
        self._path = state_folder() / "results.txt"
        self._fingerprint = cache(fingerprint)  # of one recording there are several results

    def note(self, result: Path, recording: Mapping[str, Any]) -> None:
        """Write down what a result was made of.

        Args:
            result: the file.
            recording: its fingerprint when it was opened.
        """
        with contextlib.suppress(OSError):
            line = f"{_digest(place_of(result))} {_made_of(result, recording)}\n"
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path.open("a", encoding="ascii") as file:
                file.write(line)

    def is_of(self, result: Path, recording: Path) -> bool:
        """Return whether a result was made of a recording as that is now.

        What nobody has written down was made by an earlier version or elsewhere: it is believed unless it is empty, or
        older than the recording.

        Raises:
            OSError: one of them cannot be read.
        """
        noted = self._recordings.get(_digest(place_of(result)))
        if noted is not None:
            return noted == _made_of(result, self._fingerprint(recording))
        status = result.stat()
        return status.st_size > 0 and status.st_mtime_ns >= recording.stat().st_mtime_ns

    @cached_property
    def _recordings(self) -> dict[str, str]:
        try:
            lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return {}
        return dict(fields for fields in (line.split() for line in lines) if len(fields) == 2)  # the last one counts


def _made_of(result: Path, recording: Mapping[str, Any]) -> str:
    """Return the digest of what a result is made of; an empty one is told from one that somebody emptied."""
    return _digest(json.dumps([recording, result.stat().st_size == 0]))


def _journals() -> Path:
    return state_folder() / "journals"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]
