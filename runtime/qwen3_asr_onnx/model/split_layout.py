"""Bundles of other exporters in the split layout: read, and run as they are.

    encoder[.V].onnx         mel (1, n_mels, T) -> audio_features (1, N, hidden), the whole clip at once
    decoder_init[.V].onnx    input_ids, position_ids (1, S), audio_features (1, N, hidden), audio_offset (1)
    decoder_step[.V].onnx    input_embeds (1, 1, hidden), position_ids (1, 1), past_keys, past_values
                                      both -> logits (1, *, vocab_size), present_keys, present_values
    embed_tokens.bin         (vocab_size, hidden) float16
    tokenizer.json, config.json

Caches (layers, 1, kv_heads, positions, head_dim) are handed over and back at every token. Prompts are made here, by the
text of the tokens: what ids such a folder's config names is not looked at.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import AudioFeatures, Mel
from qwen3_asr_onnx.bundle.files import Bundle, file_record
from qwen3_asr_onnx.bundle.json_text import parse_json, read_regular_text
from qwen3_asr_onnx.bundle.manifest import (
    EMBEDDINGS_FILE,
    FORMAT_NAME,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    AnswerGrammar,
    DecoderDims,
    EncoderDims,
    Manifest,
    MelParams,
    PromptPieces,
    SpecialTokens,
    Variant,
)
from qwen3_asr_onnx.bundle.names import AUDIO_FEATURES, EMBEDS, LOGITS, MEL, SEQLENS
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx.text.languages import LANGUAGES
from qwen3_asr_onnx.text.prompt import AUDIO_TOKEN, END_OF_TURN, FORCED_PREFIX, TEMPLATE

from .choosing import refuse_nan
from .decoder import Decoder
from .embeddings import Embedded
from .encoder import AudioEncoder
from .interface import Interface, Port
from .kv_cache import KvCache
from .session import Session

__all__ = ["SplitBundle", "SplitDecoder", "SplitEncoder", "open_split", "split_interfaces"]

GRAPH = re.compile(r"decoder_init(?:\.([\w-]+))?\.onnx")

END_OF_TEXT = "<|endoftext|>"

MAX_POSITIONS = 65_536
"""Of every released model; the folder does not say."""

IDS, POSITION_IDS, AUDIO_OFFSET, STEP_EMBEDS = "input_ids", "position_ids", "audio_offset", "input_embeds"
PAST, PRESENT = ("past_keys", "past_values"), ("present_keys", "present_values")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SplitBundle(Bundle):
    """A folder in the split layout, with the manifest that it would have if it were a bundle."""


def open_split(folder: Path) -> SplitBundle | None:
    """Return a folder in the split layout, opened; None if it is none.

    Raises:
        BundleError: it is one, and damaged, or stored in a way that is not read here.

    Warns:
        UserWarning: what is lost beside a bundle.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except (OSError, ValueError):  # whoever opens it as a bundle says why
        return None
    variants = [found[1] or "fp32" for found in map(GRAPH.fullmatch, sorted(names)) if found]
    where = folder / MANIFEST_FILE
    if not variants or MANIFEST_FILE not in names:
        return None
    body = parse_json(read_regular_text(where), where)
    if not isinstance(body, dict) or body.get("format") == FORMAT_NAME:
        return None
    missing = sorted({TOKENIZER_FILE, EMBEDDINGS_FILE} - names)
    if missing:
        raise BundleError(f"{folder}: no {missing[0]}, which a folder in the split layout has; copy it completely")
    warnings.warn(
        f"{folder}: made by another exporter (split layout): pieces are decoded one by one, and the cache is copied at "
        "every token, so it is slower; there are no digests, so damage is not noticed. Export the checkpoint again "
        "with qwen3-asr-onnx for all of it",
        stacklevel=3,
    )
    manifest = _manifest(folder, body, {name: _variant(folder, name, names) for name in variants})
    return SplitBundle(folder, manifest)


def _variant(folder: Path, name: str, names: set[str]) -> Variant:
    ending = next(end for end in (f".{name}.onnx", ".onnx") if f"decoder_init{end}" in names)
    graphs = [f"{part}{ending}" for part in ("encoder", "decoder_init", "decoder_step")]
    missing = [graph for graph in graphs if graph not in names]
    if missing:
        raise BundleError(f"{folder}: no {missing[0]}, which belongs to {graphs[1]}; copy the folder completely")
    encoder, init, step = graphs
    return Variant(encoder, init, step, weights=())


