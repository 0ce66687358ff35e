"""A finished variant against the checkpoint that it was made from, without transformers.

Its encoder hears a clip, and so does numpy; its decoder's first layer is cut out of the graph and gets that clip's
prompt, and so does numpy; then the whole of it answers. Differences are measured against the rounding that the recipe
means: what is wrong, a tensor in another's place or a scale that is lost, is as large as the signal.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.convenience import extract

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.bundle import names
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import Variant
from qwen3_asr_onnx.bundle.workshops import Float32Source
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.session import import_onnxruntime, return_free_memory
from qwen3_asr_onnx.transcriber import Transcriber
from qwen3_asr_onnx_quantize.recipes.recipe import Recipe
from qwen3_asr_onnx_quantize.weights.rotation import rotate

from .reference import encode, first_layer

__all__ = ["built_in_clip", "check_variant"]

Floats: TypeAlias = npt.NDArray[np.float32]

EXACT = 1e-3
"""Largest error of a part that stays float32, as a share of what it gives."""

MARGIN = 5
"""Largest error of a rounded part, in units of one product's rounding error on Gaussian numbers."""

LARGEST = 0.9
"""No bound is larger: an answer of another model is off by 1.4."""

PROMPT_TOKENS = 8


def built_in_clip() -> Waveform:
    """Return 1.3 s of gliding harmonics: two blocks of the encoder, of which the second is cut short."""
    t = np.arange(round(1.3 * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(140 + 60 * np.sin(2 * np.pi * 1.7 * t)) / SAMPLE_RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    clip: Waveform = (0.1 * voice * (1 + np.sin(2 * np.pi * 3 * t)) / 2).astype(np.float32)
    return clip


def check_variant(folder: Path, source: Float32Source, recipe: Recipe, threads: int | None = None) -> None:
    """Raise unless the variant of a recipe computes what its checkpoint means.

    Args:
        folder: the bundle.
        source: the checkpoint.
        recipe: what the variant was made by.
        threads: cores to use; None for all.

    Raises:
        BundleError: a part differs from numpy by more than rounding, or gives what are no numbers.
    """
    bundle = Bundle.open(folder)
    variant = bundle.variant(recipe.name)
    clip = built_in_clip()
    features = _check_encoder(bundle, variant, source, recipe, clip)
    _check_first_layer(bundle, variant, source, recipe, features)
    return_free_memory()  # the whole model comes on top of what is held
    if "cpu" in variant.devices and not variant.needs:
        _hear(bundle, recipe.name, clip, threads)


def _check_encoder(
    bundle: Bundle, variant: Variant, source: Float32Source, recipe: Recipe, clip: Waveform
) -> npt.NDArray[np.float64]:
    manifest = bundle.manifest
    mel = log_mel(clip, manifest.mel)
    expected = encode(source, manifest.encoder, mel)
    n_frames = mel.shape[1]
    block = manifest.encoder.block_frames
    padded = np.pad(mel, ((0, 0), (0, -n_frames % block)))[None]
    session = _session((bundle.path / variant.encoder).read_bytes(), bundle.path)
    (found,) = session.run(None, {names.MEL: padded, names.N_FRAMES: np.array([n_frames])})
    stem = {"fp32": 0.0, "fp16": 2**-11}.get(recipe.stem.scheme, recipe.encoder.error)
    rounding = max(recipe.encoder.error, stem) * math.sqrt(manifest.encoder.layers)  # errors of layers are independent
    _compare(bundle.path / variant.encoder, "features", found[0, : len(expected)], expected, rounding)
    return expected


def _check_first_layer(
    bundle: Bundle, variant: Variant, source: Float32Source, recipe: Recipe, features: npt.NDArray[np.float64]
) -> None:
    """Compare what the first layer adds to its input; prompt, then audio, as the model meets them."""
    dims = bundle.manifest.decoder
    start = bundle.manifest.tokens.audio - PROMPT_TOKENS // 2
    start = max(0, min(start, dims.vocab_size - PROMPT_TOKENS))
    prompt = source.table(start, start + PROMPT_TOKENS)
    x = np.concatenate([prompt.astype(np.float64), features]).astype(np.float32)
    expected = first_layer(source, dims, x.astype(np.float64))
    parts = {variant.decoder_init: recipe.init}
    files = bundle.manifest.files
    if files[variant.decoder_init] != files[variant.decoder_step]:  # otherwise it is the same graph
        parts[variant.decoder_step] = recipe.step
    for name, scheme in parts.items():
        found = _first_layer_of_graph(bundle.path / name, dims.kv_heads, dims.head_dim, x)
        basis = (lambda rows: rotate(rows, axis=1)) if recipe.rotation else (lambda rows: rows)
        added = found.astype(np.float64) - basis(x)
        _compare(bundle.path / name, "first layer", added, basis(expected.astype(np.float32)), scheme.error)


def _first_layer_of_graph(path: Path, kv_heads: int, head_dim: int, x: Floats) -> Floats:
    """Return the residual stream after the first layer of a decoder graph."""
    model = ir.load(path)
    cache = [names.past_name("key", 0), names.past_name("value", 0)]
    inputs = [names.EMBEDS, names.SEQLENS, names.TOTAL, *cache]
    # The cache is written in place, and so an output too, whether it is read or not.
    presents = [names.present_name("key", 0), names.present_name("value", 0)]
    graph = extract(model.graph, inputs=inputs, outputs=[*names.layer_boundary(0), *presents])
    part = ir.to_proto(ir.Model(graph, ir_version=model.ir_version)).SerializeToString()
    session = _session(part, path.parent)
    types = {port.name: np.float16 if "float16" in port.type else np.float32 for port in session.get_inputs()}
    length = len(x)
    values: dict[str, npt.NDArray[Any]] = {
        names.EMBEDS: x[None],
        names.SEQLENS: np.array([length - 1], dtype=np.int32),
        names.TOTAL: np.array(length, dtype=np.int32),
        **{name: np.zeros((1, kv_heads, length, head_dim), dtype=types[name]) for name in cache},
    }
    output, residual, *_ = session.run(None, values)
    after: Floats = (output.astype(np.float32) + residual.astype(np.float32))[0]
    return after


def _hear(bundle: Bundle, variant: str, clip: Waveform, threads: int | None) -> None:
    """Have the whole bundle answer: what is no number is named by those who read it."""
    if bundle.manifest.kind == "asr":
        with Transcriber(bundle.path, variant, threads=threads) as asr:
            asr.transcribe(clip, max_new_tokens=4)
    else:
        languages = bundle.manifest.languages
        with Aligner(bundle.path, variant, threads=threads) as aligner:
            aligner.align(clip, "one two", "English" if "English" in languages else languages[0])


def _session(model: bytes, folder: Path) -> Any:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _compare(path: Path, what: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], rounding: float) -> None:
    """Compare root mean squares, over all positions."""
    size = float(np.sqrt(np.square(expected.astype(np.float64)).mean()))
    difference = float(np.sqrt(np.square(found - expected, dtype=np.float64).mean()))
    bound = min(LARGEST, max(EXACT, MARGIN * rounding))
    if not difference <= bound * size:
        raise BundleError(
            f"{path}: its {what} differ from the checkpoint's by {difference / max(size, 1e-30):.1%}, and rounding "
            f"explains {bound:.1%}; the disk or memory may be faulty, or this is a bug: please report it"
        )
