"""The on-disk contract: what files a bundle holds, what its manifest says, and how both are written and checked.

A bundle is a directory with a `config.json` (the manifest), a tokenizer, the FP16 embedding table and, per variant,
three graphs with their weight files. It needs neither onnxruntime nor onnx.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwen3_asr_onnx.errors import BundleError

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
    "Manifest",
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

    @property
    def files(self) -> tuple[str, ...]:
        """Every file the variant needs beside the tokenizer, graphs first."""
        graphs = (self.encoder, self.decoder_init, self.decoder_step)
        return tuple(dict.fromkeys((*graphs, *self.weights, self.embeddings)))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything `config.json` says."""

    name: str
    kind: Literal["asr", "aligner"]
    encoder: EncoderDims
    decoder: DecoderDims
    mel: MelParams
    tokens: SpecialTokens
    prompt: PromptPieces
    languages: tuple[str, ...]
    variants: Mapping[str, Variant]
    files: Mapping[str, FileRecord]
    source: Mapping[str, Any] = field(default_factory=dict)
    timestamps: TimestampHead | None = None
    """Given for aligners, and for them alone."""
    family: str = FAMILY
    """Whose graphs, prompts and tokens these are."""
    answer: AnswerGrammar | None = None
    """Given for models that write text, and for them alone."""

    def to_json(self) -> str:
        """Return the manifest as the text of `config.json`."""
        body = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(body, indent=2, ensure_ascii=False) + "\n"

    def save(self, folder: Path) -> None:
        """Write the manifest of the bundle in `folder`, whole or not at all."""
        partial = folder / f"{MANIFEST_FILE}.incomplete"
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(folder / MANIFEST_FILE)

    @classmethod
    def from_json(cls, text: str, where: Path) -> Manifest:
        """Parse `config.json`.

        Raises:
            BundleError: not JSON, not a bundle, of another format, or with a field missing or of the wrong type.
        """
        try:
            body = json.loads(text)
        except ValueError as error:
            raise BundleError(f"{where}: not valid JSON ({error}); export or download the bundle again") from error
        if not isinstance(body, dict) or body.get("format") != FORMAT_NAME:
            hint = (
                "this looks like a checkpoint; run: qwen3-asr-onnx export"
                if _is_checkpoint(body)
                else "wrong directory?"
            )
            raise BundleError(f"{where}: not a {FORMAT_NAME} bundle ({hint})")
        version = body.get("format_version")
        if version != FORMAT_VERSION:
            newer = isinstance(version, int) and version > FORMAT_VERSION
            raise BundleError(
                f"{where}: bundle format {version}, this version reads {FORMAT_VERSION}; "
                + ("upgrade qwen3-asr-onnx" if newer else "export or download the bundle again")
            )
        try:
            return cls(
                name=str(body["name"]),
                kind=body["kind"],
                encoder=EncoderDims(**body["encoder"]),
                decoder=DecoderDims(**body["decoder"]),
                mel=MelParams(**body["mel"]),
                tokens=SpecialTokens(int(body["tokens"]["audio"]), tuple(body["tokens"]["eos"])),
                prompt=PromptPieces(**body["prompt"]),
                languages=tuple(body["languages"]),
                variants={name: _variant(entry) for name, entry in body["variants"].items()},
                files={_plain_name(name): FileRecord(**entry) for name, entry in body["files"].items()},
                source=body.get("source", {}),
                timestamps=_timestamp_head(body),
                family=_known("family", body.get("family", FAMILY), FAMILY),
                answer=_answer(body),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(
                f"{where}: damaged manifest ({type(error).__name__}: {error}); export or download the bundle again"
            ) from error


def _timestamp_head(body: Mapping[str, Any]) -> TimestampHead | None:
    if body["kind"] != "aligner":
        return None
    return TimestampHead(**{key: int(value) for key, value in body["timestamps"].items()})


def _answer(body: Mapping[str, Any]) -> AnswerGrammar | None:
    """Return the grammar of answers; bundles made before it was recorded have the one there was."""
    if body["kind"] != "asr":
        return None
    grammar = AnswerGrammar(**body.get("answer") or {})
    _known("answers", grammar.kind, AnswerGrammar().kind)
    return grammar


def _known(what: str, found: str, known: str) -> str:
    if found != known:
        raise ValueError(f"{what}: {found!r}, this version knows {known!r}")
    return found


def _needs(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a variant needs whose bundle was made before that was recorded: only its recipe tells."""
    parts = [part for part in recipe.values() if isinstance(part, Mapping)]
    full_range = any(part.get("scheme") == "w8a8" and not part.get("reduce_range") for part in parts)
    return (FULL_RANGE_INT8,) if full_range else ()


def _is_checkpoint(body: object) -> bool:
    return isinstance(body, dict) and ("thinker_config" in body or "architectures" in body)


def _plain_name(name: str) -> str:
    """Return the name if it is a plain file name: a manifest must not reach outside its own directory."""
    if not name or name != Path(name).name or "\\" in name or name in {".", ".."}:
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _variant(entry: Mapping[str, Any]) -> Variant:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    variant = Variant(**{"needs": _needs(fields.get("recipe", {})), **fields})
    for name in variant.files:
        _plain_name(name)
    if variant.embeddings not in (EMBEDDINGS_FILE, EMBEDDINGS_INT8_FILE):
        raise ValueError(f"embeddings are {variant.embeddings!r}, a form this version does not read")
    if variant.cache_dtype not in ("float32", "float16"):
        raise ValueError(f"the cache is {variant.cache_dtype!r}, a type this version does not know")
    return variant
