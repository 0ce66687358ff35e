"""The on-disk contract: what files a bundle holds, what its manifest says, and how both are written and checked.

A bundle is a directory with a `config.json` (the manifest), a tokenizer, the FP16 embedding table and, per variant,
three graphs with their weight files. It needs neither onnxruntime nor onnx.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qwen3_asr_onnx.errors import BundleError

from . import sections
from .contents import (
    EMBEDDINGS_FILE,
    EMBEDDINGS_INT8_FILE,
    FAMILY,
    FORMAT_NAME,
    FORMAT_VERSION,
    FULL_RANGE_INT8,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    AnswerGrammar,
    CacheDtype,
    DecoderDims,
    EncoderDims,
    FileRecord,
    MelParams,
    PromptPieces,
    SpecialTokens,
    TimestampHead,
    Variant,
)
from .fields import Section
from .json_text import parse_json

__all__ = [
    "DIGEST",
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
    "manifest_digest",
]

DIGEST = "digest"
"""The field of `config.json` that holds the digest of all others; absent from bundles made before there was one."""


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
        """Return the manifest as the text of `config.json`, its digest included."""
        body = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **asdict(self)}
        body = {**body, DIGEST: manifest_digest(body)}
        return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, folder: Path) -> None:
        """Write the manifest of the bundle in `folder`, whole or not at all."""
        partial = folder / f"{MANIFEST_FILE}.incomplete"
        partial.write_text(self.to_json(), encoding="utf-8")
        partial.replace(folder / MANIFEST_FILE)

    @classmethod
    def from_json(cls, text: str, where: Path) -> Manifest:
        """Parse `config.json`. What it says of the graphs is compared with them when they are loaded.

        Raises:
            BundleError: not JSON, not a bundle, of another format, edited or damaged, or with a field missing, of the
                wrong type or out of range.
        """
        body = parse_json(text, where)
        _refuse_other_formats(body, where)
        _check_digest(body, where)
        top = Section(body, where)
        kind: Literal["asr", "aligner"] = "asr" if top.choice("kind", ("asr", "aligner")) == "asr" else "aligner"
        decoder = sections.decoder(top.section("decoder"))
        files = sections.files(top.section("files"))
        encoder = sections.encoder(top.section("encoder"), decoder)
        return cls(
            name=top.text("name", 1024),
            kind=kind,
            encoder=encoder,
            decoder=decoder,
            mel=sections.mel(top.section("mel")),
            tokens=sections.tokens(top.section("tokens"), decoder),
            prompt=sections.prompt(top.section("prompt")),
            languages=top.texts("languages", 100),
            variants=sections.variants(top.section("variants"), decoder),
            files=files,
            source=top.mapping("source", {}),
            timestamps=sections.timestamps(top.section("timestamps"), decoder) if kind == "aligner" else None,
            family=top.choice("family", (FAMILY,), FAMILY),
            answer=sections.answer(top) if kind == "asr" else None,
        )


def manifest_digest(body: Mapping[str, Any]) -> str:
    """Return the digest that a manifest with these fields carries.

    It is the sha256, in hexadecimal, of the JSON of all fields but the digest itself, in the order in which they stand
    (the first variant is the default one), without white space, and with everything beyond ASCII escaped. So the
    digest survives other indentation and line ends, and nothing else.
    """
    rest = {key: value for key, value in body.items() if key != DIGEST}
    return hashlib.sha256(json.dumps(rest, separators=(",", ":"), allow_nan=False).encode("ascii")).hexdigest()


def _refuse_other_formats(body: object, where: Path) -> None:
    if not isinstance(body, dict) or body.get("format") != FORMAT_NAME:
        checkpoint = isinstance(body, dict) and ("thinker_config" in body or "architectures" in body)
        hint = "this looks like a checkpoint; run: qwen3-asr-onnx export" if checkpoint else "wrong directory?"
        if isinstance(body, dict) and "embed_tokens_dtype" in body:
            hint = "made by another exporter: it can be transcribed with, and nothing else"
        raise BundleError(f"{where}: not a {FORMAT_NAME} bundle ({hint})")
    version = body.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise BundleError(
            f"{where}: bundle format {str(version)[:20]}, this version reads {FORMAT_VERSION}; "
            + ("upgrade qwen3-asr-onnx" if newer else "export or download the bundle again")
        )


def _check_digest(body: Mapping[str, Any], where: Path) -> None:
    if DIGEST in body and body[DIGEST] != manifest_digest(body):
        raise BundleError(
            f"{where}: was edited or damaged after it was written: its contents do not match the {DIGEST} in it. "
            "Restore it, or export or download the bundle again"
        )
