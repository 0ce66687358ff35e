"""Inputs in, segments out: clips of one input or of many decode together, and results come in order.

Prompts join the batch as soon as a row is free and the cache has room, so the batch stays full to the end. The memory
taken depends on the batch, never on the length or the number of inputs.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.model.asking import hear
from qwen3_asr_onnx.model.batch import Batch, Generated, Watch
from qwen3_asr_onnx.model.choosing import Chooser, greedy
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.outputs.phrases import estimate_phrases
from qwen3_asr_onnx.results import Segment, Timings
from qwen3_asr_onnx.speech.activity import is_near_silent
from qwen3_asr_onnx.speech.quiet import halve_at_quiet
from qwen3_asr_onnx.text.answer import REPLACEMENT, lacks_tag, language_probability, make_segment, read_answer
from qwen3_asr_onnx.text.loops import ends_in_loop, is_context_leak, trim_loop

from .interrupt import Interrupt
from .memory import available_bytes
from .recording import ClipRequest, Input, Slot

__all__ = ["Pipeline", "RunSettings"]

LOG = logging.getLogger(__name__)

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
    """How a pipeline decodes.

    Attributes:
        eos: ids that end a row instead of the model's own; an empty sequence always fills the token limit.
        watch: ends rows that loop; None lets them run to their limit.
        choose: decides on every token.
        first_alone: decode the first piece before others join it: somebody waits for its text. It costs what a batch of
            one costs.
    """

    eos: Sequence[int] | None = None
    watch: Watch | None = ends_in_loop
    choose: Chooser = greedy
    first_alone: bool = False


DEFAULT_SETTINGS = RunSettings()


class Pipeline:
    """One call's work. Not for use by several threads at once; pipelines of one model may run side by side."""

    def __init__(
        self,
        model: Model,
        batch_size: int | None,
        interrupt: Interrupt,
        settings: RunSettings = DEFAULT_SETTINGS,
        aligner: Aligner | None = None,
    ) -> None:
        self._model = model
        self._interrupt = interrupt
        self._settings = settings
        self._aligner = aligner
        self._batch = _empty_batch(model, batch_size, settings)
        self._open: deque[Input] = deque()  # begun and not handed out, in order; the last one is being read
        self._retries: deque[ClipRequest] = deque()
        self._held: ClipRequest | None = None
        self._exhausted = False
        self._alone = settings.first_alone

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
                    for request, result in self._batch.run(self._interrupt):
                        self._settle(request, result)
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
            self._held = self._held or self._next_request(inputs)
            if self._held is None or not self._batch.fits(self._held.positions):
                return
            request, self._held = self._held, None
            self._add(request)
            if self._alone:
                self._alone = False
                return

    def _next_request(self, inputs: Iterator[Input]) -> ClipRequest | None:
        if self._retries:
            return self._retries.popleft()
        while True:
            if self._open and not self._open[-1].is_read:
                request = self._open[-1].next_request()
                if request is not None:
                    return request
                if not self._batch.n_active:
                    return None  # an input without a clip: hand it out before the next one is read
            source = next(inputs, None)
            if source is None:
                self._exhausted = True
                return None
            self._open.append(source)

    def _add(self, request: ClipRequest) -> None:
        """Hear a clip and read its prompt."""
        prompt = request.prompt
        (features,), spent = hear(self._model, [request.clip.samples])
        embedded = self._model.embeddings.splice(prompt.ids, features, prompt.audio_start)
        request = replace(request, spent=request.spent + spent)
        self._batch.add(
            request,
            embedded,
            request.limit,
            self._settings.watch,
            shared=tuple(prompt.ids[: prompt.audio_start].tolist()),
            denial=request.prompter.denial,
        )

    def _settle(self, request: ClipRequest, result: Generated) -> None:
        """Put a finished row where it belongs; a loop is tried again in two halves, once."""
        spent = request.spent + Timings(
            prefill_s=result.prefill_s, decode_s=result.decode_s, n_tokens=len(result.token_ids)
        )
        segment = self._segment(request, result, spent)
        if result.end == "watch" and not request.retried and request.clip.duration_s >= SHORTEST_RETRY_S:
            request.slot.first = request, segment
            if self._interrupt():
                return  # there is no time to hear it again
            LOG.debug("a loop in the piece at %.1f s: heard again in two halves", request.clip.start_s)
            first, second = halve_at_quiet(request.clip)
            self._retries.append(ClipRequest.of(request.prompter, first, request.slot, retried=True, spent=spent))
            self._retries.append(ClipRequest.of(request.prompter, second, request.slot, retried=True))
            request.slot.pending += 1
            return
        # Here, and nowhere else, a finished segment and its samples (request.clip) meet.
        request.slot.add(self._timed(request, segment))

    def _segment(self, request: ClipRequest, result: Generated, spent: Timings) -> Segment:
        prompter, clip, tokenizer = request.prompter, request.clip, self._model.tokenizer
        ids, logprobs = result.token_ids, result.logprobs
        raw = tokenizer.decode(trim_loop(ids) if result.end == "watch" else ids).strip()
        if result.end != "stop_token":
            raw = raw.rstrip(REPLACEMENT)  # the first bytes of a character whose last ones were not written
        answer = read_answer(raw, prompter.language, prompter.tag)
        near_silent = is_near_silent(clip.samples)
        segment = make_segment(
            (clip.start_s, clip.end_s),
            answer,
            ids,
            logprobs,
            result.end,
            raw=raw,
            leaked=is_context_leak(answer.text, prompter.options.context, near_silent=near_silent),
            untagged=not near_silent and lacks_tag(raw, prompter.language, prompter.tag),
            interrupted=self._interrupt.reason,
        )
        named = language_probability(tokenizer, ids, logprobs, prompter.tag) if prompter.language is None else None
        return replace(
            segment, language_probability=named, retried=request.retried, timings=spent, channel=clip.channel
        )

    def _timed(self, request: ClipRequest, segment: Segment) -> Segment:
        """Return the segment with the times of its words, where they were asked for, else with an estimate."""
        if request.prompter.options.timestamps != "word":
            return replace(segment, phrases=estimate_phrases(request.clip.samples, segment.text, segment.start_s))
        assert self._aligner is not None, "the transcriber checks its options"
        started = time.perf_counter()
        words = self._aligner.align_waveform(request.clip.samples, segment.text, segment.language, request.clip.start_s)
        timings = segment.timings + Timings(align_s=time.perf_counter() - started)
        return replace(segment, words=words, timings=timings)

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
        for request, result in self._batch.interrupt():
            self._settle(request, result)
        for source in self._open:
            unfinished = [slot for slot in source.slots if slot.pending or not slot.is_whole]
            if unfinished or not source.is_read:
                source.ended_by = self._interrupt.reason
            source.is_read = True
            for slot in unfinished:
                self._keep_the_longer(slot)
                slot.pending = 0
        yield from self._in_order()

    def _keep_the_longer(self, slot: Slot) -> None:
        """Where a clip was being heard again, keep what the first attempt gave unless the second got further."""
        if slot.first is not None:
            request, segment = slot.first
            if len(segment.text) >= sum(len(half.text) for half in slot.segments):
                slot.segments = [self._timed(request, segment)]


def _empty_batch(model: Model, batch_size: int | None, settings: RunSettings) -> Batch[ClipRequest]:
    """Return a batch of the size asked for, or of what the memory allows."""
    dims, max_positions = model.decoder.dims, None
    if batch_size is None:
        max_positions = _affordable_bytes() // KvCache.position_bytes(dims)
    rows = batch_size or MAX_ROWS
    LOG.debug("a batch of %d rows at most, %s positions", rows, "any" if max_positions is None else max_positions)
    cache = KvCache(dims, rows, 0)
    return Batch(model.decoder, cache, max_positions=max_positions, eos=settings.eos, choose=settings.choose)


def _affordable_bytes() -> int:
    free = available_bytes()
    return CACHE_BYTES if free is None else min(CACHE_BYTES, free // CACHE_SHARE)
