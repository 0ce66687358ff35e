"""What a loaded model keeps in memory between calls, in bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.prepared import WEIGHTS_FILE

from .session import Session

__all__ = ["Memory", "held_by"]

LARGE_BYTES = 32 << 20
"""What is larger is no graph alone."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a loaded model holds between calls, in bytes.

    Mapped bytes are pages of files: processes share them, the system drops them when it needs the memory, and only
    those that were used are resident. Private bytes are this process's own. They are what the weights take in their
    files: arranged for the processor they may take a third more. Neither the tokenizer (about 50 MB for the released
    models), nor Python, numpy and onnxruntime (about 60 MB), nor what a call needs while it runs are counted.

    Attributes:
        weights_private: weights that were rearranged in memory; each session has a copy of its own.
        weights_mapped: weights used where their file is mapped, in the bundle or prepared for this machine.
        embeddings_mapped: the table of embeddings, mapped from the bundle.
    """

    weights_private: int
    weights_mapped: int
    embeddings_mapped: int


def held_by(bundle: Bundle, sessions: Iterable[Session], embeddings: str) -> Memory:
    """Return what sessions of a bundle hold, and the file that is its table of embeddings."""
    private, mapped = 0, {}
    files = bundle.manifest.files
    for session in dict.fromkeys(sessions):
        if session.prepared is not None:
            weights = session.prepared.with_name(WEIGHTS_FILE)
            with contextlib.suppress(OSError):  # removed meanwhile: the mapping lives on
                mapped[str(weights)] = weights.stat().st_size
            continue
        size = session.path.stat().st_size
        if size > LARGE_BYTES:  # it holds its weights itself
            private += size
            continue
        graph = session.path.read_bytes()
        sizes = {name: record.size for name, record in files.items() if name.encode() in graph}
        if session.copied:
            private += sum(sizes.values())
        else:
            mapped |= sizes
    return Memory(private, sum(mapped.values()), files[embeddings].size)
