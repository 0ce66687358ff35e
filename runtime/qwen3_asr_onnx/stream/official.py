"""The streaming policy of the official package: all audio so far is fed again for every chunk.

The same chunks, prompts and texts as the streaming of qwen-asr 0.0.6, whose state machine runs on vLLM only. Kept as a
reference: work and memory grow with the length of the stream, and nothing is committed before its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.model.writing import generate
from qwen3_asr_onnx.options import StreamOptions
from qwen3_asr_onnx.results import End, Timings
from qwen3_asr_onnx.text.answer import REPLACEMENT, make_segment, parse_output

from .policy import WAY_OUT
from .updates import StreamUpdate

__all__ = ["ModelWriter", "OfficialPolicy", "Writer", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote for one chunk.

    Attributes:
        text: decoded ids, special tokens dropped.
        logprobs: natural-log probability of each id written, and of the stop token if there was one.
        end: why the model stopped writing.
        timings: seconds spent.
    """

    text: str
    logprobs: tuple[float, ...] = ()
    end: End = "stop_token"
    timings: Timings = field(default_factory=Timings)


class Writer(Protocol):
    """Continues a transcript."""

    def write(self, audio: Waveform, prefix: str) -> Written:
        """Return what follows `prefix` in the transcript of `audio`."""
        ...


class ModelWriter:
    """A `Writer` that encodes and reads everything anew."""

    def __init__(self, model: Model, prompter: Prompter) -> None:
        self._model = model
        self._prompter = prompter

    def write(self, audio: Waveform, prefix: str) -> Written:
        """Return what the model writes after `prefix`, greedily.

        Raises:
            LimitError: the audio has outgrown the model's positions.
        """
        model, prompter = self._model, self._prompter
        (features,), timings = hear(model, [audio])
        prompt = prompter.prompt(len(features), prefix)
        limit = min(prompter.limit(audio.size), prompter.room(prompt, WAY_OUT))
        embedded = model.embeddings.splice(prompt.ids, features, prompt.audio_start)
        (result,) = generate(model.decoder, [embedded], [limit])
        timings += Timings(prefill_s=result.prefill_s, decode_s=result.decode_s)
        return Written(model.tokenizer.decode(result.token_ids), result.logprobs, result.end, timings)


class OfficialPolicy:
    """A `StreamPolicy` that starts each chunk from the text of the one before, less its last few tokens."""

    def __init__(self, model: Model, prompter: Prompter, options: StreamOptions, writer: Writer | None = None) -> None:
        """Begin a stream; the model writes unless another writer is given."""
        self._writer = writer or ModelWriter(model, prompter)
        self._prompter = prompter
        self._options = options
        self._chunk_samples = max(1, round(options.chunk_s * SAMPLE_RATE))
        self._audio: Waveform = np.empty(0, dtype=np.float32)
        self._n_heard = 0
        self._n_chunks = 0
        self._raw = ""
        self._last = Written("")

    def feed(self, samples: Waveform, *, hurried: bool = False) -> Iterator[StreamUpdate]:  # noqa: ARG002
        """Take in 16 kHz samples and yield the whole text anew after each full chunk, in a hurry or not."""
        self._audio = np.concatenate([self._audio, samples])
        return self._listen()

    def finish(self) -> Iterator[StreamUpdate]:
        """Yield the text of the whole stream, committed; an incomplete last chunk is heard first."""
        yield from self._listen()
        if self._n_heard < self._audio.size:
            prefix = "" if self._n_chunks < self._options.unfixed_chunks else self._rolled_back_at_the_end()
            yield from self._step(self._audio.size, prefix)
        if self._n_heard:
            yield self._update(is_last=True)

    def _listen(self) -> Iterator[StreamUpdate]:
        while self._audio.size - self._n_heard >= self._chunk_samples:
            prefix = "" if self._n_chunks < self._options.unfixed_chunks else self._rolled_back()
            yield from self._step(self._n_heard + self._chunk_samples, prefix)

    def _step(self, n_samples: int, prefix: str) -> Iterator[StreamUpdate]:
        """Hear the stream up to a sample and write on after `prefix`."""
        self._last = self._writer.write(self._audio[:n_samples], prefix)
        self._raw = prefix + self._last.text
        self._n_heard = n_samples
        self._n_chunks += 1
        yield self._update(is_last=False)

    def _rolled_back(self) -> str:
        """Return the text so far without its last tokens, and without a character that this would cut in two."""
        ids = self._prompter.written(self._raw)
        end = max(0, len(ids) - self._options.unfixed_tokens)
        while end and REPLACEMENT in (prefix := self._decode(ids[:end])):
            end -= 1
        return prefix if end else ""

    def _rolled_back_at_the_end(self) -> str:
        """Return the same for the last chunk, where the official package keeps one token and half characters."""
        ids = self._prompter.written(self._raw)
        return self._decode(ids[: max(1, len(ids) - self._options.unfixed_tokens)])

    def _decode(self, ids: list[int]) -> str:
        return self._prompter.model.tokenizer.decode(ids, skip_special=False)

    def _update(self, *, is_last: bool) -> StreamUpdate:
        parsed = parse_output(self._raw, self._prompter.language, self._prompter.tag)
        heard_s = self._n_heard / SAMPLE_RATE
        if not is_last:
            return StreamUpdate("", parsed.text, parsed.language, heard_s, timings=self._last.timings)
        last, ids = self._last, tuple(self._prompter.written(self._raw))
        segment = make_segment((0.0, heard_s), parsed, ids, last.logprobs, last.end, raw=self._raw.strip())
        # The ids are those of the whole text, the probabilities only those of what was written last.
        segment = replace(segment, token_logprobs=())
        return StreamUpdate(parsed.text, "", parsed.language, heard_s, segment)
