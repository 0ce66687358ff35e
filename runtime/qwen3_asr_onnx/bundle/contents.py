"""What a manifest is made of: the dimensions, tokens, prompt, variants and files that a bundle says it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = [
    "EMBEDDINGS_FILE",
    "EMBEDDINGS_INT8_FILE",
    "FAMILY",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "FULL_RANGE_INT8",
    "MANIFEST_FILE",
    "TOKENIZER_FILE",
    "AnswerGrammar",
    "CacheDtype",
    "DecoderDims",
    "EncoderDims",
    "FileRecord",
    "MelParams",
    "PromptPieces",
    "SpecialTokens",
    "TimestampHead",
    "Variant",
]

FORMAT_NAME = "qwen3-asr-onnx"

FORMAT_VERSION = 2

FAMILY = "qwen3-asr"
"""The only family of models that there are graphs and prompts for."""

FULL_RANGE_INT8 = "full-range-int8"
"""What a variant needs whose products of 8-bit numbers overflow 16 bits: a processor that does not add them up in 16,
which x86 processors without VNNI do."""

MANIFEST_FILE = "config.json"

TOKENIZER_FILE = "tokenizer.json"

EMBEDDINGS_FILE = "embed_tokens.bin"
"""(vocab_size, hidden) float16, row-major."""

EMBEDDINGS_INT8_FILE = "embed_tokens.int8.bin"
"""(vocab_size, hidden) int8, row-major, then (vocab_size,) float32: a row is its codes times its scale."""

CacheDtype: TypeAlias = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True)
class MelParams:
    """Log-mel front end: rates in Hz, sizes in samples."""

    sample_rate: int = 16_000
    n_fft: int = 400
    hop_length: int = 160
    n_mels: int = 128


@dataclass(frozen=True, slots=True)
class EncoderDims:
    """Shape of the audio encoder.

    Attributes:
        layers: transformer layers.
        d_model: width inside the encoder.
        heads: attention heads.
        ffn: width of the feed-forward layers.
        conv_channels: channels of the convolution stem.
        output_dim: width of the output, equal to the decoder's hidden size.
        block_frames: mel frames per convolution block (1 second).
        window_frames: mel frames per attention window (8 seconds).
    """

    layers: int
    d_model: int
    heads: int
    ffn: int
    conv_channels: int
    output_dim: int
    block_frames: int = 100
    window_frames: int = 800


@dataclass(frozen=True, slots=True)
class DecoderDims:
    """Shape of the text decoder.

    `cache_dtype` is that of the variant which is loaded; the variants of a bundle name their own.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    rope_theta: float
    rms_norm_eps: float
    max_positions: int
    cache_dtype: CacheDtype = "float32"


@dataclass(frozen=True, slots=True)
class TimestampHead:
    """What a forced aligner has in place of a vocabulary head.

    Attributes:
        classes: width of the logits; class c stands for the time c x segment_ms.
        segment_ms: milliseconds per class.
        token: id of the token at whose positions the logits are times.
    """

    classes: int
    segment_ms: int
    token: int


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Token ids the decode loop needs; the prompt looks its own up by text."""

    audio: int
    eos: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PromptPieces:
    """The prompt as text. `{context}`, `{audio}` and `{forced}` are filled in by `prompt.build_prompt`."""

    template: str
    forced: str


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """How to read what the model writes.

    Attributes:
        kind: "language-tag" is `language English<asr_text>transcript`, and the transcript alone where the prompt named
            the language.
        tag: the token between language and transcript.
    """

    kind: Literal["language-tag"] = "language-tag"
    tag: str = "<asr_text>"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and sha256 (hex) of one file of the bundle."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Variant:
    """Which graphs go together, the weight files they need, the recipe that made them, and where they run.

    Attributes:
        encoder: file name of the encoder graph.
        decoder_init: file name of the prefill graph.
        decoder_step: file name of the one-token graph; an aligner writes no tokens and names its prefill graph again.
        weights: file names of the external data of those graphs.
        recipe: how it was made; open JSON.
        devices: devices the graphs were built for.
        mapped: graph files whose weights are used where the file is mapped, not rearranged in memory at load.
        embeddings: file name of the table of input embeddings, `EMBEDDINGS_FILE` or `EMBEDDINGS_INT8_FILE`.
        cache_dtype: of the keys and values that the decoder graphs read and extend.
        rescored: how many of the best tokens get their logits from the table of embeddings instead of the graph's
            rounded head; 0 for none.
        needs: what the processor must be able to do, `FULL_RANGE_INT8` or nothing so far; a variant is refused where it
            is not, or where this version does not know what is meant.
        verified: whether the one-token graph drafts only: what is written is what the prefill graph chooses.
        judge_steps_from: rows from which on the prefill graph of a verified variant writes without drafts, because that
            is quicker then; 0 for never.
    """

    encoder: str
    decoder_init: str
    decoder_step: str
    weights: tuple[str, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cpu",)
    mapped: tuple[str, ...] = ()
    embeddings: str = EMBEDDINGS_FILE
    cache_dtype: CacheDtype = "float32"
    rescored: int = 0
    needs: tuple[str, ...] = ()
    verified: bool = False
    judge_steps_from: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """Every file the variant needs beside the tokenizer, graphs first."""
        graphs = (self.encoder, self.decoder_init, self.decoder_step)
        return tuple(dict.fromkeys((*graphs, *self.weights, self.embeddings)))
