"""The official package's forced aligner on this runtime: audios and their texts in, aligned units out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.alignment.aligner import Aligner, AlignOptions
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.results import Transcript, Word

from .arguments import as_audio, as_list, load_options, open_bundle
from .results import ForcedAlignResult, align_result

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Qwen3ForcedAligner"]

AS_OFFICIAL = AlignOptions(refine=False)


class Qwen3ForcedAligner:
    """An aligner with the interface of `qwen_asr.Qwen3ForcedAligner`. Make one with `from_pretrained`.

    Attributes:
        model: the `Aligner` that does the work.
        processor: the tokenizer.
        aligner_processor: None; words are segmented by the model.
        device: "cpu" or "cuda".
        timestamp_token_id: id of the slot token.
        timestamp_segment_time: milliseconds per time class.
    """

    def __init__(self, model: Any, processor: Any, aligner_processor: Any) -> None:
        """Wrap a loaded aligner; `from_pretrained` is the usual way.

        Raises:
            TypeError: `model` is no `Aligner`.
        """
        if not isinstance(model, Aligner):
            raise TypeError(
                f"model is a {type(model).__name__}; give an Aligner, or use Qwen3ForcedAligner.from_pretrained"
            )
        head = model.manifest.timestamps
        assert head is not None, "an Aligner has time classes"
        self.model = model
        self.processor = processor
        self.aligner_processor = aligner_processor
        self.device = "cpu"
        self.timestamp_token_id = head.token
        self.timestamp_segment_time = float(head.segment_ms)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> Self:
        """Load an aligner's bundle.

        Args:
            pretrained_model_name_or_path: as for `Qwen3ASRModel.from_pretrained`.
            kwargs: `device_map` (or `device`), and this runtime's `variant`, `threads`, `revision`. Arguments of
                PyTorch that mean nothing here raise a `CompatWarning`.

        Raises:
            BundleError: neither a directory nor a repository with an aligner's bundle in it.
            OptionsError, TypeError: an argument cannot be honoured, or is unknown.
            MissingExtra: onnxruntime or, for a download, huggingface_hub is not installed.
        """
        bundle, options = open_bundle(pretrained_model_name_or_path, load_options(kwargs, cls.__name__))
        aligner = Aligner(bundle, options.variant, options.device, options.threads)
        made = cls(aligner, aligner.tokenizer, None)
        made.device = options.device
        return made

    def align(self, audio: Any, text: str | list[str], language: str | list[str]) -> list[ForcedAlignResult]:
        """Return one result per audio: always a list, also for a single one.

        Args:
            audio: path, URL, base64 text, (array, sample rate), or a list of these.
            text: what is said in each audio.
            language: language name, for all audios or for each.

        Raises:
            OptionsError: numbers of audios, texts and languages do not fit; the language is missing or not one of the
                aligner's.
            TypeError: an audio is of another type.
            AudioError: an audio cannot be read.
        """
        texts, languages, audios = as_list(text), as_list(language), [as_audio(item) for item in as_list(audio)]
        if len(languages) == 1 and len(audios) > 1:
            languages = languages * len(audios)
        if not len(audios) == len(texts) == len(languages):
            raise OptionsError(
                f"Batch size mismatch: audio={len(audios)}, text={len(texts)}, language={len(languages)}"
            )
        return [align_result(words) for words in self.model.align_many(audios, texts, languages, AS_OFFICIAL)]

    def align_transcript(self, waveform: Waveform, transcript: Transcript) -> ForcedAlignResult | None:
        """Return the aligned units of a transcript, piece by piece; None if it has none.

        Args:
            waveform: (n_samples,) float32, mono, 16 kHz: what was transcribed.
            transcript: its segments are aligned in the language detected in each.
        """
        words: list[Word] = []
        for segment in transcript.segments:
            if segment.text.strip():
                samples = waveform[round(segment.start_s * SAMPLE_RATE) : round(segment.end_s * SAMPLE_RATE)]
                words += self.model.align_waveform(
                    samples, segment.text, segment.language, segment.start_s, AS_OFFICIAL
                )
        return align_result(words) if words else None

    def get_supported_languages(self) -> list[str] | None:
        """Return the names of the languages the aligner was trained with, sorted, in lower case."""
        return sorted(name.lower() for name in self.model.manifest.languages)
