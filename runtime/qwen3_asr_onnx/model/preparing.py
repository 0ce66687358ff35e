"""A graph as onnxruntime runs it on this processor, written to disk, and known to give the same numbers from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError

from . import session
from .relocating import relocate_packed

__all__ = ["save_prepared"]

CPU = session.PROVIDERS["cpu"]

Array = npt.NDArray[Any]


def save_prepared(graph: Path, target: Path, weights: str, example: Mapping[str, Array]) -> None:
    """Write a graph as the CPU of this machine runs it, so that a load neither optimizes it nor copies its weights.

    Args:
        graph: the .onnx file; its external data lies beside it.
        target: the .onnx file to write.
        weights: name of the file beside it for the weights: as they are, and as the kernels want them.
        example: inputs; what was written must give the same for them, to the bit.

    Raises:
        BundleError: the graph cannot be loaded, nothing can be written there, or it gives something else.
        MissingExtra: onnxruntime is not installed.
    """
    ort = session.import_onnxruntime()
    options = session.session_options(ort, None, prepack=True, plan_memory=False)
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
    options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
    told = _first_output(session.opened(ort, graph, options, CPU), example)
    try:
        relocate_packed(target, target.with_name(weights))
    except ValueError as error:
        raise BundleError(f"{target}: onnxruntime {ort.__version__} wrote a graph of another kind ({error})") from error
    options = session.session_options(ort, None, prepack=True, plan_memory=False)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found = _first_output(session.opened(ort, target, options, CPU), example)
    if not np.array_equal(told, found, equal_nan=True):
        raise BundleError(f"{graph}: onnxruntime {ort.__version__} gives other numbers once its weights are prepared")


def _first_output(running: Any, inputs: Mapping[str, Array]) -> Array:
    ort = session.import_onnxruntime()
    try:
        result: Array = running.run([running.get_outputs()[0].name], dict(inputs))[0]
    except session.errors_of(ort) as error:
        raise BundleError(f"onnxruntime {ort.__version__} cannot run this graph ({error})") from error
    return result
