"""What the thread of an engine does, over and over: hear what is new, begin pieces, step the rows, hand out results."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from qwen3_asr_onnx.alignment.aligner import Progress, Words
from qwen3_asr_onnx.errors import Qwen3AsrError
from qwen3_asr_onnx.model.batch import Generated, Watch
from qwen3_asr_onnx.model.stopping import Stopped
from qwen3_asr_onnx.results import Segment

from .aside import Aside
from .lanes import FIRST_PART, PROMPT_PART, Lane, Lanes
from .line import Line
from .pieces import Draft, Pieces, halves, is_loop
from .readers import Piece, Readers
from .recording import ClipRequest, Slot
from .requests import Failing, Request, Result
from .transcripts import join_segments

__all__ = ["Loop", "Message"]

IDLE_S = 2.0
"""Seconds without work after which the memory of the cache is given back."""

TICK_S = 0.05
"""How often time limits and stuck files are looked at while the model has nothing to do."""

Message = Callable[[], object]


class Loop:
    """Owns the lanes, and all requests that are in the line. What it does for others, it does on messages.

    Attributes:
        inbox: messages; its `put` may be called by a finalizer.
    """

    def __init__(self, pieces: Pieces, batch_size: int | None, line: Line) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._pieces, self._line = pieces, line
        self._lanes = Lanes(pieces, batch_size)
        self._readers = Readers(self.inbox.put, self._heard, self.fail)
        self._aside = Aside()
        self._owners: dict[Slot, Request] = {}  # by the place of a piece that is in a lane

    def work(self) -> None:
        """Run until the line is closed and empty."""
        while not self._is_finished:
            with Failing(self._lost):
                self._go_on()
        self._lanes.release()
        self._aside.end()
        self._readers.join()
        del self._pieces, self._lanes  # and with them the model

    @property
    def _is_finished(self) -> bool:
        return self._line.is_closed and self._line.is_empty

    def _go_on(self) -> None:
        """Look at what is new, and do one bit of what there is to do."""
        self._receive(0.0)
        for request in self._line.limited():
            if request.interrupt() and not request.is_cut:
                self._cut(request)
        for request in self._line.to_open(time.monotonic()):
            self._readers.start(request)
        self._begin_pieces()
        lane = self._lanes.next()
        if lane is not None:
            self._turn(lane)
        elif not self._is_finished:
            self._rest()

    def _receive(self, timeout_s: float | None) -> None:
        """Do what messages say, all that are there; wait for the first of them."""
        while True:
            try:
                message = self.inbox.get(timeout_s != 0.0, timeout_s)
            except queue.Empty:
                return
            message()
            timeout_s = 0.0

    def _rest(self) -> None:
        """Wait for something to do."""
        if self._line.needs_ticks():
            self._receive(TICK_S)
            return
        holds_memory = self._lanes.hold_memory
        self._receive(IDLE_S if holds_memory else None)
        if holds_memory and self._line.is_empty:
            self._lanes.release()

    def _begin_pieces(self) -> None:
        """Let the next piece arrive in each lane that has room for it."""
        for lane in self._lanes:
            first = lane is self._lanes.first
            request = self._line.next_ready(first=first) if lane.arriving is None else None
            if request is None or not self._lanes.fits(lane, request.ready[0][0].positions):
                continue
            piece, mel = request.take()
            request.turn = self._line.next_turn()
            self._owners[piece.slot] = request
            alone = first and not lane.rows and self._lanes.rest.is_empty
            lane.begin(piece, mel, self._watch(request, piece), None if alone else FIRST_PART if first else PROMPT_PART)

    def _watch(self, request: Request, piece: ClipRequest) -> Watch:
        """Return what looks at each new token of a piece: for loops, and for who wants to see it at once."""
        watch, listener, source = self._pieces.settings.watch, request.listener, request.source
        assert source is not None
        slots = source.slots

        def see(ids: Sequence[int]) -> bool:
            ends = watch is not None and watch(ids)
            if listener.wants_drafts and not (ends or piece.retried) and slots and slots[0] is piece.slot:
                listener.written(Draft(piece, tuple(ids)))
            return ends

        return see

    def _turn(self, lane: Lane) -> None:
        """Do one bit of what arrives in a lane, and step its rows: once, or as long as nobody else wants anything."""
        started = time.perf_counter()
        shared = lane.arriving is not None or not self._lanes.beside(lane).is_empty
        if lane.arriving is not None:
            owner = self._owners[lane.arriving.slot]
            with Failing(partial(self.fail, owner)), owner.stop.applied():
                lane.advance()
        ended: list[tuple[ClipRequest, Generated]] = []
        if lane.rows:
            with Failing(partial(self._broke, lane)), self._stop_of(lane):
                ended = lane.run(lambda: shared or not self.inbox.empty() or self._line.is_late())
        spent_s = time.perf_counter() - started
        lane.spent_s += spent_s / lane.share
        self._line.measure(spent_s, sum(piece.clip.duration_s for piece, _ in ended))
        for piece, result in ended:
            self._settle(piece, result)

    def _stop_of(self, lane: Lane) -> AbstractContextManager[None]:
        """Return what ends a step in the middle: only the owner of a row that is alone."""
        return self._owners[lane.rows[0].slot].stop.applied() if len(lane.rows) == 1 else nullcontext()

    def _settle(self, piece: ClipRequest, result: Generated) -> None:
        """Put a finished row where it belongs; a loop is tried again in two halves, once."""
        request = self._owners.get(piece.slot)
        if request is None:
            return  # it failed just now, with another piece
        with Failing(partial(self.fail, request)):
            segment = self._pieces.answer(piece, result, request.interrupt.reason)
            if is_loop(piece, result):
                piece.slot.first = piece, segment
                if not request.is_cut:  # otherwise there is no time to hear it again
                    request.ready.extendleft((half, None) for half in reversed(halves(piece, segment.timings)))
            elif piece.prompter.options.timestamps == "word":
                request.n_timing += 1
                timing = self._aside.time(partial(self._time, request, piece, segment))
                timing.add_done_callback(lambda done: self.inbox.put(partial(self._timed, request, piece, done)))
            else:
                piece.slot.add(self._pieces.timed(piece, segment))
            self._hand_out(request)

    def _time(self, request: Request, piece: ClipRequest, segment: Segment) -> Segment:
        with request.stop.applied():
            request.go_on()
            return self._pieces.timed(piece, segment)

    def _timed(self, request: Request, piece: ClipRequest, timing: Future[Segment]) -> None:
        if request.is_over:
            return
        request.n_timing -= 1
        with Failing(partial(self.fail, request)):
            piece.slot.add(timing.result())
            self._hand_out(request)

    def align(self, request: Request, align: Callable[[Progress], Words]) -> None:
        """Have a text aligned for a request, beside, others' words going between its windows; from any thread."""

        def go_on(_: float) -> None:
            self._aside.catch_up()
            request.go_on()

        timing = self._aside.align(partial(align, go_on))
        timing.add_done_callback(lambda done: self.inbox.put(partial(self._aligned, request, done)))

    def _aligned(self, request: Request, timing: Future[Words]) -> None:
        with Failing(partial(self.fail, request)):
            self._end(request, timing.result())

    def _heard(self, request: Request, piece: Piece | None) -> None:
        """Take a piece that was read, or the news that there is no more."""
        if request.is_over or request.is_cut:
            return
        source = request.source
        assert source is not None
        if piece is None:
            self._hand_out(request)
            return
        request.ready.append(piece)
        if source.promised_s is not None:
            request.waiting_s = source.promised_s * source.n_readings

    def _hand_out(self, request: Request) -> None:
        """Hand out what is finished, in order, and end a request of which everything is."""
        source = request.source
        assert source is not None
        is_done = source.is_done
        if request.is_cut and not request.n_timing:
            source.cut(request.interrupt.reason, self._pieces.timed)
            is_done = True
        for segment in source.take_finished():
            request.segments.append(segment)
            request.listener.finished(segment)
        if is_done or source.is_done:
            self._end(request, source.error or join_segments(source, request.segments, self._pieces.model.load_s))

    def _cut(self, request: Request) -> None:
        """End a request whose time is up with what there is."""
        request.is_cut = True
        request.ready.clear()
        with Failing(partial(self.fail, request)):
            for piece, result in self._lanes.drop(lambda piece: self._owners[piece.slot] is request):
                self._settle(piece, result)
            if not request.is_over:
                self._hand_out(request)

    def _end(self, request: Request, result: Result) -> None:
        if not request.is_over:
            self.drop(request)
            request.listener.ended(result)

    def fail(self, request: Request, error: Exception) -> None:
        """End a request with an error; the others go on."""
        if not isinstance(error, Stopped):  # a message says what is to become of it
            self._end(request, error)

    def _broke(self, lane: Lane, error: Exception) -> None:
        """End all requests that are in a lane whose model failed; the lane begins anew."""
        if isinstance(error, Stopped):  # the row is as it was, and a message ends it
            return
        pieces = [*lane.rows, *([lane.arriving] if lane.arriving else [])]
        owners = dict.fromkeys(self._owners[piece.slot] for piece in pieces)
        lane.reset()
        for request in owners:
            self.fail(request, error)

    def _lost(self, error: Exception) -> None:
        """End everything after an error that nobody expected; later requests are tried."""
        for lane in self._lanes:
            lane.reset()
        for request in self._line.everybody():
            self.fail(request, error)

    def fail_all(self) -> None:
        """End all requests."""
        for request in self._line.everybody():
            self.fail(request, Qwen3AsrError("the AsyncTranscriber was closed before this request was finished"))

    def drop(self, request: Request) -> None:
        """Forget a request, wherever it is."""
        if request.is_over:
            return
        self._lanes.drop(lambda piece: self._owners[piece.slot] is request)
        request.end()
        self._line.remove(request)
        self._owners = {slot: owner for slot, owner in self._owners.items() if owner is not request}
