"""What `qwen3_asr_onnx.bundle.workshops` finds here by the entry point `export`."""

from __future__ import annotations

from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.workshops import ExportWorkshop

from .pipeline import export_checkpoint

__all__ = ["WORKSHOP"]


class _Workshop:
    """The exporter."""

    def export(self, checkpoint: Path, output: Path, *, name: str | None, check: bool, progress: bool) -> Bundle:
        """Write the bundle of a checkpoint."""
        return export_checkpoint(checkpoint, output, name=name, check=check, progress=progress)


WORKSHOP: ExportWorkshop = _Workshop()
