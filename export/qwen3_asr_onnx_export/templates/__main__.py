"""`python -m qwen3_asr_onnx_export.templates`: trace the graphs of the released shapes anew. Needs torch."""

from __future__ import annotations

from . import FOLDER
from .released import MINIATURES, RELEASED, traced, write

if __name__ == "__main__":
    write(traced(RELEASED + MINIATURES), FOLDER)
