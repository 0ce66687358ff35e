"""One engine for all requests: the first, simple one, which takes them one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from qwen3_asr_onnx.alignment.aligner import Aligner, Words
from qwen3_asr_onnx.audio.loading import AudioLimits, AudioSource
from qwen3_asr_onnx.errors import BusyError, OptionsError, Qwen3AsrError
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import AlignOptions, TranscribeOptions
from qwen3_asr_onnx.results import Partial, Segment, Transcript
from qwen3_asr_onnx.text.answer import REPLACEMENT, read_answer

from .interrupt import Interrupt
from .recording import Input
from .scheduler import Pipeline, RunSettings
from .transcripts import iter_segments, join_segments

__all__ = ["DEFAULT_MAX_WAITING_S", "Draft", "Engine", "Listener", "Request", "Result"]

DEFAULT_MAX_WAITING_S = 3600.0

Result: TypeAlias = Transcript | Words | Exception
"""What a request came to."""


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What the first unfinished piece of a request says so far; made readable only if somebody reads it."""

    prompter: Prompter
    start_s: float
    ids: Sequence[int]

    def partial(self) -> Partial:
        """Return it in words."""
        raw = self.prompter.model.tokenizer.decode(list(self.ids)).strip().rstrip(REPLACEMENT)
        return Partial(self.start_s, read_answer(raw, self.prompter.language, self.prompter.tag).text, raw)


class Listener(Protocol):
    """Who made a request. Called from threads of the engine: must be quick and must not raise."""

    wants_drafts: bool

    def written(self, draft: Draft) -> None:
        """Take what the first unfinished piece says by now."""

    def finished(self, segment: Segment) -> None:
        """Take the next segment."""

    def ended(self, result: Result) -> None:
        """Take what it came to: the last that is said."""


class Request:
    """One request on its way."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        """End it within one token; its listener hears nothing more."""
        self.cancelled.set()


class Engine:
    """Owns the running batch of a model."""

    def __init__(
        self,
        model: Model,
        aligner: Aligner | None,
        limits: AudioLimits,
        *,
        batch_size: int | None = None,
        max_waiting_s: float = DEFAULT_MAX_WAITING_S,
    ) -> None:
        self._model, self._aligner, self._limits = model, aligner, limits
        self._batch_size = batch_size
        self._max_waiting_s = max_waiting_s
        self._turn = threading.Lock()
        self._open: set[Request] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False
        self.n_active = 0
        self.waiting_s = 0.0

    @property
    def n_waiting(self) -> int:
        """Requests that have not begun."""
        return len(self._open) - self.n_active

    def transcribe(
        self, audio: AudioSource, options: TranscribeOptions, listener: Listener, priority: int = 0
    ) -> Request:
        """Begin a request."""
        del priority
        if options.timestamps == "word" and self._aligner is None:
            raise OptionsError("word times need a forced aligner: AsyncTranscriber(..., aligner=Aligner())")
        prompter = Prompter.for_options(self._model, options)
        request = Request()

        def work() -> None:
            interrupt = Interrupt(options.time_limit_s, request.cancelled)
            source = Input(audio, prompter, None, interrupt, self._limits)
            pipeline = Pipeline(self._model, self._batch_size, interrupt, RunSettings(first_alone=True), self._aligner)
            segments = []
            for segment in iter_segments(pipeline, source, None):
                segments.append(segment)
                listener.finished(segment)
            listener.ended(join_segments(source, segments, self._model.load_s))

        self._begin(request, listener, work)
        return request

    def align(
        self, audio: AudioSource, text: str, language: str | None, options: AlignOptions, listener: Listener
    ) -> Request:
        """Begin a request for word times."""
        aligner = self._aligner
        if aligner is None:
            raise OptionsError("there is no aligner: AsyncTranscriber(..., aligner=Aligner())")
        request = Request()
        self._begin(request, listener, lambda: listener.ended(aligner.align(audio, text, language, options)))
        return request

    def close(self, *, finish: bool = True, timeout_s: float | None = None) -> None:
        """Wait for the requests, or end them."""
        self._closed = True
        if not finish:
            for request in list(self._open):
                request.cancel()
        for thread in list(self._threads):
            thread.join(timeout_s)

    def _begin(self, request: Request, listener: Listener, work: Callable[[], None]) -> None:
        if self._closed:
            raise Qwen3AsrError("this AsyncTranscriber was closed; make another one to go on")
        if len(self._open) > 1000:
            raise BusyError("too much is waiting; ask again later", 60.0)
        self._open.add(request)

        def run() -> None:
            try:
                with self._turn:
                    self.n_active += 1
                    if not request.cancelled.is_set():
                        work()
            except Exception as error:  # noqa: BLE001 - until the true engine stands
                listener.ended(error)
            finally:
                self.n_active -= 1
                self._open.discard(request)
                self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        thread.start()
