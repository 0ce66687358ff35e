"""Audio and its transcript -> when every word is spoken, by a forced aligner's bundle.

The aligner reads audio and words once and answers with a time class at two slots behind every word. Audio longer than
it was made for goes through it in windows (`windows`), so memory does not grow with the length of the audio.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.loading import AudioLimits, AudioSource, load_audio
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.errors import AudioError, LimitError, OptionsError, Qwen3AsrError
from qwen3_asr_onnx.model.asking import hear
from qwen3_asr_onnx.model.features import n_audio_tokens
from qwen3_asr_onnx.options import AlignOptions, changed
from qwen3_asr_onnx.results import Word
from qwen3_asr_onnx.text.languages import resolve_language

from .fit import flag_mismatch
from .loading import AlignmentModel, load_aligner
from .prompt import build_alignment_prompt, encode_units, fixed_tokens
from .slots import SlotAnswers
from .times import Span, at_the_end, settle, timed_words
from .units import Unit, segment_words
from .windows import WindowLimits, choose_window, settled_words

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AlignOptions", "Aligner", "Words"]

Words: TypeAlias = tuple[Word, ...]
"""The words of one input, in order."""

Progress: TypeAlias = Callable[[float], object]

GROUP_SECONDS = 240.0
"""Most audio encoded together by `align_many`."""

DEFAULT_OPTIONS = AlignOptions()
DEFAULT_LIMITS = AudioLimits()


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """One input ready to run: its samples, its units and their token ids."""

    waveform: Waveform
    units: Sequence[Unit]
    ids: Sequence[list[int]]
    supported: bool

    @property
    def costs(self) -> list[int]:
        return [len(unit) + 2 for unit in self.ids]

    @property
    def duration_s(self) -> float:
        return self.waveform.size / SAMPLE_RATE


class Aligner:
    """A loaded forced aligner. Holds no state between calls: any number of threads may share one.

    Attributes:
        manifest: what the bundle says about itself.
        variant: name of the loaded variant.
        tokenizer: text <-> token ids.
        limits: what audio is accepted.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        limits: AudioLimits = DEFAULT_LIMITS,
    ) -> None:
        """Load one variant of an aligner's bundle.

        Args:
            bundle: directory of a forced aligner's bundle, name of one in the store (`qwen3-asr-onnx models`), or an
                opened `Bundle`; None is the store's default aligner.
            variant: name of the variant; None takes the first one the bundle lists.
            device: "cpu" or "cuda".
            threads: threads per operator; None uses every core this process may use.
            limits: what audio to accept, and how much, in every call.

        Raises:
            BundleError: the bundle is missing or damaged, is not an aligner's, or has no such variant.
            OptionsError: device or threads is not valid.
            ProviderError: the device is not available, or the variant was not made for it.
            MissingExtra: onnxruntime is not installed.
        """
        self._model: AlignmentModel | None = load_aligner(bundle, variant, device, threads)
        self.variant = self._model.variant
        self.manifest = self._model.manifest
        self.tokenizer = self._model.tokenizer
        self.limits = limits
        self._head = self._model.head
        self._fixed_tokens = fixed_tokens(self.tokenizer, self.manifest.prompt.template)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        revision: str | None = None,
        limits: AudioLimits = DEFAULT_LIMITS,
    ) -> Self:
        """Load a bundle as the constructor does, or the files of one variant from a hub id such as "owner/name".

        Raises:
            BundleError: neither a directory, nor a model of the store, nor a repository with an aligner's bundle in it.
            MissingExtra: downloading needs the hub extra.
        """
        from qwen3_asr_onnx.bundle.pull import fetch_variant

        folder = fetch_variant(name_or_path, variant, revision=revision, family="aligner")
        return cls(folder, variant, device, threads, limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model's memory. Every later use raises `Qwen3AsrError`, but for closing again."""
        self._model = None

    def align(
        self,
        audio: AudioSource,
        text: str,
        language: str | None,
        options: AlignOptions = DEFAULT_OPTIONS,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Words:
        """Return when every word of a transcript is spoken.

        Args:
            audio: path, URL, bytes, file object, (array, sample_rate), or a 16 kHz float32 waveform.
            text: what is said in it. Words that are not said get times all the same, in order. A text that is much
                longer or shorter than the speech is noticed: all its words are flagged "text_mismatch".
            language: name ("English") or code ("en") of the transcript's language.
            options: how to align.
            progress: called with the seconds of audio just settled.
            changes: fields of the options, as keywords: `align(audio, text, "en", refine=False)`.

        Returns:
            One `Word` per unit of the language: per word, per Chinese character. Empty for a text without any.

        Raises:
            AudioError: the audio cannot be read, or holds no samples for the words of the text.
            OptionsError: the language is missing or not one of the aligner's.
            LimitError: more words than the model's positions can hold in so little audio.
            MissingExtra: the language or the file format needs a package.
            OSError: the file cannot be opened.
        """
        return self.align_many([audio], [text], [language], options, progress, **changes)[0]

    def align_many(
        self,
        audios: Sequence[AudioSource],
        texts: Sequence[str],
        languages: str | Sequence[str | None] | None,
        options: AlignOptions = DEFAULT_OPTIONS,
        progress: Progress | None = None,
        **changes: Any,
    ) -> list[Words]:
        """Align several inputs; short ones share calls of the encoder. One language may stand for all.

        Raises:
            OptionsError: as `align`, or the lists have different lengths.
            AudioError, LimitError, MissingExtra, OSError: as `align`.
        """
        options = changed(options, AlignOptions, changes)
        given = [languages] * len(audios) if languages is None or isinstance(languages, str) else list(languages)
        if not len(audios) == len(texts) == len(given):
            raise OptionsError(
                f"{len(audios)} audios, {len(texts)} texts and {len(given)} languages; give as many of each"
            )
        names = [self.resolve_language(language) for language in given]
        found: list[Words] = []
        waiting: list[_Input] = []
        for audio, text, name in zip(audios, texts, names, strict=True):
            waiting.append(self._input(load_audio(audio, self.limits), text, name))
            if sum(entry.duration_s for entry in waiting) >= GROUP_SECONDS:
                found += self._align_given(waiting, options, progress)
                waiting = []
        return found + self._align_given(waiting, options, progress)

    def align_waveform(
        self,
        waveform: Waveform,
        text: str,
        language: str,
        offset_s: float = 0.0,
        options: AlignOptions = DEFAULT_OPTIONS,
    ) -> Words:
        """Align a piece of a longer audio with what was heard in it, whatever that is.

        Args:
            waveform: (n_samples,) float32, mono, 16 kHz.
            text: the transcript. More words than the model has positions for, as a loop can give, share the end.
            language: a language name; words of one that the aligner was not trained on are flagged.
            offset_s: where the piece begins, added to all times.
            options: how to align.

        Raises:
            MissingExtra: the language needs a package.
        """
        entry = self._input(waveform, text, language)
        try:
            (words,) = self._align_inputs([entry], options, None, offset_s)
        except LimitError:
            spans, probabilities = at_the_end(entry.waveform.size * 1000 // SAMPLE_RATE, len(entry.ids))
            words = self._words(entry, spans, probabilities, options, offset_s)
        return words

    def answer(self, waveforms: Sequence[Waveform], units: Sequence[Sequence[list[int]]]) -> list[SlotAnswers]:
        """Return what the model says at every slot, for inputs that each fit into one window.

        Args:
            waveforms: each (n_samples,) float32, mono, 16 kHz, at least one sample.
            units: per waveform the token ids of every unit.
        """
        model = self._loaded
        features, _ = hear(model, waveforms)
        template, slot_token = self.manifest.prompt.template, self._head.token
        answers = []
        for rows, ids in zip(features, units, strict=True):
            prompt = build_alignment_prompt(self.tokenizer, template, slot_token, len(rows), ids)
            embedded = model.embeddings.splice(prompt.ids, rows, prompt.audio_start)
            answers.append(model.decoder.answer(embedded, prompt.slots))
        return answers

    def resolve_language(self, language: str | None) -> str:
        """Return the name of one of the aligner's languages, by name or code.

        Raises:
            OptionsError: the language is missing or not one of the aligner's; the message lists them.
        """
        if language is None or not language.strip():
            raise OptionsError(
                f"the aligner must know the language of the text; give one of: {', '.join(self.manifest.languages)}"
            )
        return resolve_language(language, self.manifest.languages)

    @property
    def _loaded(self) -> AlignmentModel:
        if self._model is None:
            raise Qwen3AsrError("this aligner was closed; load the bundle again to go on")
        return self._model

    def _input(self, waveform: Waveform, text: str, language: str) -> _Input:
        units = segment_words(text, language)
        if units and not waveform.size:
            raise AudioError(f"the audio holds no samples, but the text has {len(units)} words; is it the right file?")
        ids = encode_units(self.tokenizer, [unit.text for unit in units])
        return _Input(waveform, units, ids, language in self.manifest.languages)

    def _limits(self, options: AlignOptions) -> WindowLimits:
        manifest = self.manifest
        longest_s = min(options.max_window_s, (self._head.classes - 1) * self._head.segment_ms / 1000)
        return WindowLimits(
            samples=int(longest_s * SAMPLE_RATE),
            positions=manifest.decoder.max_positions - self._fixed_tokens,
            block_samples=manifest.encoder.block_frames * manifest.mel.hop_length,
            block_tokens=n_audio_tokens(manifest.encoder.block_frames, manifest.encoder.block_frames),
        )

    def _align_given(self, inputs: Sequence[_Input], options: AlignOptions, progress: Progress | None) -> list[Words]:
        """Align texts of the caller's, which may be those of other audios."""
        aligned = self._align_inputs(inputs, options, progress)
        return [flag_mismatch(words, entry.waveform) for words, entry in zip(aligned, inputs, strict=True)]

    def _align_inputs(
        self, inputs: Sequence[_Input], options: AlignOptions, progress: Progress | None, offset_s: float = 0.0
    ) -> list[Words]:
        """Align inputs: those of one window all together, each longer one by itself, window after window."""
        limits, segment_ms = self._limits(options), self._head.segment_ms
        spoken = [entry for entry in inputs if entry.units]
        short = [e for e in spoken if choose_window(e.waveform.size, e.costs, limits).last]
        answers = iter(self.answer([e.waveform for e in short], [e.ids for e in short]) if short else ())
        found: list[Words] = []
        for entry in inputs:
            spans: list[Span] = []
            probabilities: list[float] = []
            if entry in short:
                spans, probabilities = next(answers).spans(segment_ms)
            elif entry.units:
                for window_spans, window_probabilities in self._windows(entry, limits, progress):
                    spans += window_spans
                    probabilities += window_probabilities
            if progress is not None and (entry in short or not entry.units):
                progress(entry.duration_s)
            found.append(self._words(entry, spans, probabilities, options, offset_s))
        return found

    def _windows(
        self, entry: _Input, limits: WindowLimits, progress: Progress | None
    ) -> Iterator[tuple[list[Span], list[float]]]:
        """Yield the settled words of one window after the other, with the times of the whole input."""
        costs, start, first, segment_ms = entry.costs, 0, 0, self._head.segment_ms
        while first < len(entry.ids):
            try:
                window = choose_window(entry.waveform.size - start, costs[first:], limits)
            except LimitError:
                if start == 0:
                    raise
                # So many words were left over that the text cannot be that of the audio. None is lost.
                yield at_the_end(entry.waveform.size * 1000 // SAMPLE_RATE, len(entry.ids) - first)
                return
            samples = entry.waveform[start : start + window.n_samples]
            (answers,) = self.answer([samples], [entry.ids[first : first + window.n_units]])
            count, border = window.n_units, window.n_samples
            if not window.last:
                count, border_ms = settled_words(answers.spans(segment_ms)[0], samples.size * 1000 // SAMPLE_RATE)
                border = border_ms * SAMPLE_RATE // 1000
            # What the words after the border did to the order of those before it is forgotten.
            yield answers.spans(segment_ms, count, start * 1000 // SAMPLE_RATE)
            first, start = first + count, start + border
            if progress is not None:
                progress(border / SAMPLE_RATE)

    def _words(
        self,
        entry: _Input,
        spans: Sequence[Span],
        probabilities: Sequence[float],
        options: AlignOptions,
        offset_s: float,
    ) -> Words:
        settle(spans, entry.waveform.size * 1000 // SAMPLE_RATE, self._head.segment_ms, move=options.refine)
        return timed_words(entry.units, spans, probabilities, offset_s, supported=entry.supported)
