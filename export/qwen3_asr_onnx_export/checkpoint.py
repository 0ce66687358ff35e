"""A Qwen3-ASR checkpoint directory -> its dimensions, token ids and tensors, in either layout.

Two layouts exist: the original release (`thinker.*` tensors, nested `thinker_config`) and the transformers-native one
(`model.language_model.*`, flat config). Everything after this file sees one set of names: the original ones without the
`thinker.` prefix. Tensors are read one at a time, so no more than one is ever in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.alignment.units import ALIGNER_LANGUAGES
from qwen3_asr_onnx.bundle.manifest import DecoderDims, EncoderDims, MelParams, TimestampHead
from qwen3_asr_onnx.bundle.names import HEAD
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.text.languages import LANGUAGES

from .shapes import expected_shapes
from .tensor_index import Layout, TensorRef, read_json, tensor_index

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint"]

SEGMENT_MS = 80
"""Milliseconds per time class where a processor config says nothing: the default of transformers' processor."""

CONFIG_FILE = "config.json"
EMBED = "model.embed_tokens.weight"


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

    @property
    def head_rows(self) -> int:
        """Width of the logits: words of the vocabulary, or times."""
        return self.decoder.vocab_size if self.timestamps is None else self.timestamps.classes

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read the config and the tensor index of the checkpoint in `path`.

        Raises:
            BundleError: not a Qwen3-ASR checkpoint, or a file or tensor is missing, damaged or of the wrong shape.
        """
        config = read_json(path / CONFIG_FILE, required=True)
        layout = _layout(path, config)
        thinker = config["thinker_config"] if layout == "original" else config
        audio = _section(path, thinker, "audio_config")
        text = _section(path, thinker, "text_config")
        generation = read_json(path / "generation_config.json", required=False)
        try:
            encoder = _encoder_dims(audio)
            decoder = _decoder_dims(text)
            _refuse_unknown_maths(path, audio, text)
            eos = generation.get("eos_token_id", thinker.get("eos_token_id"))
            if eos is None:
                raise KeyError("eos_token_id (generation_config.json)")
            checkpoint = cls(
                path=path,
                layout=layout,
                encoder=encoder,
                decoder=decoder,
                mel=_mel_params(path, audio),
                audio_token=int(thinker["audio_token_id"]),
                eos_tokens=tuple(int(i) for i in (eos if isinstance(eos, list) else [eos])),
                languages=tuple(config.get("support_languages") or _languages(config)),
                tied=_tied(thinker, text) and not _is_aligner(config),
                tensors=tensor_index(path, layout),
                timestamps=_timestamp_head(path, config) if _is_aligner(config) else None,
            )
        except KeyError as error:
            raise BundleError(
                f"{path / CONFIG_FILE}: no field {error.args[0]}; is this checkpoint complete?"
            ) from error
        checkpoint._check_tensors()
        return checkpoint

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

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor as stored, under its canonical name. A tied head reads the embedding table.

        Raises:
            BundleError: the file is truncated or damaged.
        """
        return self.read_rows(name, 0, self._ref(name).shape[0])

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return rows [start, stop) of a tensor along its first axis; otherwise as `read`."""
        from safetensors import SafetensorError, safe_open

        ref = self._ref(name)
        try:
            # Opened for each read: a file kept open keeps every page ever read in this process's resident memory.
            with safe_open(ref.file, framework="pt") as file:
                rows: torch.Tensor = file.get_slice(ref.key)[start:stop]
                return rows.clone()
        except (SafetensorError, OSError) as error:
            raise BundleError(f"{ref.file}: {ref.key} cannot be read ({error}); download the file again") from error

    def _ref(self, name: str) -> TensorRef:
        return self.tensors[EMBED if name == HEAD and self.tied else name]

    def verify_tied_head(self) -> None:
        """Check that a head stored beside the table it is tied to holds the same numbers.

        Raises:
            BundleError: they differ, so dropping one would change the model.
        """
        if not self.tied or HEAD not in self.tensors:
            return
        from safetensors import safe_open

        embed, head = self.tensors[EMBED], self.tensors[HEAD]
        with safe_open(embed.file, framework="pt") as file, safe_open(head.file, framework="pt") as other:
            left, right = file.get_slice(embed.key), other.get_slice(head.key)
            for start in range(0, embed.shape[0], 8192):
                if not bool((left[start : start + 8192] == right[start : start + 8192]).all()):
                    raise BundleError(
                        f"{self.path}: lm_head.weight differs from embed_tokens.weight although config.json ties them; "
                        "set tie_word_embeddings to false in config.json if the head is meant to differ"
                    )


def _layout(path: Path, config: Mapping[str, Any]) -> Layout:
    """Tell the two layouts apart, and turn away what is neither, by the config alone."""
    if config.get("format") == "qwen3-asr-onnx":
        raise BundleError(f"{path}: this is an exported bundle already; give the checkpoint it was made from")
    if config.get("model_type") != "qwen3_asr":
        raise BundleError(f"{path}: model_type is {config.get('model_type')!r}; this exporter knows 'qwen3_asr'")
    return "original" if isinstance(config.get("thinker_config"), dict) else "native"


def _is_aligner(config: Mapping[str, Any]) -> bool:
    thinker = config.get("thinker_config")
    inner = thinker if isinstance(thinker, dict) else config
    kinds = {inner.get("model_type"), *(config.get("architectures") or ())}
    return bool(kinds & {"qwen3_forced_aligner", "Qwen3ASRForTokenClassification"}) or "classify_num" in inner


def _languages(config: Mapping[str, Any]) -> tuple[str, ...]:
    return ALIGNER_LANGUAGES if _is_aligner(config) else tuple(LANGUAGES)


def _tied(thinker: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    return bool(text.get("tie_word_embeddings", thinker.get("tie_word_embeddings", False)))


def _timestamp_head(path: Path, config: Mapping[str, Any]) -> TimestampHead:
    """Return the head of an aligner: the original layout counts its classes, transformers lists their labels."""
    thinker = config.get("thinker_config")
    if isinstance(thinker, dict):
        classes, segment_ms = int(thinker["classify_num"]), config["timestamp_segment_time"]
    else:
        if config.get("token_classification_bias", False):
            raise BundleError(f"{path / CONFIG_FILE}: token_classification_bias is true; this exporter knows false")
        processor = read_json(path / "processor_config.json", required=False)
        classes, segment_ms = len(config["id2label"]), processor.get("timestamp_segment_time", SEGMENT_MS)
    if segment_ms != int(segment_ms) or segment_ms < 1:
        raise BundleError(f"{path}: timestamp_segment_time is {segment_ms}; give whole milliseconds")
    return TimestampHead(classes, int(segment_ms), int(config["timestamp_token_id"]))


def _section(path: Path, config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    if not isinstance(section, dict):
        raise BundleError(f"{path / CONFIG_FILE}: no {name}; is this checkpoint complete?")
    return section


def _encoder_dims(audio: Mapping[str, Any]) -> EncoderDims:
    return EncoderDims(
        layers=int(audio["encoder_layers"]),
        d_model=int(audio["d_model"]),
        heads=int(audio["encoder_attention_heads"]),
        ffn=int(audio["encoder_ffn_dim"]),
        conv_channels=int(audio["downsample_hidden_size"]),
        output_dim=int(audio["output_dim"]),
        block_frames=2 * int(audio["n_window"]),
        window_frames=int(audio["n_window_infer"]),
    )


def _decoder_dims(text: Mapping[str, Any]) -> DecoderDims:
    rope = text.get("rope_parameters") or {}
    heads = int(text["num_attention_heads"])
    return DecoderDims(
        layers=int(text["num_hidden_layers"]),
        hidden=int(text["hidden_size"]),
        intermediate=int(text["intermediate_size"]),
        heads=heads,
        kv_heads=int(text["num_key_value_heads"]),
        head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // heads),
        vocab_size=int(text["vocab_size"]),
        rope_theta=float(rope["rope_theta"] if "rope_theta" in rope else text["rope_theta"]),
        rms_norm_eps=float(text["rms_norm_eps"]),
        max_positions=int(text["max_position_embeddings"]),
    )


def _refuse_unknown_maths(path: Path, audio: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raise on any setting under which the graphs built here would compute something else than the checkpoint means."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    facts = (
        ("audio_config.activation_function", audio.get("activation_function", "gelu"), "gelu"),
        ("audio_config.scale_embedding", audio.get("scale_embedding", False), False),
        ("text_config.hidden_act", text.get("hidden_act", "silu"), "silu"),
        ("text_config.attention_bias", text.get("attention_bias", False), False),
        ("text_config.use_sliding_window", text.get("use_sliding_window", False), False),
        ("text_config rope_type", rope.get("rope_type", rope.get("type", "default")), "default"),
    )
    for name, found, known in facts:
        if found != known:
            raise BundleError(f"{path / CONFIG_FILE}: {name} is {found!r}; this exporter knows {known!r} only")


def _mel_params(path: Path, audio: Mapping[str, Any]) -> MelParams:
    found = read_json(path / "preprocessor_config.json", required=False)
    if not found:
        found = read_json(path / "processor_config.json", required=False).get("feature_extractor", {})
    default = MelParams()
    return MelParams(
        sample_rate=int(found.get("sampling_rate", default.sample_rate)),
        n_fft=int(found.get("n_fft", default.n_fft)),
        hop_length=int(found.get("hop_length", default.hop_length)),
        n_mels=int(audio["num_mel_bins"]),
    )
