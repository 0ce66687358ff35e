"""A Qwen3-ASR checkpoint directory -> its dimensions, token ids and tensors, in either layout.

Two layouts exist: the original release (`thinker.*` tensors, nested `thinker_config`) and the transformers-native one
(`model.language_model.*`, flat config). Everything after this file sees one set of names: the original ones without the
`thinker.` prefix. Tensors are read in runs of rows or columns, so no large one is ever in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qwen3_asr_onnx.alignment.units import ALIGNER_LANGUAGES
from qwen3_asr_onnx.bundle.fields import Section
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims, MelParams, TimestampHead
from qwen3_asr_onnx.bundle.names import HEAD
from qwen3_asr_onnx.bundle.sections import (
    BLOCK_FRAMES,
    MAX_CLASSES,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_MELS,
    MAX_POSITIONS,
    MAX_SEGMENT_MS,
    MAX_STOPS,
    MAX_VOCABULARY,
    MAX_WIDTH,
    WINDOW_FRAMES,
)
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.text.languages import LANGUAGES

from .adapter import Adapter
from .shapes import expected_shapes
from .stored_file import Floats, TensorRef, read_columns, read_rows
from .tensor_index import EMBED, Layout, read_json, refuse_adapter, tensor_index

__all__ = ["CONFIG_FILE", "EMBED", "Checkpoint"]

SEGMENT_MS = 80
"""Milliseconds per time class where a processor config says nothing: the default of transformers' processor."""

REMEDY = "is this checkpoint complete? Download it again"

