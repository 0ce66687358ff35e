"""Bundle + calibration audio -> what the inputs of each decoder product look like, one layer at a time.

The float32 variant listens to the clips and writes its text. Prompts and texts then pass through the decoder's source
graph, cut at its layers: only one layer's weights and second moments are in memory, and the hidden states between two
layers. A layer is run when a weight of it is first asked for, which is once if weights are asked for in graph order.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.convenience import extract

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.bundle.manifest import DecoderDims
from qwen3_asr_onnx.bundle.names import EMBEDS, POSITIONS, SEQLENS, TOTAL, layer_boundary, past_name
from qwen3_asr_onnx.errors import BundleError, OptionsError
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.session import import_onnxruntime
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx_quantize.schemes.products import constant_products
from qwen3_asr_onnx_quantize.weights.derived import DerivedTensor
from qwen3_asr_onnx_quantize.weights.gptq import factor

__all__ = ["Calibration", "CalibrationText", "calibration_digest", "calibration_texts"]

Floats: TypeAlias = npt.NDArray[np.float32]

PIECE_SAMPLES = 24 * SAMPLE_RATE
"""Longest piece of a clip, three encoder windows: bounds the attention scores of a layer."""

TOKENS_PER_PIECE = 256
ROWS_TOGETHER = 8

TEXT_WEIGHT = 8.0
"""How much a position whose logits count weighs against one of audio or prompt, which is heard only through keys and
values (INVESTIGATION.md, entry 046)."""

KEPT_STAGES = 2
"""Layers whose factors stay in memory: slices of two layers are computed at once where one ends."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationText:
    """One sequence the decoder is shown.

    Attributes:
        embeds: (n_tokens, hidden) float32, prompt, audio and text.
        n_scored: how many of the last positions the head is asked about.
    """

    embeds: Floats
    n_scored: int


def calibration_digest(clips: Sequence[Waveform]) -> str:
    """Return what identifies the calibration audio in a manifest."""
    return hashlib.sha256(b"".join(hashlib.sha256(clip.tobytes()).digest() for clip in clips)).hexdigest()


def calibration_texts(
    bundle: Path, variant: str, clips: Sequence[Waveform], *, threads: int | None = None
) -> list[CalibrationText]:
    """Let the float32 variant transcribe the clips, and return all that its decoder saw.

    Args:
        bundle: the bundle's directory.
        variant: the name of its float32 variant.
        clips: 16 kHz waveforms of any length.
        threads: threads per operator; None for all cores.

    Raises:
        OptionsError: there is no audio in the clips.
    """
    # A cut in the middle of a word does no harm here.
    pieces = [clip[start : start + PIECE_SAMPLES] for clip in clips for start in range(0, clip.size, PIECE_SAMPLES)]
    if not pieces:
        raise OptionsError("calibration needs audio: give at least one clip that is not empty")
    texts: list[CalibrationText] = []
    with Transcriber(bundle, variant, threads=threads) as asr:
        for start in range(0, len(pieces), ROWS_TOGETHER):
            texts += _texts(asr, pieces[start : start + ROWS_TOGETHER])
    return texts


def _texts(asr: Transcriber, pieces: Sequence[Waveform]) -> list[CalibrationText]:
    prompter = Prompter(asr)
    prompts = [prompter.embed(features) for features in hear(asr, pieces)[0]]
    written = generate(asr.decoder, prompts, [TOKENS_PER_PIECE] * len(prompts))
    return [
        CalibrationText(
            np.concatenate([prompt, asr.embeddings.rows(np.array(one.token_ids, dtype=np.int64))]),
            1 + len(one.token_ids),
        )
        for prompt, one in zip(prompts, written, strict=True)
    ]


