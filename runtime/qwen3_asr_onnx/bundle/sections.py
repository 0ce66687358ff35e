"""The sections of a manifest, read and checked: what this family of models can have, and nothing else.

What the graphs prove is bounded here by what is sane, so that nothing large is allocated before they are asked; what
they cannot prove, the front end and the windows of the encoder, has one right value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .contents import (
    EMBEDDINGS_FILE,
    EMBEDDINGS_INT8_FILE,
    FULL_RANGE_INT8,
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

__all__ = [
    "BLOCK_FRAMES",
    "MAX_CLASSES",
    "MAX_HEADS",
    "MAX_HEAD_DIM",
    "MAX_LAYERS",
    "MAX_MELS",
    "MAX_POSITIONS",
    "MAX_SEGMENT_MS",
    "MAX_STOPS",
    "MAX_VOCABULARY",
    "MAX_WIDTH",
    "WINDOW_FRAMES",
    "answer",
    "decoder",
    "encoder",
    "files",
    "mel",
    "prompt",
    "timestamps",
    "tokens",
    "variants",
]

MAX_LAYERS = 512
MAX_WIDTH = 1 << 16
MAX_HEADS = 1024
MAX_VOCABULARY = 1 << 21
MAX_POSITIONS = 1 << 22
MAX_HEAD_DIM = 4096
MAX_MELS = 1024
MAX_STOPS = 64
MAX_ROWS = 1 << 12
MAX_CLASSES = 1 << 20
MAX_SEGMENT_MS = 10_000
MAX_FILE_BYTES = 1 << 46
BLOCK_FRAMES, WINDOW_FRAMES = 100, 800


def encoder(section: Section, text: DecoderDims) -> EncoderDims:
    """Return the dimensions of the encoder, whose output the decoder must be able to read."""
    section.only(_names(EncoderDims))
    return EncoderDims(
        layers=section.integer("layers", 1, MAX_LAYERS),
        d_model=section.integer("d_model", 1, MAX_WIDTH),
        heads=section.integer("heads", 1, MAX_HEADS),
        ffn=section.integer("ffn", 1, 4 * MAX_WIDTH),
        conv_channels=section.integer("conv_channels", 1, MAX_WIDTH),
        output_dim=section.integer("output_dim", text.hidden, text.hidden),
        block_frames=section.integer("block_frames", BLOCK_FRAMES, BLOCK_FRAMES, BLOCK_FRAMES),
        window_frames=section.integer("window_frames", WINDOW_FRAMES, WINDOW_FRAMES, WINDOW_FRAMES),
    )


def decoder(section: Section) -> DecoderDims:
    """Return the dimensions of the decoder."""
    section.only(_names(DecoderDims))
    heads = section.integer("heads", 1, MAX_HEADS)
    if heads % section.integer("kv_heads", 1, heads):
        raise section.refuse("kv_heads", f"a divisor of {heads}, the heads")
    return DecoderDims(
        layers=section.integer("layers", 1, MAX_LAYERS),
        hidden=section.integer("hidden", 1, MAX_WIDTH),
        intermediate=section.integer("intermediate", 1, 4 * MAX_WIDTH),
        heads=heads,
        kv_heads=section.integer("kv_heads", 1, heads),
        head_dim=section.integer("head_dim", 1, MAX_HEAD_DIM),
        vocab_size=section.integer("vocab_size", 1, MAX_VOCABULARY),
        rope_theta=section.number("rope_theta", 1.0, 1e12),
        rms_norm_eps=section.number("rms_norm_eps", 0.0, 1.0),
        max_positions=section.integer("max_positions", 1, MAX_POSITIONS),
        cache_dtype=_cache_dtype(section),
    )


def mel(section: Section) -> MelParams:
    """Return the front end. No graph shows what it was trained on, so all but the number of bands is what we know."""
    section.only(_names(MelParams))
    known = MelParams()
    return MelParams(
        sample_rate=section.integer("sample_rate", known.sample_rate, known.sample_rate),
        n_fft=section.integer("n_fft", known.n_fft, known.n_fft),
        hop_length=section.integer("hop_length", known.hop_length, known.hop_length),
        n_mels=section.integer("n_mels", 1, MAX_MELS),
    )


def tokens(section: Section, text: DecoderDims) -> SpecialTokens:
    """Return the special tokens, known to be in the vocabulary."""
    section.only(_names(SpecialTokens))
    last = text.vocab_size - 1
    return SpecialTokens(section.integer("audio", 0, last), section.integers("eos", 0, last, MAX_STOPS))


def prompt(section: Section) -> PromptPieces:
    """Return the pieces of the prompt; the tokens in them are looked up when the tokenizer is loaded."""
    section.only(_names(PromptPieces))
    return PromptPieces(section.text("template", 10_000, lines=True), section.text("forced", 10_000, lines=True))


def timestamps(section: Section, text: DecoderDims) -> TimestampHead:
    """Return the head of an aligner."""
    section.only(_names(TimestampHead))
    return TimestampHead(
        classes=section.integer("classes", 2, MAX_CLASSES),
        segment_ms=section.integer("segment_ms", 1, MAX_SEGMENT_MS),
        token=section.integer("token", 0, text.vocab_size - 1),
    )


def answer(top: Section) -> AnswerGrammar:
    """Return the grammar of answers; bundles made before it was recorded have the one there was."""
    known = AnswerGrammar()
    if not top.has("answer"):
        return known
    section = top.section("answer")
    section.only(_names(AnswerGrammar))
    section.choice("kind", (known.kind,), known.kind)
    return AnswerGrammar(tag=section.text("tag", 100, known.tag))


def files(section: Section) -> dict[str, FileRecord]:
    """Return the files by name."""
    return {section.plain_name("files", name): _file_record(section.section(name)) for name in section.keys()}  # noqa: SIM118


def variants(section: Section, text: DecoderDims) -> dict[str, Variant]:
    """Return the variants by name, in their order."""
    return {
        section.plain_name("variants", name): _variant(section.section(name), text)
        for name in section.keys()  # noqa: SIM118 - a section is no mapping
    }


def _file_record(section: Section) -> FileRecord:
    section.only(_names(FileRecord))
    digest = section.pattern("sha256", "[0-9a-f]{64}", "a sha256 of 64 hexadecimal digits")
    return FileRecord(section.integer("size", 0, MAX_FILE_BYTES), digest)


def _variant(section: Section, text: DecoderDims) -> Variant:
    section.only(_names(Variant))
    recipe = section.mapping("recipe", {})
    tables = (EMBEDDINGS_FILE, EMBEDDINGS_INT8_FILE)
    return Variant(
        encoder=section.file_name("encoder"),
        decoder_init=section.file_name("decoder_init"),
        decoder_step=section.file_name("decoder_step"),
        weights=section.file_names("weights"),
        recipe=recipe,
        devices=section.texts("devices", 40, ("cpu",)),
        mapped=section.file_names("mapped", ()),
        embeddings=section.choice("embeddings", tables, EMBEDDINGS_FILE),
        cache_dtype=_cache_dtype(section),
        rescored=section.integer("rescored", 0, min(1024, text.vocab_size), 0),
        needs=section.texts("needs", 100, _needs(recipe)),
        verified=section.flag("verified", False),
        judge_steps_from=section.integer("judge_steps_from", 0, MAX_ROWS, 0),
    )


def _cache_dtype(section: Section) -> CacheDtype:
    found: Literal["float32", "float16"] = "float32"
    if section.choice("cache_dtype", ("float32", "float16"), found) == "float16":
        found = "float16"
    return found


def _needs(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a variant needs whose bundle was made before that was recorded: only its recipe tells."""
    parts = [part for part in recipe.values() if isinstance(part, Mapping)]
    full_range = any(part.get("scheme") == "w8a8" and not part.get("reduce_range") for part in parts)
    return (FULL_RANGE_INT8,) if full_range else ()


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(kind.__dataclass_fields__)
