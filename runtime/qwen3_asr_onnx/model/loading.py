"""A bundle on disk in, a loaded model out: the parts that turn audio into tokens, and how long loading them took."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import TOKENIZER_FILE, AnswerGrammar, Manifest, Variant
from qwen3_asr_onnx.bundle.store import Family, located
from qwen3_asr_onnx.errors import BundleError, ProviderError
from qwen3_asr_onnx.text.prompt import AUDIO_TOKEN, END_OF_TURN, build_prompt
from qwen3_asr_onnx.text.tokenizer import Tokenizer

from .decoder import Decoder
from .embeddings import EmbeddingTable
from .encoder import AudioEncoder
from .holding import Memory, held_by
from .interface import Interface, decoder_interface, encoder_interface
from .saturation import refuse_saturation
from .session import DEVICES, Session, return_free_memory
from .split_layout import SplitBundle, SplitDecoder, SplitEncoder, open_split, split_interfaces
from .warm import prepare, prepared_graph

__all__ = ["Model", "fetch_prepared", "load_model", "load_session", "load_tokenizer", "open_variant"]

LOG = logging.getLogger(__name__)

WRONG_KIND = {
    "asr": "an {} bundle cannot transcribe; give an asr bundle",
    "aligner": "an {} bundle cannot align; give one exported from a forced aligner",
}

OTHER_MODEL = "the tokenizer and config.json are of two models, or damaged; export or download the bundle again"


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One variant of a bundle, loaded. Holds no state between calls: any number of threads may share one.

    Attributes:
        manifest: what the bundle says about itself.
        variant: name of the variant.
        tokenizer: text <-> token ids.
        embeddings: token ids -> embedding rows.
        encoder: log-mel features -> audio embeddings.
        decoder: embedded prompts -> generated ids.
        load_s: seconds it took to load.
        memory: what it holds between calls.
    """

    manifest: Manifest
    variant: str
    tokenizer: Tokenizer
    embeddings: EmbeddingTable
    encoder: AudioEncoder
    decoder: Decoder
    load_s: float
    memory: Memory


def load_model(
    bundle: str | os.PathLike[str] | Bundle | None, variant: str | None, device: str, threads: int | None
) -> Model:
    """Load one variant of a bundle.

    Args:
        bundle: directory, name of a model in the store, or an opened `Bundle`; None is the store's default.
        variant: name of the variant; None takes the first one the bundle lists.
        device: "cpu" or "cuda".
        threads: threads per operator; None uses every core this process may use.

    Raises:
        BundleError: the bundle is missing or damaged, transcribes nothing, or has no such variant.
        OptionsError: device or threads is not valid.
        ProviderError: the device is not available, or the variant was not made for it.
        MissingExtra: onnxruntime is not installed.
    """
    started = time.perf_counter()
    opened, name, entry = open_variant(bundle, variant, device, "asr")
    manifest = opened.manifest
    dims = replace(manifest.decoder, cache_dtype=entry.cache_dtype)
    manifest = replace(manifest, decoder=dims)
    embeddings = EmbeddingTable(opened.require(entry.embeddings), dims.vocab_size, dims.hidden)
    # Each part is read and rearranged by one thread, outside the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        tokenizing = pool.submit(load_tokenizer, opened)
        is_split = isinstance(opened, SplitBundle)
        encoder, init, step = (_load_split if is_split else _load_graphs)(opened, entry, device, threads, pool)
        tokenizer = tokenizing.result()
    return_free_memory()
    memory = held_by(opened, (encoder, init, step), entry.embeddings)
    heard: AudioEncoder
    decoder: Decoder
    if is_split:
        heard = SplitEncoder(encoder, manifest.encoder)
        decoder = SplitDecoder(init, step, embeddings, dims, manifest.tokens.eos)
    else:
        heard = AudioEncoder(encoder, manifest.encoder)
        decoder = Decoder(
            init,
            step,
            embeddings,
            dims,
            manifest.tokens.eos,
            rescored=entry.rescored,
            verified=entry.verified,
            judge_steps_from=entry.judge_steps_from,
        )
    load_s = time.perf_counter() - started
    LOG.info("%s: variant %s loaded on %s, %s threads, in %.2f s", opened.path, name, device, threads or "all", load_s)
    return Model(manifest, name, tokenizer, embeddings, heard, decoder, load_s, memory)


def open_variant(
    bundle: str | os.PathLike[str] | Bundle | None, variant: str | None, device: str, kind: Family
) -> tuple[Bundle, str, Variant]:
    """Return the bundle, and the variant that is meant with its name, known to suit device and purpose.

    Raises:
        BundleError: the bundle is missing or damaged, is of the other kind, or has no such variant.
        ProviderError: the variant was not made for the device.
    """
    opened = bundle if isinstance(bundle, Bundle) else _opened(located(bundle, kind), kind)
    manifest = opened.manifest
    if manifest.kind != kind:
        raise BundleError(f"{opened.path}: {WRONG_KIND[kind].format(manifest.kind)}")
    if not manifest.variants:
        raise BundleError(f"{opened.path}: holds no variant; export it again")
    name = next(iter(manifest.variants)) if variant is None else variant
    entry = opened.variant(name)
    if device not in entry.devices and device in DEVICES:
        raise ProviderError(f"{opened.path}: variant {name!r} was made for {', '.join(entry.devices)}, not {device}")
    if device == "cpu":
        refuse_saturation(opened.path, name, entry.needs)
    return opened, name, entry


def _opened(folder: Path, kind: Family) -> Bundle:
    """Return a bundle; for recognisers, a folder in the split layout too."""
    try:
        return Bundle.open(folder)
    except BundleError:
        split = open_split(folder) if kind == "asr" else None
        if split is None:
            raise
        return split


