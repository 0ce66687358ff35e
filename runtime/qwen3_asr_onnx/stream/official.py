"""The streaming policy of the official package: all audio so far is fed again for every chunk.

The same chunks, prompts and texts as the streaming of qwen-asr 0.0.6, whose state machine runs on vLLM only. Kept as a
reference: work and memory grow with the length of the stream, and nothing is committed before its end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import StreamOptions
from qwen3_asr_onnx.results import Segment, StopReason, Timings
from qwen3_asr_onnx.text.answer import collapse_repetitions, parse_output
from qwen3_asr_onnx.transcription.recording import BASE_TOKENS, TOKENS_PER_SECOND

from .policy import StreamPrompter
from .updates import StreamUpdate

__all__ = ["ModelWriter", "OfficialPolicy", "Writer", "Written"]

_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote for one chunk.

    Attributes:
        text: decoded ids, special tokens dropped.
        token_ids: the ids.
        logprobs: natural-log probability of each id, and of the stop token if there was one.
        stopped: whether the model stopped by itself.
        timings: seconds spent.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stopped: bool = True
    timings: Timings = field(default_factory=Timings)


class Writer(Protocol):
    """Continues a transcript."""

    def write(self, audio: Waveform, prefix: str) -> Written:
        """Return what follows `prefix` in the transcript of `audio`."""
        ...


class ModelWriter:
    """A `Writer` that encodes and reads everything anew."""

    def __init__(self, model: Model, prompter: StreamPrompter, max_new_tokens: int | None) -> None:
        self._model = model
        self._prompter = prompter
        self._max_new_tokens = max_new_tokens

    def write(self, audio: Waveform, prefix: str) -> Written:
        """Return what the model writes after `prefix`, greedily.

        Raises:
            LimitError: the audio has outgrown the model's positions.
        """
        model = self._model
        started = time.perf_counter()
        mel = log_mel(audio, model.manifest.mel)
        mel_s = time.perf_counter() - started
        (features,) = model.encoder.encode([mel])
        encoder_s = time.perf_counter() - started - mel_s
        prompt = self._prompter.prompt(len(features))
        ids = np.array(self._prompter.with_written(prompt.ids.tolist(), prefix), dtype=np.int64)
        room = self._prompter.room(len(ids), len(features))
        embedded = model.embeddings.splice(ids, features, prompt.audio_start)
        limit = self._max_new_tokens
        if limit is None:
            limit = BASE_TOKENS + math.ceil(TOKENS_PER_SECOND * audio.size / SAMPLE_RATE)
        (result,) = model.decoder.generate([embedded], [min(limit, room)])
        return Written(
            model.tokenizer.decode(result.token_ids),
            result.token_ids,
            result.logprobs,
            result.end == "stop_token",
            Timings(mel_s=mel_s, encoder_s=encoder_s, prefill_s=result.prefill_s, decode_s=result.decode_s),
        )


class OfficialPolicy:
    """A `StreamPolicy` that starts each chunk from the text of the one before, less its last few tokens."""

    def __init__(self, writer: Writer, prompter: StreamPrompter, options: StreamOptions) -> None:
        self._writer = writer
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
        while end and _REPLACEMENT in (prefix := self._decode(ids[:end])):
            end -= 1
        return prefix if end else ""

    def _rolled_back_at_the_end(self) -> str:
        """Return the same for the last chunk, where the official package keeps one token and half characters."""
        ids = self._prompter.written(self._raw)
        return self._decode(ids[: max(1, len(ids) - self._options.unfixed_tokens)])

    def _decode(self, ids: list[int]) -> str:
        return self._prompter.model.tokenizer.decode(ids, skip_special=False)

    def _update(self, *, is_last: bool) -> StreamUpdate:
        parsed = parse_output(self._raw, self._prompter.language)
        heard_s = self._n_heard / SAMPLE_RATE
        if not is_last:
            return StreamUpdate("", parsed.text, parsed.language, heard_s, timings=self._last.timings)
        last = self._last
        segment = Segment(
            start_s=0.0,
            end_s=heard_s,
            text=parsed.text,
            language=parsed.language,
            token_ids=tuple(self._prompter.written(self._raw)),
            stop_reason=self._stop_reason(parsed.text),
            avg_logprob=sum(last.logprobs) / len(last.logprobs) if last.logprobs else 0.0,
        )
        return StreamUpdate(parsed.text, "", parsed.language, heard_s, segment)

    def _stop_reason(self, text: str) -> StopReason:
        raw = self._raw.strip()
        if collapse_repetitions(raw) != raw:
            return "repetition"
        if not self._last.stopped:
            return "length"
        return "eos" if text else "no_speech"
