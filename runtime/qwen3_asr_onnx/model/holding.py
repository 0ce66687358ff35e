"""What a loaded model keeps in memory between calls, in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle

from .relocating import placed_weights
from .session import Session

__all__ = ["Memory", "held_by"]

LARGE_BYTES = 32 << 20
"""What is larger is no graph alone."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a loaded model holds between calls, in bytes.

    Mapped bytes are pages of files: processes share them, the system drops them when it needs the memory, and only
    those that were used are resident. Private bytes are this process's own, counted as the weights are in their
    files; they take up to a quarter more as the processor wants them. Not counted are the tokenizer (about 50 MB for
    the released models), Python, numpy and onnxruntime (about 60 MB), and what a call needs while it runs.

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
    private, mapped = 0, dict[tuple[Path, tuple[str, str]], int]()
    for session in dict.fromkeys(sessions):
        graph = session.prepared or session.path
        try:
            large = graph.stat().st_size > LARGE_BYTES  # it holds its weights itself
            weights = {} if large else placed_weights(graph)
        except (OSError, ValueError):  # removed since it was loaded
            continue
        if large:
            private += graph.stat().st_size
        elif session.copied:
            private += sum(weights.values())
        else:
            mapped |= {(graph.parent, place): size for place, size in weights.items()}
    return Memory(private, sum(mapped.values()), bundle.manifest.files[embeddings].size)