class Calibration:
    """Second moments of the inputs of a decoder's products, layer by layer. Any number of threads may ask."""

    def __init__(
        self, graph: Path, dims: DecoderDims, texts: Sequence[CalibrationText], threads: int | None = None
    ) -> None:
        """Prepare to run a decoder graph.

        Args:
            graph: a float32 decoder graph as exported, its weights beside it.
            dims: its dimensions.
            texts: what to show it.
            threads: threads per operator; None for all cores.

        Raises:
            BundleError: the graph has no layer boundaries.
        """
        self._graph = graph
        self._dims = dims
        self._texts = texts
        self._threads = threads
        self._stage_of = self._stages(ir.load(graph))
        self._lock = threading.Lock()
        self._restart()

    def factor(self, name: str, source: ir.TensorProtocol) -> Floats:
        """Return the triangular factor (K, K) float32 of the second moments of a weight's inputs.

        Args:
            name: the weight's name in the graph.
            source: the weight, which may be derived; its inputs are then as well.
        """
        stage, value = self._stage_of[name]
        key = (stage, value, source.key if isinstance(source, DerivedTensor) else None)
        with self._lock:
            if key not in self._factors:
                moments = self._run_until(stage)[value]
                self._factors[key] = factor(source.moments(moments) if isinstance(source, DerivedTensor) else moments)
            return self._factors[key]

    def _restart(self) -> None:
        self._next = 0
        self._states: list[Sequence[Floats]] = [(text.embeds[None],) for text in self._texts]
        self._moments: dict[int, dict[str, Floats]] = {}
        self._factors: dict[tuple[int, str, Hashable], Floats] = {}

    def _stages(self, model: ir.Model) -> dict[str, tuple[int, str]]:
        """Return for each weight the layer it belongs to (the head is one more) and the value it multiplies."""
        products = {node: str(weight.name) for node, weight, _ in constant_products(model)}
        ends = {layer_boundary(layer)[0] for layer in range(self._dims.layers)}
        found: dict[str, tuple[int, str]] = {}
        stage = 0
        for node in model.graph:
            if node in products:
                x = node.inputs[0]
                assert x is not None
                found[products[node]] = (stage, str(x.name))
            stage += any(output.name in ends for output in node.outputs)
        if stage != self._dims.layers:
            raise BundleError(f"{self._graph}: has no layer boundaries to calibrate between; export the bundle again")
        return found

    def _run_until(self, stage: int) -> Mapping[str, Floats]:
        """Return the moments of a stage, running it and what lies before it."""
        if stage not in self._moments and stage < self._next:
            self._restart()
        while stage not in self._moments:
            self._moments[self._next] = self._run_stage(self._next)
            self._next += 1
            oldest = self._next - KEPT_STAGES
            self._moments = {at: moments for at, moments in self._moments.items() if at >= oldest}
            self._factors = {key: lower for key, lower in self._factors.items() if key[0] >= oldest}
        return self._moments[stage]

    def _run_stage(self, stage: int) -> dict[str, Floats]:
        """Run one layer, or the head, on all texts: its moments; the hidden states move on."""
        head = stage == self._dims.layers
        values = list(dict.fromkeys(value for at, value in self._stage_of.values() if at == stage))
        entry = layer_boundary(stage - 1) if stage else (EMBEDS,)
        more = (POSITIONS,) if head else _cache_inputs(stage)
        session = _session(
            self._graph, [*entry, *more], [*values, *(() if head else layer_boundary(stage))], self._threads
        )
        moments: dict[str, Floats] = {}
        for index, text in enumerate(self._texts):
            extra = _positions(text) if head else _empty_cache(self._dims, stage, len(text.embeds))
            outputs = session.run(None, {**dict(zip(entry, self._states[index], strict=True)), **extra})
            for value, x in zip(values, outputs, strict=False):
                rows = x.reshape(-1, x.shape[-1])
                if not head:
                    rows[-text.n_scored :] *= np.float32(math.sqrt(TEXT_WEIGHT))
                product = rows.T @ rows
                moments[value] = moments[value] + product if value in moments else product
            self._states[index] = outputs[len(values) :]
        return moments


def _cache_inputs(layer: int) -> tuple[str, ...]:
    return past_name("key", layer), past_name("value", layer), SEQLENS, TOTAL


def _empty_cache(dims: DecoderDims, layer: int, length: int) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of a layer that has read nothing yet and shall read `length` positions."""
    empty = np.zeros((1, dims.kv_heads, length, dims.head_dim), dtype=np.float32)
    numbers = (empty, empty, np.array([length - 1], dtype=np.int32), np.array(length, dtype=np.int32))
    return dict(zip(_cache_inputs(layer), numbers, strict=True))


def _positions(text: CalibrationText) -> dict[str, npt.NDArray[Any]]:
    length = len(text.embeds)
    return {POSITIONS: np.arange(length - text.n_scored, length)[None]}


def _session(graph: Path, inputs: list[str], outputs: list[str], threads: int | None) -> Any:
    """Return a part of a graph, ready to run; its weights are read where the graph's file points."""
    model = ir.load(graph)
    part = ir.Model(extract(model.graph, inputs=inputs, outputs=outputs), ir_version=model.ir_version)
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Between the calls numpy computes: threads of the session that wait for work must not take its cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
    if threads is not None:
        options.intra_op_num_threads = threads
    return ort.InferenceSession(ir.to_proto(part).SerializeToString(), options, providers=["CPUExecutionProvider"])
