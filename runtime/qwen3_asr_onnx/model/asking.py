"""A clip put to the model: waveform -> features and encoder output, prompt, room, token limit, embedded input.

Every question goes this way: recordings, streams, alignment, and what the workshops ask to calibrate and to measure.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, AudioFeatures, Waveform
from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.errors import LimitError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Timings
from qwen3_asr_onnx.text.answer import NOBODY
from qwen3_asr_onnx.text.languages import resolve_language
from qwen3_asr_onnx.text.prompt import Prompt, build_prompt
from qwen3_asr_onnx.text.tokenizer import Tokenizer

from .choosing import Denial
from .embeddings import Embedded, EmbeddingTable
from .encoder import AudioEncoder
from .features import log_mel, n_audio_tokens, n_frames

__all__ = ["BASE_TOKENS", "TOKENS_PER_SECOND", "Prompter", "hear"]

BASE_TOKENS, TOKENS_PER_SECOND = 64, 32
"""Default token limit. The densest scripts need some 20 tokens per second of fast speech; loops end here."""

DEFAULT_OPTIONS = TranscribeOptions()


class Parts(Protocol):
    """The parts of a loaded model that a question needs: of a `Model`, a `Transcriber` or an `Aligner`."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def embeddings(self) -> EmbeddingTable: ...
    @property
    def encoder(self) -> AudioEncoder: ...


def hear(model: Parts, waveforms: Sequence[Waveform], first_frame: int = 0) -> tuple[list[AudioFeatures], Timings]:
    """Return what the encoder makes of some clips, and the seconds that took.

    Args:
        model: whose front end and encoder to use.
        waveforms: each (n_samples,) float32, mono, 16 kHz.
        first_frame: leave out the mel frames before this one, a multiple of the encoder's window.

    Returns:
        For each clip (n_audio_tokens, hidden) float32.
    """
    started = time.perf_counter()
    mels = [log_mel(waveform, model.manifest.mel)[:, first_frame:] for waveform in waveforms]
    made = time.perf_counter()
    features = model.encoder.encode(mels)
    return features, Timings(mel_s=made - started, encoder_s=time.perf_counter() - made)


@dataclass(frozen=True)
class Prompter:
    """What is asked of a model, clip after clip, with one set of options.

    Attributes:
        model: whose prompt template and tokenizer to use.
        options: context and token limit.
        language: forced language as the model spells it; None lets the model detect it.
    """

    model: Parts
    options: TranscribeOptions = DEFAULT_OPTIONS
    language: str | None = None

    @classmethod
    def for_options(cls, model: Parts, options: TranscribeOptions) -> Prompter:
        """Return the prompter of the options, their language looked up.

        Raises:
            OptionsError: the language is unknown.
        """
        asked, known = options.language or "", model.manifest.languages
        return cls(model, options, resolve_language(asked, known) if asked.strip() else None)

    @property
    def tag(self) -> str:
        """The special token that stands before the transcript in an answer."""
        grammar = self.model.manifest.answer
        assert grammar is not None, "an aligner is not asked for text"
        return grammar.tag

    def prompt(self, n_audio_tokens: int, written: str = "") -> Prompt:
        """Return the prompt up to where the model begins to write, behind what it has `written` already."""
        pieces, tokenizer = self.model.manifest.prompt, self.model.tokenizer
        prompt = build_prompt(
            tokenizer, pieces.template, n_audio_tokens, self.options.context, self.language, pieces.forced
        )
        if not written:
            return prompt
        # What stands after the last added token is one BPE segment with the text that follows it.
        ids = prompt.ids.tolist()
        end = max(i for i, token in enumerate(ids) if token in tokenizer.added_tokens) + 1
        ids[end:] = self.written(tokenizer.decode(ids[end:]) + written)
        return Prompt(np.array(ids, dtype=np.int64), prompt.audio_start, n_audio_tokens)

    @cached_property
    def denial(self) -> Denial | None:
        """How the model would say that nobody speaks, were the language not forced; None where it is not."""
        if self.language is None:
            return None
        pieces, tokenizer = self.model.manifest.prompt, self.model.tokenizer
        forced, nobody = (
            build_prompt(tokenizer, pieces.template, 1, "", name, pieces.forced).ids.tolist()
            for name in (self.language, NOBODY)
        )
        at = next((i for i, (one, other) in enumerate(zip(forced, nobody, strict=False)) if one != other), None)
        return None if at is None else Denial(len(forced) - at, nobody[at])

    def written(self, text: str) -> list[int]:
        """Return the ids of text the model wrote before; `<asr_text>` and other added tokens in it are recognised."""
        ids: list[int] = []
        for part in self._added_token.split(text):
            if self._added_token.fullmatch(part):
                ids.append(self.model.tokenizer.special_id(part))
            elif part:
                ids.extend(self.model.tokenizer.encode(part))
        return ids

    def n_audio_tokens(self, n_samples: int) -> int:
        """Return how many audio tokens a clip of so many samples will give."""
        manifest = self.model.manifest
        return n_audio_tokens(n_frames(n_samples, manifest.mel), manifest.encoder.block_frames)

    def room(self, prompt: Prompt, way_out: str = "lower max_segment_s") -> int:
        """Return how many ids the model can write after a prompt.

        Args:
            prompt: audio placeholders included.
            way_out: what the user may do about it, besides shortening the context.

        Raises:
            LimitError: none.
        """
        n_tokens, max_positions = len(prompt.ids), self.model.manifest.decoder.max_positions
        if n_tokens >= max_positions:
            raise LimitError(
                f"{prompt.n_audio_tokens} audio tokens and {n_tokens - prompt.n_audio_tokens} tokens of prompt, "
                f"context and text exceed the model's {max_positions} positions; shorten the context or {way_out}"
            )
        return max_positions - n_tokens

    def limit(self, n_samples: int) -> int:
        """Return the most tokens to generate for a clip, room or not."""
        if self.options.max_new_tokens is not None:
            return self.options.max_new_tokens
        return BASE_TOKENS + math.ceil(TOKENS_PER_SECOND * n_samples / SAMPLE_RATE)

    def embed(self, features: AudioFeatures) -> Embedded:
        """Return the embedded prompt of a clip that was heard."""
        prompt = self.prompt(len(features))
        return self.model.embeddings.splice(prompt.ids, features, prompt.audio_start)

    @cached_property
    def _added_token(self) -> re.Pattern[str]:
        texts = sorted((token.text for token in self.model.tokenizer.added_tokens.values()), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, texts)) + ")")
