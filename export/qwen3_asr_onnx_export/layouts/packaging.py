"""A checkpoint or a bundle -> a folder in another program's layout, which appears when all of it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.leftovers import workplace
from qwen3_asr_onnx.bundle.workshops import make_variant
from qwen3_asr_onnx.bundle.writing import atomic_directory, require_space
from qwen3_asr_onnx_export.streamed import streamed_bundle

from .sherpa import write_sherpa
from .source import LayoutSource
from .weight_files import LayoutFiles

__all__ = ["LAYOUTS", "write_layout"]

LAYOUTS: dict[str, Callable[..., None]] = {"sherpa": write_sherpa}
