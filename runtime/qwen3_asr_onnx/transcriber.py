"""The only orchestration: audio and options in, transcripts out, one input or many.

Inputs are cut into pieces; pieces of one long input or of many short ones are encoded and decoded together in groups.
A group is bounded in number and in seconds of audio, so memory does not grow with the length or number of inputs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from .audio import AudioSource, load_audio
from .bundle import EMBEDDINGS_FILE, TOKENIZER_FILE, Bundle, Manifest, Variant
from .decoder import Decoder, Generated, graph_inputs, graph_outputs
from .embeddings import EmbeddingTable
from .encoder import INPUTS as ENCODER_INPUTS
from .encoder import OUTPUTS as ENCODER_OUTPUTS
from .encoder import AudioEncoder
from .errors import AudioError, BundleError, LimitError, MissingExtra, OptionsError, ProviderError
from .features import log_mel, n_audio_tokens, n_frames
from .languages import resolve_language
from .prompt import Prompt, build_prompt
from .segmenter import Piece, split_at_quiet
from .session import DEVICES, Session
from .text import collapse_repetitions, join_texts, merge_languages, parse_output
from .tokenizer import Tokenizer
from .types import SAMPLE_RATE, Segment, StopReason, Timings, TranscribeOptions, Transcript, Waveform

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Transcriber"]

DEFAULT_OPTIONS = TranscribeOptions()

GROUP_SECONDS = 240.0
"""Most audio decoded together: at 13 tokens a second the caches of a group stay under 1 GB for the 0.6B model."""

BASE_TOKENS, TOKENS_PER_SECOND = 64, 32
"""Default token limit. The densest scripts need some 20 tokens per second of fast speech; loops end here."""

GRAVITY: tuple[StopReason, ...] = ("length", "repetition", "eos", "no_speech")
"""Stop reasons of segments from gravest to mildest: a transcript reports its gravest."""

Progress = Callable[[float], object]
InputError: TypeAlias = AudioError | LimitError | MissingExtra | OSError
"""What can be wrong with one input; every other error concerns all of them."""

INPUT_ERRORS = (AudioError, LimitError, MissingExtra, OSError)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One piece of audio with its prompt, on its way through the model."""

    waveform: Waveform
    piece: Piece
    prompt: Prompt
    limit: int
    language: str | None

    @property
    def duration_s(self) -> float:
        return self.waveform.size / SAMPLE_RATE


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """One input, cut into jobs; none when it holds no samples."""

    jobs: tuple[_Job, ...]
    duration_s: float
    read_s: float


