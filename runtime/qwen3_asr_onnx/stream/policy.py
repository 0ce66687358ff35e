"""What the two streaming policies share: the model they ask, how they are fed, and the text so far as a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.errors import LimitError
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.text.prompt import Prompt, build_prompt

from .updates import StreamUpdate

__all__ = ["StreamPolicy", "StreamPrompter"]


class StreamPolicy(Protocol):
    """One stream on its way: everything that is remembered between two pieces of audio."""

    def feed(self, samples: Waveform, *, hurried: bool = False) -> Iterator[StreamUpdate]:
        """Take in 16 kHz samples and yield what is newly known; the result does not depend on how they are portioned.

        `hurried` asks for fewer hypotheses, because more audio is waiting. All samples are taken in before the first
        update is computed, so an abandoned iterator loses no audio.
        """
        ...

    def finish(self) -> Iterator[StreamUpdate]:
        """Yield what the rest of the audio gives; the last update commits everything."""
        ...


@dataclass(frozen=True)
class StreamPrompter:
    """Builds the prompts of one stream.

    Attributes:
        model: whose prompt template and tokenizer to use.
        context: background text for the system turn.
        language: forced language as the model spells it; None lets the model detect it.
    """

    model: Model
    context: str
    language: str | None

    def prompt(self, n_audio_tokens: int) -> Prompt:
        """Return the prompt up to where the model begins to write."""
        manifest = self.model.manifest
        return build_prompt(
            self.model.tokenizer,
            manifest.prompt.template,
            n_audio_tokens,
            self.context,
            self.language,
            manifest.prompt.forced,
        )

    def room(self, n_tokens: int, n_audio_tokens: int) -> int:
        """Return how many ids the model can write after so many of prompt and text, the audio's among them.

        Raises:
            LimitError: none.
        """
        max_positions = self.model.manifest.decoder.max_positions
        if n_tokens >= max_positions:
            raise LimitError(
                f"{n_audio_tokens} audio tokens and {n_tokens - n_audio_tokens} tokens of context and text exceed the "
                f"model's {max_positions} positions; shorten the context, or finish the stream and start another"
            )
        return max_positions - n_tokens

    def written(self, text: str) -> list[int]:
        """Return the ids of text the model wrote before; `<asr_text>` and other added tokens in it are recognised."""
        ids: list[int] = []
        for part in self._added_token.split(text):
            if self._added_token.fullmatch(part):
                ids.append(self.model.tokenizer.special_id(part))
            elif part:
                ids.extend(self.model.tokenizer.encode(part))
        return ids

    def with_written(self, ids: Sequence[int], text: str) -> list[int]:
        """Return prompt ids followed by text the model wrote before, tokenized as one string.

        What stands after the last added token of the prompt is one BPE segment with the text that follows it.
        """
        added = self.model.tokenizer.added_tokens
        end = max(i for i, token in enumerate(ids) if token in added) + 1
        return [*ids[:end], *self.written(self.model.tokenizer.decode(ids[end:]) + text)]

    @cached_property
    def _added_token(self) -> re.Pattern[str]:
        texts = sorted((token.text for token in self.model.tokenizer.added_tokens.values()), key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, texts)) + ")")
