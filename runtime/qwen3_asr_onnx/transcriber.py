"""The public face of the runtime: a loaded model, and audio in, transcripts out, for one input or many."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .alignment.aligner import Aligner
from .audio.loading import AudioLimits, AudioSource
from .bundle.files import Bundle
from .bundle.manifest import Manifest
from .errors import Qwen3AsrError
from .model.asking import Prompter
from .model.decoder import Decoder
from .model.embeddings import EmbeddingTable
from .model.encoder import AudioEncoder
from .model.holding import Memory
from .model.loading import Model, load_model
from .options import StreamOptions, TranscribeOptions, changed, divide, of_the_call, paired
from .results import Segment, Transcript
from .stream.stream import Stream
from .transcription.identity import Identity, identity_of
from .transcription.interrupt import Interrupt
from .transcription.journal import Journal
from .transcription.pieces import RunSettings, prompter_for
from .transcription.recording import Input, InputError
from .transcription.scheduler import Pipeline
from .transcription.transcripts import OnSegment, Progress, iter_segments, iter_transcripts

if TYPE_CHECKING:
    from typing_extensions import Self

    from .speech.voice import SpeechDetector

__all__ = ["Transcriber"]

DEFAULT_OPTIONS = TranscribeOptions()
DEFAULT_STREAMING = StreamOptions()
DEFAULT_LIMITS = AudioLimits()


class Transcriber:
    """A loaded model. Holds no state between calls: any number of threads may share one.

    Attributes:
        variant: name of the loaded variant.
        tokenizer: text <-> token ids.
        aligner: audio and text -> word times; None without one.
        limits: what audio is accepted.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        aligner: Aligner | None = None,
        limits: AudioLimits = DEFAULT_LIMITS,
    ) -> None:
        """Load one variant of a bundle.

        Args:
            bundle: directory of a bundle, name of a model in the store (`qwen3-asr-onnx models`), or an opened
                `Bundle`; None is the store's default.
            variant: name of the variant; None takes the first one the bundle lists.
            device: "cpu" or "cuda".
            threads: threads per operator; None uses every core this process may use.
            aligner: times the words when the options ask for it. It stays open when the transcriber is closed.
            limits: what audio to accept, and how much, in every call.

        Raises:
            BundleError: the bundle is missing or damaged, or has no such variant.
            OptionsError: device or threads is not valid.
            ProviderError: the device is not available, or the variant was not made for it.
            MissingExtra: onnxruntime is not installed.
        """
        self._model: Model | None = load_model(bundle, variant, device, threads)
        self.variant = self._model.variant
        self.tokenizer = self._model.tokenizer
        self.aligner = aligner
        self.limits = limits
        self._manifest = self._model.manifest

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        revision: str | None = None,
        aligner: Aligner | None = None,
        limits: AudioLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Load a bundle as the constructor does, or the files of one variant from a hub id such as "owner/name".

        Raises:
            BundleError: neither a directory, nor a model of the store, nor a repository with a bundle in it.
            MissingExtra: downloading needs the hub extra.
        """
        from .bundle.pull import fetch_variant

        return cls(fetch_variant(name_or_path, variant, revision=revision), variant, device, threads, aligner, limits)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._manifest

    @property
    def embeddings(self) -> EmbeddingTable:
        """Token ids -> embedding rows."""
        return self._loaded.embeddings

    @property
    def encoder(self) -> AudioEncoder:
        """Log-mel features -> audio embeddings."""
        return self._loaded.encoder

    @property
    def decoder(self) -> Decoder:
        """Embedded prompts -> generated ids."""
        return self._loaded.decoder

    def memory(self) -> Memory:
        """Return what the model holds between calls, in bytes; see `Memory` for what is counted."""
        return self._loaded.memory

    def close(self) -> None:
        """Release the model's memory; calls that run and streams that were begun keep theirs to their end.

        Every later use raises `Qwen3AsrError`, but for closing again.
        """
        self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stream(
        self,
        options: TranscribeOptions = DEFAULT_OPTIONS,
        streaming: StreamOptions = DEFAULT_STREAMING,
        **changes: Any,
    ) -> Stream:
        """Begin a live transcription: feed it audio as it comes, in blocks of any size.

        Any number of streams share this model; each is used by one thread at a time.

        Args:
            options: language, context and token limit.
            streaming: policy, chunk length and limits of the stream.
            changes: fields of either, as keywords: `stream(language="en", chunk_s=1.0)`.

        Raises:
            OptionsError: the language is unknown, or an option makes no sense for a stream.
            LimitError: the context leaves no room for audio.
            MissingExtra: split="vad" without the vad extra.
        """
        of_options, of_streaming = divide(changes, TranscribeOptions, StreamOptions)
        options = changed(options, TranscribeOptions, of_options)
        return Stream(self._loaded, options, changed(streaming, StreamOptions, of_streaming))

    def transcribe(
        self,
        audio: AudioSource,
        options: TranscribeOptions = DEFAULT_OPTIONS,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        journal: Journal | None = None,
        **changes: Any,
    ) -> Transcript:
        """Transcribe one input of any length, in constant memory.

        Args:
            audio: path, bytes, file object, URL, (array, sample rate), or a 16 kHz float32 array; see `load_audio`.
            options: language, context, limits.
            progress: called with the seconds of audio just finished.
            cancel: set from another thread to end within one token; what is there is returned, marked "cancelled".
            journal: keeps every finished piece on disk, and gives back what an earlier run finished of this input.
            changes: fields of the options, as keywords: `transcribe(audio, language="en")`.

        Raises:
            AudioError: the audio cannot be read.
            OptionsError: the language is unknown, or an option cannot be honoured by this bundle.
            LimitError: audio and context together exceed what the model can attend to.
            MissingExtra: the audio's format, or the option, needs a package that is not installed.
        """
        (transcript,) = self.transcribe_many(
            [audio], options, progress=progress, cancel=cancel, journals=[journal], **changes
        )
        assert isinstance(transcript, Transcript)
        return transcript

    def iter_segments(
        self,
        audio: AudioSource,
        options: TranscribeOptions = DEFAULT_OPTIONS,
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
        journal: Journal | None = None,
        **changes: Any,
    ) -> Iterator[Segment]:
        """Yield the segments of one input in order, each as soon as it and those before it are finished.

        The first piece is decoded alone, so that its text is there soon; then as many together as `transcribe` takes.
        Stop iterating to cancel, or set `cancel` from another thread: segments that are open are then yielded as they
        are, marked "cancelled".

        Raises:
            As `transcribe`: at once for a bad input, while iterating for what is wrong far inside the audio.
        """
        options = changed(options, TranscribeOptions, changes)
        interrupt = Interrupt(options.time_limit_s, cancel)
        sources, pipeline = self._work([audio], options, interrupt, [journal], first_alone=True)
        source = next(sources)
        source.open()
        return iter_segments(pipeline, source, progress)

    @overload
    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions | Sequence[TranscribeOptions] = ...,
        *,
        errors: Literal["raise"] = ...,
        progress: Progress | None = ...,
        on_segment: OnSegment | None = ...,
        cancel: threading.Event | None = ...,
        journals: Iterable[Journal | None] | None = ...,
        **changes: Any,
    ) -> Iterator[Transcript]: ...

    @overload
    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions | Sequence[TranscribeOptions] = ...,
        *,
        errors: Literal["return"],
        progress: Progress | None = ...,
        on_segment: OnSegment | None = ...,
        cancel: threading.Event | None = ...,
        journals: Iterable[Journal | None] | None = ...,
        **changes: Any,
    ) -> Iterator[Transcript | InputError]: ...

    def transcribe_many(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions | Sequence[TranscribeOptions] = DEFAULT_OPTIONS,
        *,
        errors: Literal["raise", "return"] = "raise",
        progress: Progress | None = None,
        on_segment: OnSegment | None = None,
        cancel: threading.Event | None = None,
        journals: Iterable[Journal | None] | None = None,
        **changes: Any,
    ) -> Iterator[Transcript | InputError]:
        """Yield the transcript of each input, in order; pieces of all inputs are decoded together.

        Args:
            audios: inputs as for `transcribe`; read as they are needed.
            options: the same for all, or one for each. The time limit is that of the whole call: inputs that were begun
                by then are yielded as far as they are, inputs that were not are left out. It is the same in all
                options, and so is the size of the batch.
            errors: "raise" stops at the first input that fails; "return" yields its error in its place and goes on.
            progress: called with the seconds of audio just finished.
            on_segment: called with each segment of the transcript that is yielded next, in order, as soon as it and
                those before it are finished. As with `iter_segments`, the very first piece is then decoded alone.
            cancel: set from another thread to end within one token, as the time limit does.
            journals: one for each input, as for `transcribe`; read as the inputs are.
            changes: fields of the options, as keywords; of all of them, where each input has its own.

        Raises:
            OptionsError, MissingExtra: at once, when the options suit no input.
            OptionsError: at the end, when there are more inputs than options, or fewer.
            AudioError, LimitError, MissingExtra, OSError: with errors="raise", as `transcribe`.
        """
        if isinstance(options, Sequence):
            options = [changed(own, TranscribeOptions, changes) for own in options]
        else:
            options = changed(options, TranscribeOptions, changes)
        time_limit_s, _ = of_the_call(options)
        interrupt = Interrupt(time_limit_s, cancel)
        sources, pipeline = self._work(audios, options, interrupt, journals, first_alone=on_segment is not None)
        return iter_transcripts(pipeline, sources, self._loaded.load_s, errors, progress, on_segment)

    @property
    def _loaded(self) -> Model:
        if self._model is None:
            raise Qwen3AsrError("this transcriber was closed; load the bundle again to go on")
        return self._model

    def _prompter(self, options: TranscribeOptions) -> Prompter:
        return prompter_for(self._loaded, self.aligner, options)

    def _work(
        self,
        audios: Iterable[AudioSource],
        options: TranscribeOptions | Sequence[TranscribeOptions],
        interrupt: Interrupt,
        journals: Iterable[Journal | None] | None,
        *,
        first_alone: bool,
    ) -> tuple[Iterator[Input], Pipeline]:
        """Return the inputs, not read yet, and what makes segments of them."""
        different = dict.fromkeys(options if isinstance(options, Sequence) else [options])
        prompters = {own: self._prompter(own) for own in different}
        # Inputs are read one after the other, so one detector does for all.
        detector = next((self._detector(own) for own in different if own.split == "vad"), None)

        def identity(own: TranscribeOptions) -> Identity:
            aligner = self.aligner if own.timestamps == "word" else None
            return identity_of(self._loaded, aligner, own, prompters[own].language)

        def sources() -> Iterator[Input]:
            pairs = ((audio, None) for audio in audios) if journals is None else zip(audios, journals, strict=True)
            for (audio, journal), own in paired(pairs, options):
                heard = detector if own.split == "vad" else None
                known = None if journal is None else identity(own)
                yield Input(audio, prompters[own], heard, interrupt, self.limits, journal, known)

        _, batch_size = of_the_call(options)
        settings = RunSettings(first_alone=first_alone)
        return sources(), Pipeline(self._loaded, batch_size, interrupt, settings, self.aligner)

    @staticmethod
    def _detector(options: TranscribeOptions) -> SpeechDetector | None:
        if options.split != "vad":
            return None
        from .speech.voice import SileroDetector

        return SileroDetector()