class Transcriber:
    """A loaded model. Holds no state between calls: any number of threads may share one.

    Attributes:
        variant: name of the loaded variant.
        tokenizer: text <-> token ids.
        embeddings: token ids -> embedding rows.
        encoder: log-mel features -> audio embeddings.
        decoder: embedded prompts -> generated ids.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load one variant of a bundle.

        Args:
            bundle: directory that `qwen3-asr-onnx export` wrote, or an opened `Bundle`.
            variant: name of the variant; None takes the first one the bundle lists.
            device: "cpu" or "cuda".
            threads: threads per operator; None uses every core this process may use.

        Raises:
            BundleError: the bundle is missing or damaged, or has no such variant.
            OptionsError: device or threads is not valid.
            ProviderError: the device is not available, or the variant was not made for it.
            MissingExtra: onnxruntime is not installed.
        """
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        manifest = self._bundle.manifest
        if manifest.kind != "asr":
            raise BundleError(f"{self._bundle.path}: an {manifest.kind} bundle cannot transcribe; give an asr bundle")
        if not manifest.variants:
            raise BundleError(f"{self._bundle.path}: holds no variant; export it again")
        self.variant = next(iter(manifest.variants)) if variant is None else variant
        entry = self._bundle.variant(self.variant)
        if device not in entry.devices and device in DEVICES:
            raise ProviderError(
                f"{self._bundle.path}: variant {self.variant!r} was made for {', '.join(entry.devices)}, not {device}"
            )
        self.tokenizer = Tokenizer.from_file(self._bundle.require(TOKENIZER_FILE))
        dims = manifest.decoder
        self.embeddings = EmbeddingTable(self._bundle.require(EMBEDDINGS_FILE), dims.vocab_size, dims.hidden)
        self.encoder, self.decoder = self._load_graphs(entry, device, threads)

    def _load_graphs(self, variant: Variant, device: str, threads: int | None) -> tuple[AudioEncoder, Decoder]:
        manifest = self._bundle.manifest

        def load(file: str, inputs: Sequence[str], outputs: Sequence[str]) -> Session:
            return Session(
                self._bundle.require(file),
                inputs=inputs,
                outputs=outputs,
                device=device,
                threads=threads,
                prepack=file not in variant.mapped,
            )

        encoder = load(variant.encoder, ENCODER_INPUTS, ENCODER_OUTPUTS)
        names = graph_inputs(manifest.decoder), graph_outputs(manifest.decoder)
        init = load(variant.decoder_init, *names)
        same = manifest.files[variant.decoder_init].sha256 == manifest.files[variant.decoder_step].sha256
        step = init if same else load(variant.decoder_step, *names)
        decoder = Decoder(init, step, self.embeddings, manifest.decoder, manifest.tokens.eos)
        return AudioEncoder(encoder, manifest.encoder), decoder

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load a bundle from a directory, or from a hub id such as "owner/name", which is downloaded first.

        Raises:
            BundleError: neither a directory nor a repository with a bundle in it.
            MissingExtra: downloading needs the hub extra.
        """
        from .hub import resolve

        return cls(resolve(name_or_path, revision=revision, kind="bundle"), variant, device, threads)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    def close(self) -> None:
        """Release the model's memory. The transcriber cannot be used afterwards."""
        del self.encoder, self.decoder, self.embeddings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def transcribe(
        self,
        audio: AudioSource,
        options: TranscribeOptions = DEFAULT_OPTIONS,
        *,
        progress: Progress | None = None,
    ) -> Transcript:
        """Transcribe one input.

        Args:
            audio: path, bytes, file object, URL, (array, sample rate), or a 16 kHz float32 array; see `load_audio`.
            options: language, context, limits.
            progress: called with the seconds of audio just finished.

        Raises:
            AudioError: the audio cannot be read.
            OptionsError: the language is unknown, or an option cannot be honoured by this bundle.
            LimitError: audio and context together exceed what the model can attend to.
        """
        source = self._prepare(audio, options)
        return _transcript(source, list(self._run(source.jobs, options.batch_size, progress)))

    def iter_segments(self, audio: AudioSource, options: TranscribeOptions = DEFAULT_OPTIONS) -> Iterator[Segment]:
        """Yield the segments of one input as they are finished. Stop iterating to cancel.

        Raises:
            As `transcribe`, at once: a bad input does not wait for the first segment.
        """
        return self._run(self._prepare(audio, options).jobs, options.batch_size)

    @overload
    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions = ...,
        *,
        errors: Literal["raise"] = ...,
        progress: Progress | None = ...,
    ) -> Iterator[Transcript]: ...

    @overload
    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions = ...,
        *,
        errors: Literal["return"],
        progress: Progress | None = ...,
    ) -> Iterator[Transcript | InputError]: ...

    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions = DEFAULT_OPTIONS,
        *,
        errors: Literal["raise", "return"] = "raise",
        progress: Progress | None = None,
    ) -> Iterator[Transcript | InputError]:
        """Yield the transcript of each input, in order, short inputs decoded together.

        Args:
            audios: inputs as for `transcribe`; read as they are needed.
            options: the same for all; `batch_size` bounds how many are decoded together.
            errors: "raise" stops at the first input that fails; "return" yields its error in its place and goes on.
            progress: called with the seconds of audio just finished.

        Raises:
            OptionsError: at once, when the options suit no input.
            AudioError, LimitError, MissingExtra, OSError: with errors="raise", as `transcribe`.
        """
        self._language(options)
        return self._many(audios, options, errors, progress)

    def _many(
        self, audios: Iterable[AudioSource], options: TranscribeOptions, errors: str, progress: Progress | None
    ) -> Iterator[Transcript | InputError]:
        waiting: list[_Input | InputError] = []
        for audio in audios:
            entry: _Input | InputError
            try:
                entry = self._prepare(audio, options)
            except INPUT_ERRORS as error:
                if errors == "raise":
                    yield from self._finish(waiting, options.batch_size, progress)
                    raise
                entry = error
            if not _fits(_jobs([*waiting, entry]), options.batch_size):
                yield from self._finish(waiting, options.batch_size, progress)
                waiting = []
            waiting.append(entry)
        yield from self._finish(waiting, options.batch_size, progress)

    def _finish(
        self, waiting: Sequence[_Input | InputError], batch_size: int, progress: Progress | None
    ) -> Iterator[Transcript | InputError]:
        """Run all waiting inputs together and yield what became of each, in order."""
        segments = self._run(_jobs(waiting), batch_size, progress)
        for entry in waiting:
            if isinstance(entry, _Input):
                yield _transcript(entry, [next(segments) for _ in entry.jobs])
            else:
                yield entry

    def _language(self, options: TranscribeOptions) -> str | None:
        """Return the forced language as the model spells it."""
        if options.timestamps:
            raise OptionsError("timestamps=True needs a forced aligner, which this version does not run yet")
        return None if options.language is None else resolve_language(options.language, self.manifest.languages)

    def _prepare(self, audio: AudioSource, options: TranscribeOptions) -> _Input:
        """Read one input, cut it, and build the prompt of every piece: whatever can fail fails here."""
        language = self._language(options)
        started = time.perf_counter()
        waveform = load_audio(audio)
        pieces = split_at_quiet(waveform, options.max_segment_s) if waveform.size else []
        read_s = time.perf_counter() - started
        jobs = tuple(self._job(waveform, piece, options, language) for piece in pieces)
        return _Input(jobs, waveform.size / SAMPLE_RATE, read_s)

    def _job(self, waveform: Waveform, piece: Piece, options: TranscribeOptions, language: str | None) -> _Job:
        samples = waveform[piece.start_sample : piece.end_sample]
        pieces, manifest = self.manifest.prompt, self.manifest
        n_audio = n_audio_tokens(n_frames(samples.size, manifest.mel))
        prompt = build_prompt(self.tokenizer, pieces.template, n_audio, options.context, language, pieces.forced)
        room = manifest.decoder.max_positions - len(prompt.ids)
        if room < 1:
            raise LimitError(
                f"{n_audio} audio tokens and {len(prompt.ids) - n_audio} tokens of prompt and context exceed the "
                f"model's {manifest.decoder.max_positions} positions; shorten the context or lower max_segment_s"
            )
        limit = options.max_new_tokens
        if limit is None:
            limit = BASE_TOKENS + math.ceil(TOKENS_PER_SECOND * samples.size / SAMPLE_RATE)
        return _Job(samples, piece, prompt, min(limit, room), language)

    def _run(self, jobs: Sequence[_Job], batch_size: int, progress: Progress | None = None) -> Iterator[Segment]:
        """Yield the segment of each job, in order, a group at a time."""
        rest = list(jobs)
        while rest:
            size = 1
            while size < len(rest) and _fits(rest[: size + 1], batch_size):
                size += 1
            group, rest = rest[:size], rest[size:]
            for segment in self._run_group(group):
                if progress is not None:
                    progress(segment.end_s - segment.start_s)
                yield segment

    def _run_group(self, jobs: Sequence[_Job]) -> list[Segment]:
        clock = _Clock()
        mels = [log_mel(job.waveform, self.manifest.mel) for job in jobs]
        mel_s = clock.lap()
        features = self.encoder.encode(mels)
        encoder_s = clock.lap()
        prompts = [
            self.embeddings.splice(job.prompt.ids, rows, job.prompt.audio_start)
            for job, rows in zip(jobs, features, strict=True)
        ]
        results = self.decoder.generate(prompts, [job.limit for job in jobs])
        total_s = sum(job.duration_s for job in jobs)
        segments = []
        for job, result in zip(jobs, results, strict=True):
            share = job.duration_s / total_s
            timings = Timings(0.0, mel_s * share, encoder_s * share, result.prefill_s, result.decode_s)
            segments.append(self._segment(job, result, timings))
        return segments

    def _segment(self, job: _Job, result: Generated, timings: Timings) -> Segment:
        raw = self.tokenizer.decode(result.token_ids).strip()
        parsed = parse_output(raw, job.language)
        return Segment(
            start_s=job.piece.start_s,
            end_s=job.piece.end_s,
            text=parsed.text,
            language=parsed.language,
            token_ids=result.token_ids,
            stop_reason=_stop_reason(raw, parsed.text, stopped=result.stopped),
            avg_logprob=result.logprob / result.n_scored,
            timings=timings,
        )


