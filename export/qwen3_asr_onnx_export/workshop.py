"""What `qwen3_asr_onnx.bundle.workshops` finds here by the entry point `export`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from qwen3_asr_onnx.bundle.workshops import ExportWorkshop, Float32Source

from .pipeline import export_checkpoint
from .streamed import streamed_bundle

__all__ = ["WORKSHOP"]


class _Workshop:
    """The exporter."""

    def export(
        self, checkpoint: Path, output: Path, *, adapter: Path | None, name: str | None, check: bool, progress: bool
    ) -> None:
        """Write the bundle of a checkpoint."""
        export_checkpoint(checkpoint, output, adapter=adapter, name=name, check=check, progress=progress)

    def stream(
        self, checkpoint: Path, folder: Path, *, adapter: Path | None, name: str | None
    ) -> AbstractContextManager[Float32Source]:
        """Open a checkpoint as a bundle, its small files written to an empty folder."""
        return streamed_bundle(checkpoint, folder, adapter=adapter, name=name)


WORKSHOP: ExportWorkshop = _Workshop()
