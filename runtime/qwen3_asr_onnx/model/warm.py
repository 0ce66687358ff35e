"""Which prepared weights are this graph's on this machine: found for a load, and made for the loads that follow.

Whoever loads a model uses what is there. Only what runs for long, and `get --warm`, makes it: `prepare`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import Manifest, Variant
from qwen3_asr_onnx.bundle.names import (
    EMBEDS,
    MEL,
    N_FRAMES,
    POSITIONS,
    SEQLENS,
    TOTAL,
    cache_names,
    past_name,
)
from qwen3_asr_onnx.bundle.prepared import GRAPH_FILE, WEIGHTS_FILE, find_prepared, keep_prepared, room_for
from qwen3_asr_onnx.errors import Qwen3AsrError

from .preparing import save_prepared
from .session import runtime_version

__all__ = ["prepare", "prepared_graph"]

LOG = logging.getLogger(__name__)

FORMAT = 1

GROWTH, SMALL_BYTES = 2.5, 1 << 20
"""An entry holds the weights twice: as they are and as the kernels want them, some with float32 scales."""


def prepared_graph(bundle: Bundle, variant: Variant, file: str, device: str) -> Path | None:
    """Return the prepared form of a graph of a variant; None where there is none, or none is wanted.

    Raises:
        BundleError: the graph is missing or damaged.
        OptionsError: the environment is wrong about it.
    """
    if not _is_prepared(bundle, variant, file, device) or not room_for():
        return None
    key, _ = _key(bundle, file)
    entry = find_prepared(key)
    return None if entry is None else entry / GRAPH_FILE


def prepare(bundle: Bundle, variant: Variant, device: str = "cpu") -> bool:
    """Make what is not there yet of a variant's prepared weights; where that fails, log one warning.

    Returns:
        Whether the next load finds all of them.

    Raises:
        BundleError: the bundle is damaged.
        OptionsError: the environment is wrong about it.
    """
    room = room_for()
    graphs = [
        file
        for file in (variant.encoder, variant.decoder_init, variant.decoder_step)
        if _is_prepared(bundle, variant, file, device)
    ]
    if not room or not graphs:
        return False
    wanted = {key: (file, n_bytes) for file in graphs for key, n_bytes in [_key(bundle, file)]}
    needed = sum(n_bytes for _, n_bytes in wanted.values())
    if needed > room:
        LOG.warning(
            "%s: no warm start: it takes %.1f GB, and %.1f are allowed; set QWEN3_ASR_WARM_GB",
            bundle.path,
            needed / 1e9,
            room / 1e9,
        )
        return False
    try:
        for key, (file, n_bytes) in wanted.items():
            keep_prepared(key, n_bytes, functools.partial(_write, bundle, variant, file))
    except (OSError, Qwen3AsrError) as error:
        LOG.warning("%s: no warm start: %s", bundle.path, error)
        return False
    return all(find_prepared(key) is not None for key in wanted)


def _write(bundle: Bundle, variant: Variant, file: str, folder: Path) -> None:
    source = bundle.require(file, digest=True)
    LOG.info("%s: preparing its weights for this machine, once", source)
    save_prepared(source, folder / GRAPH_FILE, WEIGHTS_FILE, _example(bundle.manifest, variant, file))


def _example(manifest: Manifest, variant: Variant, file: str) -> dict[str, npt.NDArray[Any]]:
    """Return inputs for a graph: noise of one block of frames, or of a prompt of two positions."""
    noise = np.random.default_rng(0)
    if file == variant.encoder:
        frames = manifest.encoder.block_frames
        mel = noise.standard_normal((1, manifest.mel.n_mels, frames), dtype=np.float32)
        return {MEL: mel, N_FRAMES: np.array([frames], dtype=np.int64)}
    dims = manifest.decoder
    empty = np.zeros((1, dims.kv_heads, 8, dims.head_dim), dtype=variant.cache_dtype)
    return {
        EMBEDS: noise.standard_normal((1, 2, dims.hidden), dtype=np.float32),
        SEQLENS: np.array([1], dtype=np.int32),
        TOTAL: np.array(2, dtype=np.int32),
        POSITIONS: np.array([[1]], dtype=np.int64),
        **dict.fromkeys(cache_names(past_name, dims.layers), empty),
    }


def _is_prepared(bundle: Bundle, variant: Variant, file: str, device: str) -> bool:
    """Return whether loading rearranges the weights of a graph of ours, as it does unless they are mapped."""
    is_ours = type(bundle) is Bundle  # what other exporters made takes other inputs
    return is_ours and device == "cpu" and file not in variant.mapped


def _key(bundle: Bundle, file: str) -> tuple[str, int]:
    """Return the name of an entry, and the bytes that it may take.

    The number of threads is not in it: it changes no byte.
    """
    graph = bundle.require(file, digest=True).read_bytes()
    files = bundle.manifest.files
    weights = [files[name] for name in sorted(files) if name != file and name.encode() in graph]
    parts = [FORMAT, runtime_version(), processor(), files[file].sha256, *(record.sha256 for record in weights)]
    n_bytes = GROWTH * (len(graph) + sum(record.size for record in weights)) + SMALL_BYTES
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32], int(n_bytes)


@functools.cache
def processor() -> str:
    """Return what tells processors apart that want their weights arranged differently."""
    words = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # Windows and macOS name the model itself
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join([*words, *sorted(flags.partition(":")[2].split())])