def _manifest(folder: Path, body: Mapping[str, Any], variants: Mapping[str, Variant]) -> Manifest:
    """Return what a bundle would say, from the folder's own config and its tokenizer."""
    where = folder / MANIFEST_FILE
    if body.get("embed_tokens_dtype", "float16") != "float16":
        raise BundleError(
            f"{where}: embed_tokens_dtype is {str(body['embed_tokens_dtype'])[:40]!r}; only float16 is read here: "
            "export the checkpoint with qwen3-asr-onnx"
        )
    hidden = _size(body, "hidden_size", where)
    rows, rest = divmod((folder / EMBEDDINGS_FILE).stat().st_size, 2 * hidden)
    if rest:
        raise BundleError(f"{folder / EMBEDDINGS_FILE}: no whole rows of {hidden} float16; copy the folder completely")
    decoder = DecoderDims(
        layers=_size(body, "num_layers", where),
        hidden=hidden,
        intermediate=0,
        heads=0,
        kv_heads=_size(body, "num_key_value_heads", where),
        head_dim=_size(body, "head_dim", where),
        vocab_size=rows,
        rope_theta=0.0,
        rms_norm_eps=0.0,
        max_positions=MAX_POSITIONS,
    )
    files = dict.fromkeys(file for one in variants.values() for file in (*one.files, TOKENIZER_FILE))
    ids = _special_ids(folder / TOKENIZER_FILE)
    return Manifest(
        name=str(body.get("name") or folder.resolve().name)[:100],
        kind="asr",
        encoder=EncoderDims(0, 0, 0, 0, 0, output_dim=hidden),
        decoder=decoder,
        mel=MelParams(),
        tokens=SpecialTokens(ids[AUDIO_TOKEN], (ids[END_OF_TEXT], ids[END_OF_TURN])),
        prompt=PromptPieces(TEMPLATE, FORCED_PREFIX),
        languages=LANGUAGES,
        variants=variants,
        files={name: file_record(folder / name) for name in files},
        source={"layout": "split"},
        answer=AnswerGrammar(),
    )


