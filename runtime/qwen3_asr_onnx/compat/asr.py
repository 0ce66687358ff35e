"""The official package's recogniser on this runtime: audios in, a list of transcriptions out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.loading import AudioSource, load_audio
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.text.answer import parse_output
from qwen3_asr_onnx.transcriber import Transcriber

from . import streaming
from .aligner import Qwen3ForcedAligner
from .arguments import as_audio, as_language, as_list, broadcast, load_options, open_bundle, warn
from .results import ASRTranscription
from .streaming import ASRStreamingState

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Qwen3ASRModel", "parse_asr_output"]

BACKEND = "onnxruntime"

DEFAULTS = TranscribeOptions()


def parse_asr_output(raw: str | None, user_language: str | None = None) -> tuple[str, str]:
    """Return (language, text) of what the model wrote, loops collapsed; ("", "") for nothing.

    Args:
        raw: decoded output, for example "language English<asr_text>Hello."
        user_language: the language that was forced, if one was: then all of `raw` is text.
    """
    parsed = parse_output("" if raw is None else raw, user_language)
    return parsed.language, parsed.text


class Qwen3ASRModel:
    """A recogniser with the interface of `qwen_asr.Qwen3ASRModel`. Make one with `from_pretrained`.

    Attributes:
        backend: "onnxruntime".
        model: the `Transcriber` that does the work.
        processor: the tokenizer.
        forced_aligner: for time stamps; None without.
        device: "cpu" or "cuda".
        dtype: name of the loaded variant, which decides the precision.
        max_segment_s: longest piece of audio per prompt in seconds; the official package takes 1200.
    """

    def __init__(
        self,
        backend: str,
        model: Any,
        processor: Any,
        sampling_params: Any | None = None,
        forced_aligner: Qwen3ForcedAligner | None = None,
        max_inference_batch_size: int = -1,
        max_new_tokens: int | None = 512,
    ) -> None:
        """Wrap a loaded model; `from_pretrained` is the usual way.

        Raises:
            TypeError: `model` is no `Transcriber`.
            OptionsError: sampling is asked for.
        """
        if not isinstance(model, Transcriber):
            raise TypeError(
                f"model is a {type(model).__name__}; give a Transcriber, or use Qwen3ASRModel.from_pretrained"
            )
        if sampling_params is not None:
            raise OptionsError("sampling_params: decoding is greedy here; leave it out")
        self.backend = backend
        self.model = model
        self.processor = processor
        self.sampling_params = sampling_params
        self.forced_aligner = forced_aligner
        self.max_inference_batch_size = int(max_inference_batch_size)
        self.max_new_tokens = max_new_tokens
        self.device = "cpu"
        self.dtype = model.variant
        self.max_segment_s = DEFAULTS.max_segment_s

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        forced_aligner: str | None = None,
        forced_aligner_kwargs: dict[str, Any] | None = None,
        max_inference_batch_size: int = 32,
        max_new_tokens: int | None = 512,
        **kwargs: Any,
    ) -> Self:
        """Load a bundle.

        Args:
            pretrained_model_name_or_path: a bundle's directory, the name of a model in the store, or a name on the hub.
                Of a checkpoint such as Qwen/Qwen3-ASR-0.6B a model is made once, as `qwen3-asr-onnx get` does;
                `variant` is the recipe then, int4 if it is left out.
            forced_aligner: the same for an aligner's bundle.
            forced_aligner_kwargs: keyword arguments for the aligner, which does not inherit those of the model.
            max_inference_batch_size: most pieces decoded together; below 0, as many as fit in memory.
            max_new_tokens: most tokens per piece of audio; None is ample for any speech.
            kwargs: `device_map` (or `device`), and this runtime's `variant`, `threads`, `revision`,
                `max_segment_s`. Arguments of PyTorch that mean nothing here raise a `CompatWarning`.

        Raises:
            BundleError: neither a directory nor a repository with a bundle in it.
            OptionsError, TypeError: an argument cannot be honoured, or is unknown.
            MissingExtra: onnxruntime or, for a download, huggingface_hub is not installed.
        """
        return cls._load(
            pretrained_model_name_or_path,
            forced_aligner,
            forced_aligner_kwargs,
            max_inference_batch_size,
            max_new_tokens,
            kwargs,
        )

    @classmethod
    def LLM(  # noqa: N802 - the official name
        cls,
        model: str,
        forced_aligner: str | None = None,
        forced_aligner_kwargs: dict[str, Any] | None = None,
        max_inference_batch_size: int = -1,
        max_new_tokens: int | None = 4096,
        **kwargs: Any,
    ) -> Self:
        """Load a bundle as `from_pretrained` does, with the defaults of the official package's vLLM backend.

        Raises:
            As `from_pretrained`.
        """
        return cls._load(model, forced_aligner, forced_aligner_kwargs, max_inference_batch_size, max_new_tokens, kwargs)

    @classmethod
    def _load(
        cls,
        name_or_path: str,
        forced_aligner: str | None,
        forced_aligner_kwargs: Mapping[str, Any] | None,
        max_inference_batch_size: int,
        max_new_tokens: int | None,
        arguments: Mapping[str, Any],
    ) -> Self:
        options = load_options(arguments, cls.__name__)
        aligner = None
        if forced_aligner is not None:
            aligner = Qwen3ForcedAligner.from_pretrained(forced_aligner, **(forced_aligner_kwargs or {}))
        bundle, options = open_bundle(name_or_path, options)
        transcriber = Transcriber(bundle, options.variant, options.device, options.threads)
        made = cls(
            BACKEND,
            transcriber,
            transcriber.tokenizer,
            forced_aligner=aligner,
            max_inference_batch_size=max_inference_batch_size,
            max_new_tokens=max_new_tokens,
        )
        made.device = options.device
        if options.max_segment_s is not None:
            made.max_segment_s = options.max_segment_s
        return made

    def get_supported_languages(self) -> list[str]:
        """Return the names of the languages the model was trained with."""
        return list(self.model.manifest.languages)

    def transcribe(
        self,
        audio: Any,
        context: str | list[str] = "",
        language: str | list[str | None] | None = None,
        return_time_stamps: bool = False,
    ) -> list[ASRTranscription]:
        """Return one transcription per audio: always a list, also for a single one.

        Args:
            audio: path, URL, base64 text, (array, sample rate), or a list of these.
            context: background text, for all audios or for each.
            language: language name to force, for all audios or for each; None or "" lets the model detect it.
            return_time_stamps: align the words; needs `forced_aligner`.

        Raises:
            OptionsError: numbers of audios, contexts and languages do not fit; an unknown language; no aligner.
            TypeError: an audio is of another type.
            AudioError: an audio cannot be read.

        Warns:
            CompatWarning: `max_new_tokens` ended a text too early.
        """
        if return_time_stamps and self.forced_aligner is None:
            raise OptionsError("return_time_stamps=True needs an aligner; give forced_aligner=... to from_pretrained")
        audios = [as_audio(item) for item in as_list(audio)]
        contexts = broadcast(context, len(audios), "context")
        languages = [None] * len(audios) if language is None else broadcast(language, len(audios), "language")
        names = [as_language(value, self.model.manifest.languages) for value in languages]
        each = [self._options(text or "", name) for text, name in zip(contexts, names, strict=True)]
        return self._transcribe(audios, each, return_time_stamps)

    def _transcribe(
        self, audios: list[AudioSource], options: list[TranscribeOptions], time_stamps: bool
    ) -> list[ASRTranscription]:
        """Return the transcriptions of audios, each with its options."""
        waveforms: deque[Waveform] = deque()

        def loaded() -> Iterator[AudioSource]:
            for audio in audios:
                if time_stamps:  # the aligner needs the samples again
                    waveforms.append(load_audio(audio, self.model.limits))
                yield waveforms[-1] if time_stamps else audio

        results = []
        for number, transcript in enumerate(self.model.transcribe_many(loaded(), options), start=1):
            if transcript.stop_reason == "length":
                warn(
                    f"audio {number} of {len(audios)}: max_new_tokens={self.max_new_tokens} was reached and text may "
                    "be missing; raise it, or give None"
                )
            aligned = None
            if time_stamps and self.forced_aligner is not None:
                aligned = self.forced_aligner.align_transcript(waveforms.popleft(), transcript)
            results.append(ASRTranscription(transcript.language, transcript.text, aligned))
        return results

    def _options(self, context: str, language: str | None) -> TranscribeOptions:
        size = self.max_inference_batch_size
        return TranscribeOptions(
            language=language,
            context=context,
            max_new_tokens=self.max_new_tokens,
            max_segment_s=self.max_segment_s,
            batch_size=None if size < 0 else size,
        )

    def init_streaming_state(
        self,
        context: str = "",
        language: str | None = None,
        unfixed_chunk_num: int = 2,
        unfixed_token_num: int = 5,
        chunk_size_sec: float = 2.0,
    ) -> ASRStreamingState:
        """Return the state of a new stream.

        All audio so far is heard again for every chunk; `Transcriber.stream` hears it once.

        Args:
            context: background text.
            language: language name to force; None or "" lets the model detect it.
            unfixed_chunk_num: how many first chunks start without the text so far.
            unfixed_token_num: how many tokens of the text so far are written anew each time.
            chunk_size_sec: seconds of audio per step.

        Raises:
            OptionsError: an unknown language, or a number out of range.
        """
        name = as_language(language, self.model.manifest.languages)
        return streaming.begin(
            self.model, context or "", name, unfixed_chunk_num, unfixed_token_num, chunk_size_sec, self.max_new_tokens
        )

    def streaming_transcribe(self, pcm16k: npt.NDArray[Any], state: ASRStreamingState) -> ASRStreamingState:
        """Take in audio and return the same state, brought up to date after every full chunk.

        Args:
            pcm16k: samples at 16 kHz, mono, of any number: int16, or floats in [-1, 1].
            state: from `init_streaming_state`.

        Raises:
            OptionsError: no state, or no samples.
            AudioError: samples that are not finite numbers.
            LimitError: the stream has outgrown what the model attends to.
        """
        if state is None or pcm16k is None:
            raise OptionsError(f"{'state' if state is None else 'pcm16k'} must not be None")
        return streaming.feed(state, pcm16k)

    def finish_streaming_transcribe(self, state: ASRStreamingState) -> ASRStreamingState:
        """Hear the audio that is left in the buffer and return the same state.

        Raises:
            OptionsError: no state.
        """
        if state is None:
            raise OptionsError("state must not be None")
        return streaming.finish(state)
