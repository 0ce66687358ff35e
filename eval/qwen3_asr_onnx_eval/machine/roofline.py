"""How far from the limit: bytes and operations of each stage against the bandwidth and product rates measured here.

No stage can take less time than reading its weights once, nor than its multiplications at the best rate of the machine.
The floor is the larger of the two; what is printed beside a measurement is how many floors it took.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import numpy as np

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims
from qwen3_asr_onnx.model.features import n_audio_tokens
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.session import import_onnxruntime

from .child_process import run_alone

__all__ = [
    "Arithmetic",
    "Cost",
    "MachineLimits",
    "best_limits",
    "decoder_cost",
    "encoder_cost",
    "graph_cost_facts",
    "measure_limits",
    "stem_arithmetic",
    "step_bytes",
]

Arithmetic: TypeAlias = Literal["float32", "int8"]
"""What the products of a stage are computed in: 8-bit integers where the graph quantizes its activations."""

FRAMES_PER_S = 100
MEL_BINS = 128
BANDWIDTH_BYTES = 1 << 28
GEMM_SIZE = 1536
REPEATS = 5

INTEGER_OPERATORS = frozenset({"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"})
"""Operators that quantize activations to 8 bits (MatMulNBits at accuracy level 4, which our recipes set)."""


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """What this machine can do with so many threads: the best of a few tries each.

    Attributes:
        threads: used for all.
        bytes_per_s: reading memory.
        float32_per_s: operations per second of a large float32 product (one multiply-add is two).
        int8_per_s: the same of 8-bit integers through onnxruntime; None where the onnx package is missing.
    """

    threads: int
    bytes_per_s: float
    float32_per_s: float
    int8_per_s: float | None


def best_limits(one: MachineLimits, other: MachineLimits) -> MachineLimits:
    """Return the higher of each figure: what else ran while measuring only lowers it.

    Args:
        one: limits of a machine.
        other: limits of the same machine with the same number of threads.
    """
    int8 = [rate for rate in (one.int8_per_s, other.int8_per_s) if rate is not None]
    return MachineLimits(
        one.threads,
        max(one.bytes_per_s, other.bytes_per_s),
        max(one.float32_per_s, other.float32_per_s),
        max(int8, default=None),
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage must at least do.

    Attributes:
        n_bytes: to be read from memory once.
        n_float32: operations of float32 products (one multiply-add is two).
        n_int8: the same of 8-bit integers.
    """

    n_bytes: float
    n_float32: float
    n_int8: float = 0.0

    def floor_s(self, limits: MachineLimits) -> tuple[float, str]:
        """Return the least seconds, and which limit sets them: "memory" or "arithmetic"."""
        int8_rate = max(limits.float32_per_s, limits.int8_per_s or 0.0)
        memory_s = self.n_bytes / limits.bytes_per_s
        arithmetic_s = self.n_float32 / limits.float32_per_s + self.n_int8 / int8_rate
        return max(memory_s, arithmetic_s), "memory" if memory_s >= arithmetic_s else "arithmetic"


def _cost(n_bytes: float, always_float32: float, products: float, arithmetic: Arithmetic) -> Cost:
    if arithmetic == "int8":
        return Cost(n_bytes, always_float32, products)
    return Cost(n_bytes, always_float32 + products)


