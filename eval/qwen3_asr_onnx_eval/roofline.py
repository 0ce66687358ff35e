"""How far from the limit: bytes and operations of each stage against the bandwidth and product rates measured here.

No stage can take less time than reading its weights once, nor than its multiplications at the best rate of the machine.
The floor is the larger of the two; what is printed beside a measurement is how many floors it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from qwen3_asr_onnx.bundle import DecoderDims, EncoderDims, Manifest
from qwen3_asr_onnx.features import n_audio_tokens

__all__ = ["Arithmetic", "Cost", "Limits", "decoder_cost", "encoder_cost", "measure_limits"]

Arithmetic: TypeAlias = Literal["float32", "int8"]
"""What the products of a stage are computed in: 8-bit integers where the graph quantizes its activations."""

FRAMES_PER_S = 100
MEL_BINS = 128
BANDWIDTH_BYTES = 1 << 28
GEMM_SIZE = 1536
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Limits:
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


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage must at least do.

    Attributes:
        n_bytes: to be read from memory once.
        n_operations: in products (one multiply-add is two).
        arithmetic: of those products.
    """

    n_bytes: float
    n_operations: float
    arithmetic: Arithmetic

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.n_bytes + other.n_bytes, self.n_operations + other.n_operations, self.arithmetic)

    def floor_s(self, limits: Limits) -> tuple[float, str]:
        """Return the least seconds, and which limit sets them: "memory" or "arithmetic"."""
        rate = limits.float32_per_s
        if self.arithmetic == "int8" and limits.int8_per_s is not None:
            rate = max(rate, limits.int8_per_s)
        memory_s, arithmetic_s = self.n_bytes / limits.bytes_per_s, self.n_operations / rate
        return max(memory_s, arithmetic_s), "memory" if memory_s >= arithmetic_s else "arithmetic"


def encoder_cost(dims: EncoderDims, audio_s: float, weight_bytes: int, arithmetic: Arithmetic) -> Cost:
    """Return the cost of encoding audio: convolution stem, transformer layers, projection.

    Args:
        dims: of the encoder.
        audio_s: seconds.
        weight_bytes: of the stored weights.
        arithmetic: of the transformer's products.
    """
    frames = audio_s * FRAMES_PER_S
    tokens = n_audio_tokens(round(frames))
    channels = dims.conv_channels
    # Three 3 x 3 convolutions of stride 2 over (frames, mel bins): each output position costs 9 x in x out products.
    stem = sum(
        2 * 9 * (1 if i == 0 else channels) * channels * (frames / 2 ** (i + 1)) * (MEL_BINS / 2 ** (i + 1))
        for i in range(3)
    )
    stem += 2 * tokens * channels * (MEL_BINS // 8) * dims.d_model
    window = n_audio_tokens(min(round(frames), dims.window_frames))
    layer = 2 * tokens * (4 * dims.d_model**2 + 2 * dims.d_model * dims.ffn) + 4 * tokens * window * dims.d_model
    projection = 2 * tokens * (dims.d_model**2 + dims.d_model * dims.output_dim)
    return Cost(weight_bytes, stem + dims.layers * layer + projection, arithmetic)


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
        arithmetic: of the products.
    """
    query, cache = dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim
    layer = dims.hidden * (2 * query + 2 * cache) + 3 * dims.hidden * dims.intermediate
    products = 2 * n_new * dims.layers * layer + 2 * dims.hidden * dims.vocab_size
    seen = n_new * n_past + n_new * (n_new + 1) / 2
    attention = 4 * dims.layers * query * seen
    cache_bytes = 4 * 2 * dims.layers * cache * (n_past + n_new)
    return Cost(weight_bytes + batch * cache_bytes, batch * (products + attention), arithmetic)


def weight_bytes(manifest: Manifest, variant: str, stage: Literal["encoder", "decoder"]) -> int:
    """Return the bytes of the weight files of a stage, told apart by name as the bundle's files are."""
    files = manifest.variants[variant].weights
    prefix = "encoder" if stage == "encoder" else "decoder"
    return sum(manifest.files[name].size for name in files if name.startswith(prefix))


def measure_limits(threads: int) -> Limits:
    """Return what the machine can do, measured in a process of its own: thread pools are sized when they start."""
    command = [sys.executable, "-m", "qwen3_asr_onnx_eval.roofline", str(threads)]
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(  # noqa: S603 - our own module
        command, capture_output=True, text=True, check=True, env={**os.environ, **dict.fromkeys(names, str(threads))}
    )
    return Limits(**json.loads(done.stdout))


def _measure(threads: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "bytes_per_s": _read_bandwidth(threads),
        "float32_per_s": _float32_rate(),
        "int8_per_s": _int8_rate(threads),
    }


def _best(call: Any) -> float:
    """Return the shortest of a few runs, in seconds."""
    call()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def _read_bandwidth(threads: int) -> float:
    from concurrent.futures import ThreadPoolExecutor

    data = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    parts = [data[len(data) * i // threads : len(data) * (i + 1) // threads] for i in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return data.nbytes / _best(lambda: list(pool.map(np.sum, parts)))


def _float32_rate() -> float:
    matrix = np.random.default_rng(0).standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    return 2 * GEMM_SIZE**3 / _best(lambda: matrix @ matrix)


def _int8_rate(threads: int) -> float | None:
    """Return the rate of MatMulInteger with constant int8 weights, as the quantized graphs use it."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError:
        return None
    import onnxruntime as ort

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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(int(sys.argv[1]))))