class _Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed


def _fits(jobs: Sequence[_Job], batch_size: int) -> bool:
    """Whether the jobs may be decoded together. One job always may."""
    return len(jobs) <= 1 or (len(jobs) <= batch_size and sum(job.duration_s for job in jobs) <= GROUP_SECONDS)


def _jobs(entries: Iterable[_Input | InputError]) -> list[_Job]:
    return [job for entry in entries if isinstance(entry, _Input) for job in entry.jobs]


def _stop_reason(raw: str, text: str, *, stopped: bool) -> StopReason:
    """Name why a segment ended. A collapsed loop says more than the limit it usually runs into."""
    if collapse_repetitions(raw) != raw:
        return "repetition"
    if not stopped:
        return "length"
    return "eos" if text else "no_speech"


def _transcript(source: _Input, segments: Sequence[Segment]) -> Transcript:
    scored = [(segment.avg_logprob, len(segment.token_ids) + 1) for segment in segments]
    weight = sum(n for _, n in scored)
    reasons = {segment.stop_reason for segment in segments} or {"no_speech"}
    return Transcript(
        text=join_texts([(segment.text, segment.language) for segment in segments]),
        language=merge_languages(segment.language for segment in segments),
        duration_s=source.duration_s,
        segments=tuple(segments),
        words=None,
        token_ids=tuple(token for segment in segments for token in segment.token_ids),
        stop_reason=next(reason for reason in GRAVITY if reason in reasons),
        avg_logprob=sum(mean * n for mean, n in scored) / weight if weight else 0.0,
        timings=sum((segment.timings for segment in segments), Timings(audio_s=source.read_s)),
    )
