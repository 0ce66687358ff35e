"""Inputs in, segments out: clips of one input or of many decode together, and results come in order.

Prompts join the batch as soon as a row is free and the cache has room, so the batch stays full to the end. The memory
taken depends on the batch, never on the length or the number of inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.model.batch import Generated
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.results import Segment

from .interrupt import Interrupt
from .pieces import DEFAULT_SETTINGS, Pieces, RunSettings, halves, is_loop
from .recording import ClipRequest, Input

__all__ = ["Pipeline", "RunSettings"]


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
        self._interrupt = interrupt
        self._pieces = Pieces(model, aligner, settings)
        self._batch = self._pieces.batch(batch_size)
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
            self._pieces.add(self._batch, request)
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

    def _settle(self, request: ClipRequest, result: Generated) -> None:
        """Put a finished row where it belongs; a loop is tried again in two halves, once."""
        segment = self._pieces.answer(request, result, self._interrupt.reason)
        if is_loop(request, result):
            request.slot.first = request, segment
            if not self._interrupt():  # otherwise there is no time to hear it again
                self._retries += halves(request, segment.timings)
        else:
            # Here, and nowhere else, a finished segment and its samples (request.clip) meet.
            request.slot.add(self._pieces.timed(request, segment))

    def _in_order(self) -> Iterator[tuple[Input, Segment | None]]:
        """Yield what is finished and has nothing unfinished before it."""
        while self._open:
            source = self._open[0]
            for segment in source.take_finished():
                yield source, segment
            if not source.is_done:
                return
            self._open.popleft().close()
            yield source, None

    def _stop(self) -> Iterator[tuple[Input, Segment | None]]:
        """End all rows where they are and yield what there is."""
        for request, result in self._batch.interrupt():
            self._settle(request, result)
        for source in self._open:
            source.cut(self._interrupt.reason, self._pieces.timed)
        yield from self._in_order()