COMPARED_BYTES = 16 << 20
"""Largest float32 piece of either of two tensors that are compared."""

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose config has been read and whose tensors have been checked by name and shape.

    Attributes:
        path: the directory.
        layout: "original" or "native".
        encoder: dimensions of the audio encoder.
        decoder: dimensions of the text decoder.
        mel: front-end parameters.
        audio_token: id of the audio placeholder.
        eos_tokens: ids that end generation.
        languages: language names the checkpoint says it supports.
        tied: whether the output head is the embedding table.
        tensors: canonical tensor name -> where it lies.
        timestamps: the head of a forced aligner; None for a recogniser.
        adapter: what changes the tensors as they are read.
    """

    path: Path
    layout: Layout
    encoder: EncoderDims
    decoder: DecoderDims
    mel: MelParams
    audio_token: int
    eos_tokens: tuple[int, ...]
    languages: tuple[str, ...]
    tied: bool
    tensors: Mapping[str, TensorRef]
    timestamps: TimestampHead | None = None
    adapter: Adapter | None = None

    @property
    def head_rows(self) -> int:
        """Width of the logits: words of the vocabulary, or times."""
        return self.decoder.vocab_size if self.timestamps is None else self.timestamps.classes

    @classmethod
    def open(cls, path: Path, adapter: Path | None = None) -> Checkpoint:
        """Read the config and the tensor index of the checkpoint in `path`.

        Args:
            path: its directory.
            adapter: the directory of a LoRA adapter to merge into it.

        Raises:
            BundleError: not a Qwen3-ASR checkpoint, or a file or tensor is missing, damaged or of the wrong shape; or
                the adapter is not usable or for another base.
        """
        refuse_adapter(path)
        config = read_json(path / CONFIG_FILE, required=True)
        layout = _layout(path, config)
        top = Section(config, path / CONFIG_FILE, remedy=REMEDY)
        thinker = top.section("thinker_config") if layout == "original" else top
        audio, text = thinker.section("audio_config"), thinker.section("text_config")
        decoder = _decoder_dims(text)
        encoder = _encoder_dims(audio, decoder)
        _refuse_unknown_maths(audio, text)
        mel = _mel_params(path, audio)
        aligner = _is_aligner(config)
        languages = top.texts("support_languages", 100, ())
        checkpoint = cls(
            path=path,
            layout=layout,
            encoder=encoder,
            decoder=decoder,
            mel=mel,
            audio_token=thinker.integer("audio_token_id", 0, decoder.vocab_size - 1),
            eos_tokens=_eos_tokens(path, thinker, decoder.vocab_size - 1),
            languages=languages or (ALIGNER_LANGUAGES if aligner else tuple(LANGUAGES)),
            tied=_tied(thinker, text) and not aligner,
            timestamps=_timestamp_head(path, top, layout, decoder) if aligner else None,
            tensors=tensor_index(path, layout),
        )
        checkpoint._check_tensors()
        if adapter is None:
            return checkpoint
        base = {**checkpoint.tensors, HEAD: checkpoint._ref(HEAD)}
        return replace(checkpoint, adapter=Adapter.open(adapter, base, tied=checkpoint.tied))

    def _check_tensors(self) -> None:
        """Assert that exactly the tensors the config promises are there, each in its shape."""
        expected = expected_shapes(self.encoder, self.decoder, self.mel.n_mels, self.head_rows)
        if self.tied and HEAD not in self.tensors:
            expected.pop(HEAD)
        missing = [name for name in expected if name not in self.tensors]
        if missing:
            raise BundleError(f"{self.path}: {len(missing)} tensors missing, first: {missing[0]}; download it again")
        unknown = [name for name in self.tensors if name not in expected]
        if unknown:
            raise BundleError(
                f"{self.path}: {len(unknown)} tensors that a Qwen3-ASR model does not have, first: {unknown[0]}; "
                "merge adapters into the weights before exporting"
            )
        for name, shape in expected.items():
            found = self.tensors[name].shape
            if found != shape:
                raise BundleError(f"{self.path}: {name} has shape {list(found)}, config.json implies {list(shape)}")

    def read(self, name: str) -> Floats:
        """Return one tensor in float32, under its canonical name. A tied head reads the embedding table.

        Raises:
            BundleError: the file is truncated or damaged.
        """
        return self.read_rows(name, 0, self._ref(name).shape[0])

    def read_rows(self, name: str, start: int, stop: int) -> Floats:
        """Return rows [start, stop) of a tensor along its first axis; otherwise as `read`."""
        if self.adapter is not None:
            return self.adapter.rows(name, self._ref(name), start, stop)
        return read_rows(self._ref(name), start, stop)

    def read_columns(self, name: str, start: int, stop: int) -> Floats:
        """Return columns [start, stop) of a matrix as rows of its transpose, in C order; otherwise as `read`."""
        if self.adapter is not None and self.adapter.changes(name):
            return np.ascontiguousarray(self.read(name)[:, start:stop].T)
        return read_columns(self._ref(name), start, stop)

    def stored_name(self, name: str) -> str:
        """Return under which canonical name a tensor is stored: a tied head is the embedding table."""
        return EMBED if name == HEAD and self.tied else name

    def _ref(self, name: str) -> TensorRef:
        return self.tensors[self.stored_name(name)]

    def verify_tied_head(self) -> None:
        """Check that a head stored beside the table it is tied to holds the same numbers.

        Raises:
            BundleError: they differ, so dropping one would change the model.
        """
        if not self.tied or HEAD not in self.tensors:
            return
        embed, head = self.tensors[EMBED], self.tensors[HEAD]
        step = max(1, COMPARED_BYTES // (4 * embed.shape[1]))
        for start in range(0, embed.shape[0], step):
            stop = min(start + step, embed.shape[0])
            if not np.array_equal(read_rows(embed, start, stop), read_rows(head, start, stop)):
                raise BundleError(
                    f"{self.path}: lm_head.weight differs from embed_tokens.weight although config.json ties them; "
                    "set tie_word_embeddings to false in config.json if the head is meant to differ"
                )


def _layout(path: Path, config: Mapping[str, Any]) -> Layout:
    """Tell the two layouts apart, and turn away what is neither, by the config alone."""
    if config.get("format") == "qwen3-asr-onnx":
        raise BundleError(f"{path}: this is an exported bundle already; give the checkpoint it was made from")
    if config.get("model_type") != "qwen3_asr":
        raise BundleError(
            f"{path}: model_type is {str(config.get('model_type'))[:80]!r}; this exporter knows 'qwen3_asr'"
        )
    if config.get("quantization_config") is not None:
        raise BundleError(
            f"{path}: quantization_config says that these weights are quantized already; give the checkpoint that they "
            "were made from"
        )
    return "original" if "thinker_config" in config else "native"


def _is_aligner(config: Mapping[str, Any]) -> bool:
    thinker = config.get("thinker_config")
    inner = thinker if isinstance(thinker, dict) else config
    listed = config.get("architectures")
    kinds = [inner.get("model_type"), *(listed if isinstance(listed, list) else ())]
    return any(kind in ("qwen3_forced_aligner", "Qwen3ASRForTokenClassification") for kind in kinds) or (
        "classify_num" in inner
    )


def _tied(thinker: Section, text: Section) -> bool:
    """Return whether the head is the table: the model's own config decides, as in transformers, not its text part."""
    key = "tie_word_embeddings"
    return thinker.flag(key) if thinker.has(key) else text.flag(key, True)


def _eos_tokens(path: Path, thinker: Section, last: int) -> tuple[int, ...]:
    """Return the ids that end generation, each once."""
    file = path / "generation_config.json"
    generation = Section(read_json(file, required=False), file, remedy=REMEDY)
    key = "eos_token_id"
    source = generation if generation.has(key) else thinker
    if not source.has(key):
        raise BundleError(f"{path / CONFIG_FILE}: no field {key} (generation_config.json); {REMEDY}")
    return source.id_or_ids(key, last, MAX_STOPS)