def _size(body: Mapping[str, Any], name: str, where: Path) -> int:
    section = body.get("decoder")
    value = section.get(name) if isinstance(section, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 20:
        raise BundleError(
            f"{where}: decoder.{name} is {str(value)[:40]}, where a size is expected; get the folder anew"
        )
    return value


def _special_ids(path: Path) -> dict[str, int]:
    """Return the ids of the special tokens that every prompt and answer has."""
    body = parse_json(read_regular_text(path), path)
    added = body.get("added_tokens") if isinstance(body, dict) else None
    found = {one.get("content"): one.get("id") for one in added or () if isinstance(one, dict)}
    ids = {text: found.get(text) for text in (AUDIO_TOKEN, END_OF_TEXT, END_OF_TURN)}
    for text, token in ids.items():
        if not isinstance(token, int):
            raise BundleError(f"{path}: has no token {text}, so it is not of this family; get the folder anew")
    return {text: int(token) for text, token in ids.items() if token is not None}


def split_interfaces(manifest: Manifest) -> tuple[Interface, Interface, Interface]:
    """Return what the graphs for audio, prompts and steps must have."""
    dims = manifest.decoder
    hidden = ("decoder.hidden_size", dims.hidden)
    audio = Port("float32", (None, None, hidden))
    stacked = Port(
        "float32",
        (
            ("decoder.num_layers", dims.layers),
            None,
            ("decoder.num_key_value_heads", dims.kv_heads),
            None,
            ("decoder.head_dim", dims.head_dim),
        ),
    )
    positions = Port("int64", (None, None))
    logits = Port("float32", (None, None, ("rows of embed_tokens.bin", dims.vocab_size)))
    outputs = {LOGITS: logits, **dict.fromkeys(PRESENT, stacked)}
    return (
        Interface({MEL: Port("float32", (None, ("mel.n_mels", manifest.mel.n_mels), None))}, {AUDIO_FEATURES: audio}),
        Interface(
            {IDS: positions, POSITION_IDS: positions, AUDIO_FEATURES: audio, AUDIO_OFFSET: Port("int64", (None,))},
            outputs,
        ),
        Interface({STEP_EMBEDS: audio, POSITION_IDS: positions, **dict.fromkeys(PAST, stacked)}, outputs),
    )


class SplitEncoder(AudioEncoder):
    """An encoder that takes a whole clip and cuts its windows itself."""

    def encode(self, mels: Sequence[Mel]) -> list[AudioFeatures]:
        """Encode any number of inputs, see `AudioEncoder.encode`."""
        return [self._encode(mel) for mel in mels]

    def encode_in_turns(self, mel: Mel) -> Generator[None, None, AudioFeatures]:
        """Encode one input in one turn."""
        return self._encode(mel)
        yield

    def _encode(self, mel: Mel) -> AudioFeatures:
        features: AudioFeatures = self._session.run(AUDIO_FEATURES, {MEL: np.ascontiguousarray(mel[None])})[0]
        refuse_nan(features, "audio features", self._session.path)
        expected = self._n_tokens(mel.shape[1])
        if len(features) < expected:
            raise BundleError(
                f"{self._session.path}: gives {len(features)} rows for {mel.shape[1]} frames, where the model has "
                f"{expected}; the exporter was another model's"
            )
        return features[:expected]


class SplitDecoder(Decoder):
    """The two graphs behind the interface of a bundle's: one row, whose cache is kept here between the calls."""

    max_rows = 1
    continues = False

    def __init__(self, *parts: Any) -> None:
        """Put the parts together, as `Decoder` does."""
        super().__init__(*parts)
        self._caches: WeakKeyDictionary[KvCache, list[Floats]] = WeakKeyDictionary()

    def extend(
        self, cache: KvCache, row: int, embedded: Embedded, past: int = 0, *, n_logits: int = 1, step: bool = False
    ) -> Floats:
        """Append positions to the row of a cache, see `Decoder.extend`.

        A prompt goes through its graph at once. Behind what is read already positions go one by one, and so do those
        whose logits are wanted: the graph need not give any but the last.
        """
        assert row == 0
        at_once = 0 if past or step else len(embedded) - n_logits + 1
        logits = [self._prefill(cache, embedded[:at_once])] if at_once else []
        logits += [self._advance(cache, embedded[n : n + 1], past + n) for n in range(at_once, len(embedded))]
        return np.stack(logits[-n_logits:])

    def call(
        self,
        session: Session,
        cache: KvCache,
        first: int,
        last: int,
        inputs: Mapping[str, npt.NDArray[Any]],
        logits: Floats,
    ) -> Callable[[], None]:
        """Return what runs a step, see `Decoder.call`."""
        assert (session, first, last) == (self.step, 0, 1)

        def run() -> None:
            logits[0, 0] = self._advance(cache, inputs[EMBEDS][0], int(inputs[SEQLENS][0]))

        return run

    def _prefill(self, cache: KvCache, embedded: Embedded) -> Floats:
        """Read a prompt; its rows are put in where the graph puts audio, from the first position on."""
        positions = np.arange(len(embedded))[None]
        inputs: dict[str, npt.NDArray[Any]] = {
            IDS: np.zeros_like(positions),
            POSITION_IDS: positions,
            AUDIO_FEATURES: np.ascontiguousarray(embedded[None]),
            AUDIO_OFFSET: np.zeros(1, np.int64),
        }
        return self._run(self.init, cache, inputs)

    def _advance(self, cache: KvCache, embedded: Embedded, past: int) -> Floats:
        keys, values = (np.ascontiguousarray(one[:, :, :, :past]) for one in self._caches[cache])
        inputs: dict[str, npt.NDArray[Any]] = {
            STEP_EMBEDS: np.ascontiguousarray(embedded[None]),
            POSITION_IDS: np.array([[past]]),
            PAST[0]: keys,
            PAST[1]: values,
        }
        return self._run(self.step, cache, inputs)

    def _run(self, session: Session, cache: KvCache, inputs: Mapping[str, npt.NDArray[Any]]) -> Floats:
        logits, *self._caches[cache] = session.run_for((LOGITS, *PRESENT), inputs)
        last: Floats = logits[0, -1]
        return last