def encoder_cost(
    dims: EncoderDims, audio_s: float, weight_bytes: int, arithmetic: Arithmetic, stem_arithmetic: Arithmetic
) -> Cost:
    """Return the cost of encoding audio: convolution stem, transformer layers, projection.

    Args:
        dims: of the encoder.
        audio_s: seconds.
        weight_bytes: of the stored weights.
        arithmetic: of the products with weights; the first convolution and attention are float32 in any case.
        stem_arithmetic: of the second and third convolution.
    """
    frames = audio_s * FRAMES_PER_S
    tokens = n_audio_tokens(round(frames), dims.block_frames)
    channels = dims.conv_channels
    # Three 3 x 3 convolutions of stride 2 over (frames, mel bins): each output position costs 9 x in x out products.
    first, *others = (
        2 * 9 * (1 if i == 0 else channels) * channels * (frames / 2 ** (i + 1)) * (MEL_BINS / 2 ** (i + 1))
        for i in range(3)
    )
    window = n_audio_tokens(min(round(frames), dims.window_frames), dims.block_frames)
    attention = dims.layers * 4 * tokens * window * dims.d_model
    layers = dims.layers * 2 * tokens * (4 * dims.d_model**2 + 2 * dims.d_model * dims.ffn)
    ends = 2 * tokens * dims.d_model * (channels * (MEL_BINS // 8) + dims.d_model + dims.output_dim)
    transformer = _cost(weight_bytes, first + attention, layers + ends, arithmetic)
    stem = _cost(0, 0, sum(others), stem_arithmetic)
    return Cost(weight_bytes, transformer.n_float32 + stem.n_float32, transformer.n_int8 + stem.n_int8)


def decoder_cost(
    dims: DecoderDims, n_new: int, n_past: int, batch: int, weight_bytes: int, arithmetic: Arithmetic
) -> Cost:
    """Return the cost of running new positions on top of a cache; the head runs for the last position of each row.

    Args:
        dims: of the decoder.
        n_new: positions per row: the prompt, or 1 for a step.
        n_past: positions in the cache before them.
        batch: rows.
        weight_bytes: of the stored weights, the head's included.
        arithmetic: of the products with weights; attention is float32 in any case.
    """
    query, cache = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
    layer = dims.hidden * (2 * query + 2 * cache) + 3 * dims.hidden * dims.intermediate
    products = 2 * n_new * dims.layers * layer + 2 * dims.hidden * dims.vocab_size
    seen = n_new * n_past + n_new * (n_new + 1) / 2
    attention = 4 * dims.layers * query * seen
    cache_bytes = 4 * 2 * dims.layers * cache * (n_past + n_new)
    return _cost(weight_bytes + batch * cache_bytes, batch * attention, batch * products, arithmetic)


def graph_cost_facts(graph: Path) -> tuple[int, Arithmetic]:
    """Return the bytes of a graph's weights as stored, and what its products are computed in.

    Args:
        graph: .onnx file whose weights are external data.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False).graph
    lengths = [int(e.value) for one in model.initializer for e in one.external_data if e.key == "length"]
    operators = {node.op_type for node in model.node}
    return sum(lengths), "int8" if operators & INTEGER_OPERATORS else "float32"


def step_bytes(bundle: Bundle, variant: str) -> dict[str, Any]:
    """Return what a decoding step has to read from memory, the floor of its time.

    `weights`: bytes of the step graph's weights as stored; `per_position`: cache bytes per position.
    """
    n_bytes, _ = graph_cost_facts(bundle.path / bundle.manifest.variants[variant].decoder_step)
    return {"weights": n_bytes, "per_position": KvCache.position_bytes(bundle.manifest.decoder)}


def stem_arithmetic(graph: Path) -> Arithmetic:
    """Return what an encoder graph's second and third convolution are computed in."""
    import onnx

    nodes = onnx.load(str(graph), load_external_data=False).graph.node
    return "float32" if sum(node.op_type == "Conv" for node in nodes) > 1 else "int8"


def measure_limits(threads: int) -> MachineLimits:
    """Return what the machine can do, measured in a process of its own: thread pools are sized when they start."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    with mock.patch.dict(os.environ, dict.fromkeys(names, str(threads))):
        return run_alone(_measure, threads)


def _measure(threads: int) -> MachineLimits:
    return MachineLimits(threads, _read_bandwidth(threads), _float32_rate(), _int8_rate(threads))


def _best(call: Callable[[], object]) -> float:
    """Return the shortest of a few runs, in seconds."""
    call()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def _read_bandwidth(threads: int) -> float:
    data = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    parts = [data[len(data) * i // threads : len(data) * (i + 1) // threads] for i in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        sums_s = _best(lambda: list(pool.map(np.sum, parts)))
    # One core sums more slowly than it can read; a product with itself keeps more loads in flight.
    products_s = _best(lambda: np.dot(data, data))
    return data.nbytes / min(sums_s, products_s)


def _float32_rate() -> float:
    matrix = np.random.default_rng(0).standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    return 2 * GEMM_SIZE**3 / _best(lambda: matrix @ matrix)


def _int8_rate(threads: int) -> float | None:
    """Return the rate of MatMulInteger with constant int8 weights, as the quantized graphs use it."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError:
        return None
    ort = import_onnxruntime()

    weight = np.random.default_rng(0).integers(-64, 64, (GEMM_SIZE, GEMM_SIZE), np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [GEMM_SIZE, GEMM_SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [GEMM_SIZE, GEMM_SIZE])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.ones((GEMM_SIZE, GEMM_SIZE), np.uint8)}
    return 2 * GEMM_SIZE**3 / _best(lambda: session.run(None, feeds))