def fetch_prepared(
    name_or_path: str | Path | None, variant: str | None, device: str = "cpu", family: Family = "asr"
) -> Path:
    """Return the local folder of a bundle as `fetch_variant` does, the variant's weights prepared for this machine.

    Where they cannot be prepared, one warning is logged, and loading takes longer.

    Raises:
        BundleError, MissingExtra: as `fetch_variant`.
        BundleError, ProviderError: as `open_variant`.
        OptionsError: the environment is wrong about prepared weights.
    """
    from qwen3_asr_onnx.bundle.pull import fetch_variant

    folder = fetch_variant(name_or_path, variant, family=family)
    opened, _, entry = open_variant(folder, variant, device, family)
    prepare(opened, entry, device)
    return folder


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """Return the tokenizer of a bundle, its ids and special tokens known to be those the manifest speaks of.

    Raises:
        BundleError: it is missing or damaged, or belongs to another model.
    """
    path, manifest = bundle.require(TOKENIZER_FILE, digest=True), bundle.manifest
    tokenizer = Tokenizer.from_file(path)
    rows = manifest.decoder.vocab_size
    if tokenizer.n_ids > rows:
        raise BundleError(
            f"{path}: has ids up to {tokenizer.n_ids - 1}, and decoder.vocab_size is {rows}; {OTHER_MODEL}"
        )
    if tokenizer.special_id(AUDIO_TOKEN) != manifest.tokens.audio:
        raise BundleError(
            f"{path}: {AUDIO_TOKEN} has the id {tokenizer.special_id(AUDIO_TOKEN)}, and tokens.audio is "
            f"{manifest.tokens.audio}; {OTHER_MODEL}"
        )
    head = manifest.timestamps
    for field, ids in (
        ("tokens.eos", manifest.tokens.eos),
        ("timestamps.token", () if head is None else (head.token,)),
    ):
        ordinary = [token for token in ids if token not in tokenizer.added_tokens]
        if ordinary:
            raise BundleError(f"{path}: {field} has {ordinary[0]}, which is no special token; {OTHER_MODEL}")
    if manifest.answer is not None:
        _check_answers(path, manifest, manifest.answer, tokenizer)
    for language in (None, "English"):
        build_prompt(tokenizer, manifest.prompt.template, 1, "", language, manifest.prompt.forced)
    return tokenizer


def _check_answers(path: Path, manifest: Manifest, answer: AnswerGrammar, tokenizer: Tokenizer) -> None:
    """Raise unless a transcript begins behind the tag that a forced prompt ends with, and ends where a turn does."""
    tokenizer.special_id(answer.tag)
    forced = manifest.prompt.forced
    if "{language}" not in forced or not forced.endswith(answer.tag):
        raise BundleError(
            f"{path.parent}: prompt.forced is {forced[:100]!r}, which does not hold {{language}} and end with "
            f"{answer.tag}; export or download the bundle again"
        )
    end = tokenizer.special_id(END_OF_TURN)
    if end not in manifest.tokens.eos:
        raise BundleError(f"{path}: {END_OF_TURN} has the id {end}, which tokens.eos does not hold; {OTHER_MODEL}")


def load_session(
    bundle: Bundle,
    variant: Variant,
    file: str,
    interface: Interface,
    device: str,
    threads: int | None,
) -> Session:
    """Return a session of one graph of a variant, whose `interface` is known to be what the manifest implies.

    Raises:
        BundleError: the file is missing or damaged, or has another interface.
        OptionsError: device or threads is not valid.
        ProviderError: the device is not available.
    """
    LOG.debug("%s: opening %s on %s", bundle.path, file, device)
    open_session = partial(
        Session,
        bundle.require(file, digest=True),
        interface=interface,
        device=device,
        threads=threads,
        prepack=file not in variant.mapped,
        # Where many positions run at once, the intermediate results are the largest of all: they set the peak.
        plan_memory=file != variant.encoder and bundle.manifest.kind == "asr",
        release_memory=bundle.manifest.kind == "aligner",
    )
    prepared = prepared_graph(bundle, variant, file, device)
    if prepared is not None:
        try:
            return open_session(prepared=prepared)
        except BundleError as error:  # somebody has removed it, or it is no use after all
            LOG.warning("%s: loading without a warm start: %s", bundle.path, error)
    return open_session()


def _load_graphs(
    bundle: Bundle, variant: Variant, device: str, threads: int | None, pool: ThreadPoolExecutor
) -> tuple[Session, Session, Session]:
    """Return encoder, prefill and step; the last two are one session where their graphs are equal."""
    manifest = bundle.manifest

    def load(file: str, interface: Interface) -> Session:
        return load_session(bundle, variant, file, interface, device, threads)

    decoder = decoder_interface(manifest, variant)
    drafter = decoder_interface(manifest, variant, drafts=variant.verified)
    same = manifest.files[variant.decoder_init].sha256 == manifest.files[variant.decoder_step].sha256
    init = pool.submit(load, variant.decoder_init, decoder)
    step = init if same else pool.submit(load, variant.decoder_step, drafter)
    encoder = pool.submit(load, variant.encoder, encoder_interface(manifest))
    return encoder.result(), init.result(), step.result()


def _load_split(
    bundle: Bundle, variant: Variant, device: str, threads: int | None, pool: ThreadPoolExecutor
) -> tuple[Session, Session, Session]:
    """Return the same of a folder in the split layout."""
    files = (variant.encoder, variant.decoder_init, variant.decoder_step)
    loading = [
        pool.submit(load_session, bundle, variant, file, interface, device, threads)
        for file, interface in zip(files, split_interfaces(bundle.manifest), strict=True)
    ]
    encoder, init, step = (one.result() for one in loading)
    return encoder, init, step
