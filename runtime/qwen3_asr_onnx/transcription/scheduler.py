"""Inputs in, segments out: clips of one input or of many decode together, and results come in order.

Prompts join the batch as soon as a row is free and the cache has room, so the batch stays full to the end. The memory
taken depends on the batch, never on the length or the number of inputs.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.model.decoder import Batch, Generated, KvCache, Watch
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.results import Segment, StopReason, Timings
from qwen3_asr_onnx.speech.quiet import halve_at_quiet
from qwen3_asr_onnx.text.answer import TEXT_TAG, collapse_repetitions, heard_speech, parse_output
from qwen3_asr_onnx.text.loops import ends_in_loop, is_context_leak, trim_loop

from .interrupt import Interrupt
from .memory import available_bytes
from .recording import Input, Job, Prompter

__all__ = ["Pipeline", "RunSettings"]

MAX_ROWS = 8
"""Most rows by default: a step of 8 costs little more than one of 4, and one of 16 twice as much as one of 8."""

CACHE_BYTES = 448 << 20
"""Most memory for keys and values by default: 4 rows of 30 s, or 8 rows of 12 s and less, of the 0.6B and 1.7B models.
More brings little: the step of 4 rows is a third dearer per token than that of 8, and decoding a third of all work."""

CACHE_SHARE = 4
"""The cache takes at most this fraction of the free memory (1/4)."""

SHORTEST_RETRY_S = 2.0
"""A clip this short is not cut in two when the model loops on it."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a pipeline decodes, for measurements.

    Attributes:
        eos: ids that end a row instead of the model's own; an empty sequence always fills the token limit.
        watch: ends rows that loop; None lets them run to their limit.
    """

    eos: Sequence[int] | None = None
    watch: Watch | None = ends_in_loop


DEFAULT_SETTINGS = RunSettings()


class Pipeline:
    """One call's work. Not for use by several threads at once; pipelines of one model may run side by side."""

    def __init__(
        self,
        model: Model,
        prompter: Prompter,
        interrupt: Interrupt,
        settings: RunSettings = DEFAULT_SETTINGS,
        aligner: Aligner | None = None,
    ) -> None:
        self._model = model
        self._prompter = prompter
        self._interrupt = interrupt
        self._settings = settings
        self._aligner = aligner
        self._batch = _empty_batch(model, prompter.options.batch_size, settings.eos)
        self._open: deque[Input] = deque()  # begun and not handed out, in order; the last one is being read
        self._retries: deque[Job] = deque()
        self._held: Job | None = None
        self._exhausted = False

    def run(self, inputs: Iterator[Input]) -> Iterator[tuple[Input, Segment | None]]:
        """Yield the segments of all inputs, in order; after the last of an input, (input, None).

        An interrupt ends the work within one token or one prompt: rows that are open are handed out as they are,
        `ended_by` of unfinished inputs says why, and inputs that were not begun are not touched.
        """
        try:
            while True:
                self._fill(inputs)
                yield from self._in_order()
                if self._batch.n_active:
                    for job, result in self._batch.run(self._interrupt):
                        self._settle(job, result)
                if self._interrupt():
                    yield from self._stop()
                    return
                if self._exhausted and not (self._batch.n_active or self._open):
                    return
                yield from self._in_order()
        finally:
            for source in self._open:
                source.close()

    def _fill(self, inputs: Iterator[Input]) -> None:
        """Let prompts join while there is room."""
        while not self._interrupt():
            self._held = self._held or self._next_job(inputs)
            if self._held is None or not self._batch.fits(self._held.positions):
                return
            job, self._held = self._held, None
            self._add(job)

    def _next_job(self, inputs: Iterator[Input]) -> Job | None:
        if self._retries:
            return self._retries.popleft()
        while True:
            if self._open and not self._open[-1].is_read:
                job = self._open[-1].next_job()
                if job is not None:
                    return job
                if not self._batch.n_active:
                    return None  # an input without a clip: hand it out before the next one is read
            source = next(inputs, None)
            if source is None:
                self._exhausted = True
                return None
            self._open.append(source)

    def _add(self, job: Job) -> None:
        """Hear a clip and read its prompt."""
        model = self._model
        started = time.perf_counter()
        mel = log_mel(job.clip.samples, model.manifest.mel)
        heard = time.perf_counter()
        (features,) = model.encoder.encode([mel])
        encoded = time.perf_counter()
        prompt = model.embeddings.splice(job.prompt.ids, features, job.prompt.audio_start)
        spent = Timings(mel_s=heard - started, encoder_s=encoded - heard)
        job = Job(job.slot, job.clip, job.prompt, job.limit, job.retried, job.spent + spent)
        self._batch.add(job, prompt, job.limit, self._settings.watch, n_shared=job.prompt.audio_start)

    def _settle(self, job: Job, result: Generated) -> None:
        """Put a finished row where it belongs; a loop is tried again in two halves, once."""
        spent = job.spent + Timings(
            prefill_s=result.prefill_s, decode_s=result.decode_s, n_tokens=len(result.token_ids)
        )
        if result.end == "watch" and not job.retried and job.clip.duration_s >= SHORTEST_RETRY_S:
            first, second = halve_at_quiet(job.clip)
            self._retries.append(self._prompter.job(first, job.slot, retried=True, spent=spent))
            self._retries.append(self._prompter.job(second, job.slot, retried=True))
            job.slot.pending += 1
            return
        # Here, and nowhere else, a finished segment and its samples (job.clip) meet.
        job.slot.segments.append(self._timed(job, self._segment(job, result, spent)))
        job.slot.pending -= 1

    def _segment(self, job: Job, result: Generated, spent: Timings) -> Segment:
        language = self._prompter.language
        ids = trim_loop(result.token_ids) if result.end == "watch" else result.token_ids
        raw = self._model.tokenizer.decode(ids).strip()
        if result.end != "stop_token":
            raw = raw.rstrip("\ufffd")  # the first bytes of a character whose last ones were not written
        parsed = parse_output(raw, language)
        heard = heard_speech(raw, language)
        leaked = heard and is_context_leak(parsed.text, self._prompter.options.context, job.clip.samples)
        text = parsed.text if heard and not leaked else ""
        return Segment(
            start_s=job.clip.start_s,
            end_s=job.clip.end_s,
            text=text,
            language=parsed.language if heard and not leaked else "",
            token_ids=result.token_ids,
            stop_reason="context_leak" if leaked else self._stop_reason(raw, text, result),
            avg_logprob=sum(result.logprobs) / len(result.logprobs),
            token_logprobs=result.logprobs[: len(result.token_ids)],
            language_probability=self._language_probability(result) if language is None else None,
            retried=job.retried,
            timings=spent,
        )

    def _timed(self, job: Job, segment: Segment) -> Segment:
        """Return the segment with the times of its words, where they were asked for."""
        if self._aligner is None:
            return segment
        started = time.perf_counter()
        words = self._aligner.align_waveform(job.clip.samples, segment.text, segment.language, job.clip.start_s)
        timings = segment.timings + Timings(align_s=time.perf_counter() - started)
        return replace(segment, words=words, timings=timings)

    def _stop_reason(self, raw: str, text: str, result: Generated) -> StopReason:
        """Name why a row ended. A collapsed loop says more than the limit it usually runs into."""
        if result.end == "interrupt":
            assert self._interrupt.reason is not None
            return self._interrupt.reason
        if result.end == "watch" or collapse_repetitions(raw) != raw:
            return "repetition"
        if result.end == "limit":
            return "length"
        return "eos" if text else "no_speech"

    def _language_probability(self, result: Generated) -> float | None:
        """Return the probability of what stands before the text tag, "language English"; None without a tag."""
        tag = self._model.tokenizer.special_id(TEXT_TAG)
        if tag not in result.token_ids:
            return None
        return math.exp(sum(result.logprobs[: result.token_ids.index(tag)]))

    def _in_order(self) -> Iterator[tuple[Input, Segment | None]]:
        """Yield what is finished and has nothing unfinished before it."""
        while self._open:
            source = self._open[0]
            while source.slots and not source.slots[0].pending:
                slot = source.slots.popleft()
                for segment in sorted(slot.segments, key=lambda segment: segment.start_s):
                    yield source, segment
            if source.slots or not source.is_read:
                return
            self._open.popleft().close()
            yield source, None

    def _stop(self) -> Iterator[tuple[Input, Segment | None]]:
        """End all rows where they are and yield what there is."""
        for job, result in self._batch.interrupt():
            self._settle(job, result)
        for source in self._open:
            if not source.is_read or any(slot.pending for slot in source.slots):
                source.ended_by = self._interrupt.reason
            source.is_read = True
            for slot in source.slots:
                slot.pending = 0
        yield from self._in_order()


def _empty_batch(model: Model, batch_size: int | None, eos: Sequence[int] | None) -> Batch[Job]:
    """Return a batch of the size asked for, or of what the memory allows."""
    dims = model.decoder.dims
    if batch_size is not None:
        return Batch(model.decoder, KvCache(dims, batch_size, 0), eos=eos)
    free = available_bytes()
    budget = CACHE_BYTES if free is None else min(CACHE_BYTES, free // CACHE_SHARE)
    max_positions = budget // KvCache.position_bytes(dims)
    return Batch(model.decoder, KvCache(dims, MAX_ROWS, 0), max_positions=max_positions, eos=eos)