def _timestamp_head(path: Path, top: Section, layout: Layout, text: DecoderDims) -> TimestampHead:
    """Return the head of an aligner: the original layout counts its classes, transformers lists their labels."""
    key = "timestamp_segment_time"
    if layout == "original":
        classes, times = top.section("thinker_config").integer("classify_num", 2, MAX_CLASSES), top
    else:
        if top.flag("token_classification_bias", False):
            raise BundleError(f"{path / CONFIG_FILE}: token_classification_bias is true; this exporter knows false")
        file = path / "processor_config.json"
        classes, times = len(top.mapping("id2label")), Section(read_json(file, required=False), file, remedy=REMEDY)
    segment_ms = times.number(key, 0, 1e9, SEGMENT_MS) if layout == "native" else times.number(key, 0, 1e9)
    if not 1 <= segment_ms <= MAX_SEGMENT_MS or segment_ms != int(segment_ms):
        raise BundleError(f"{path}: {key} is {segment_ms:g}; give whole milliseconds")
    return TimestampHead(classes, int(segment_ms), top.integer("timestamp_token_id", 0, text.vocab_size - 1))


def _encoder_dims(audio: Section, text: DecoderDims) -> EncoderDims:
    half = BLOCK_FRAMES // 2
    return EncoderDims(
        layers=audio.integer("encoder_layers", 1, MAX_LAYERS),
        d_model=audio.integer("d_model", 1, MAX_WIDTH),
        heads=audio.integer("encoder_attention_heads", 1, MAX_HEADS),
        ffn=audio.integer("encoder_ffn_dim", 1, 4 * MAX_WIDTH),
        conv_channels=audio.integer("downsample_hidden_size", 1, MAX_WIDTH),
        output_dim=audio.integer("output_dim", text.hidden, text.hidden),
        # The front end and the windows of this family: the runtime knows no others.
        block_frames=2 * audio.integer("n_window", half, half),
        window_frames=audio.integer("n_window_infer", WINDOW_FRAMES, WINDOW_FRAMES),
    )


def _decoder_dims(text: Section) -> DecoderDims:
    heads = text.integer("num_attention_heads", 1, MAX_HEADS)
    hidden = text.integer("hidden_size", 1, MAX_WIDTH)
    if heads % text.integer("num_key_value_heads", 1, heads):
        raise text.refuse("num_key_value_heads", f"a divisor of {heads}, the num_attention_heads")
    rope = text.section("rope_parameters") if text.has("rope_parameters") else text
    return DecoderDims(
        layers=text.integer("num_hidden_layers", 1, MAX_LAYERS),
        hidden=hidden,
        intermediate=text.integer("intermediate_size", 1, 4 * MAX_WIDTH),
        heads=heads,
        kv_heads=text.integer("num_key_value_heads", 1, heads),
        head_dim=text.integer("head_dim", 1, MAX_HEAD_DIM) if text.has("head_dim") else hidden // heads,
        vocab_size=text.integer("vocab_size", 1, MAX_VOCABULARY),
        rope_theta=(rope if rope.has("rope_theta") else text).number("rope_theta", 1.0, 1e12),
        rms_norm_eps=text.number("rms_norm_eps", 0.0, 1.0),
        max_positions=text.integer("max_position_embeddings", 1, MAX_POSITIONS),
    )


def _refuse_unknown_maths(audio: Section, text: Section) -> None:
    """Raise on any setting under which the graphs built here would compute something else than the checkpoint means."""
    audio.fact("activation_function", "gelu")
    audio.fact("scale_embedding", False)
    text.fact("hidden_act", "silu")
    text.fact("attention_bias", False)
    text.fact("use_sliding_window", False)
    for name in ("rope_parameters", "rope_scaling"):
        if text.has(name):
            rope = text.section(name)
            rope.fact("rope_type" if rope.has("rope_type") else "type", "default")


def _mel_params(path: Path, audio: Section) -> MelParams:
    file = path / "preprocessor_config.json"
    found = Section(read_json(file, required=False), file, remedy=REMEDY)
    if not file.exists():
        file = path / "processor_config.json"
        found = Section(read_json(file, required=False), file, remedy=REMEDY).section("feature_extractor", {})
    known = MelParams()
    return MelParams(
        sample_rate=found.integer("sampling_rate", known.sample_rate, known.sample_rate, known.sample_rate),
        n_fft=found.integer("n_fft", known.n_fft, known.n_fft, known.n_fft),
        hop_length=found.integer("hop_length", known.hop_length, known.hop_length, known.hop_length),
        n_mels=audio.integer("num_mel_bins", 1, MAX_MELS),
    )
