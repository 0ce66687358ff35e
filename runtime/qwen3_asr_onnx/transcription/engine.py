"""One engine for all requests: pieces of many inputs in a running batch that they join and leave at any token.

One thread owns the batches; it is told what to do by messages. The audio of each request is read by a thread of that
request, a little ahead, and words are timed by one thread beside, so that nobody waits for a slow file or an aligner.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from functools import partial

from qwen3_asr_onnx.alignment.aligner import Aligner, Progress, Words
from qwen3_asr_onnx.audio.loading import AudioLimits, AudioSource, load_audio
from qwen3_asr_onnx.errors import OptionsError, Qwen3AsrError
from qwen3_asr_onnx.model.forking import refuse_forked
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import AlignOptions, TranscribeOptions

from .line import Line
from .loop import Loop
from .pieces import DEFAULT_SETTINGS, Draft, Pieces, RunSettings, prompter_for
from .recording import Input
from .requests import Listener, Request, Result, expected_s

__all__ = ["DEFAULT_MAX_WAITING_S", "Draft", "Engine", "Listener", "Request", "Result"]

DEFAULT_MAX_WAITING_S = 3600.0


class Engine:
    """The running batches of one model. Any thread may make requests; see `AsyncTranscriber` for programs of tasks."""

    def __init__(
        self,
        model: Model,
        aligner: Aligner | None,
        limits: AudioLimits,
        *,
        batch_size: int | None = None,
        max_waiting_s: float = DEFAULT_MAX_WAITING_S,
        settings: RunSettings = DEFAULT_SETTINGS,
    ) -> None:
        """Start the thread.

        Args:
            model: what to run.
            aligner: times words; None without.
            limits: what audio is accepted.
            batch_size: most pieces that decode together, of first ones and of the rest; None lets the memory decide.
            max_waiting_s: most seconds of audio that may wait.
            settings: how to decode.
        """
        self._model: Model | None = model
        self._aligner, self._limits = aligner, limits
        self._line = Line(max_waiting_s)
        self._loop = Loop(Pieces(model, aligner, settings), batch_size, self._line)
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.work, name="qwen3-asr engine", daemon=True)
        self._at_exit = partial(_end_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)  # a thread inside onnxruntime must not meet the end of the interpreter
        self._thread.start()

    @property
    def n_active(self) -> int:
        """Requests that have begun and not ended."""
        return self._line.n_active

    @property
    def n_waiting(self) -> int:
        """Requests that have not begun."""
        return self._line.n_waiting

    @property
    def waiting_s(self) -> float:
        """Seconds of audio of the requests that have not begun, as far as is known."""
        return self._line.waiting_s

    def transcribe(
        self, audio: AudioSource, options: TranscribeOptions, listener: Listener, priority: int = 0
    ) -> Request:
        """Begin to transcribe an input; the listener hears what comes of it.

        Raises:
            OptionsError: the language is unknown, or there is no aligner for word times.
            BusyError: too much is waiting.
            Qwen3AsrError: the engine was closed.
        """
        model = self._model
        if model is None:
            raise Qwen3AsrError("this AsyncTranscriber was closed; make another one to go on")
        prompter = prompter_for(model, self._aligner, options)
        request = self._request(audio, listener, priority, options.time_limit_s)
        request.source = Input(audio, prompter, None, request.interrupt, self._limits)
        return self._accept(request)

    def align(
        self, audio: AudioSource, text: str, language: str | None, options: AlignOptions, listener: Listener
    ) -> Request:
        """Begin to time the words of a text.

        Raises:
            OptionsError: there is no aligner.
            BusyError: too much is waiting.
            Qwen3AsrError: the engine was closed.
        """
        aligner = self._aligner
        if aligner is None:
            raise OptionsError("aligning needs a forced aligner: AsyncTranscriber(..., aligner=Aligner())")
        request = self._request(audio, listener, 0, None)

        def read(_: Request) -> None:
            aligner.resolve_language(language)  # what is wrong with it is told before anything is read
            waveform = load_audio(audio, self._limits)

            def align(progress: Progress) -> Words:
                request.go_on()
                request.has_begun = True
                with request.stop.applied():
                    return aligner.align(waveform, text, language, options, progress=progress)

            self._loop.align(request, align)

        request.read = read
        return self._accept(request)

    def close(self, *, finish: bool = True, timeout_s: float | None = None) -> None:
        """Take no more requests, and wait until those that are there have ended.

        Args:
            finish: False ends them now, with a `Qwen3AsrError` for their listeners.
            timeout_s: seconds after which that happens all the same; None for no limit.
        """
        self._line.close()
        if finish:
            self._loop.inbox.put(_nothing)
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._loop.inbox.put(self._loop.fail_all)
            for request in self._line.everybody():
                request.stop.set()
            self._thread.join()
        atexit.unregister(self._at_exit)
        self._model = None  # what requests still point here must not keep its threads alive

    def __del__(self) -> None:
        if hasattr(self, "_at_exit"):  # nobody can ask for anything any more, and no request is left: they know it
            atexit.unregister(self._at_exit)
            self._loop.inbox.put(self._line.close)

    def _request(self, audio: AudioSource, listener: Listener, priority: int, time_limit_s: float | None) -> Request:
        if not self._thread.is_alive():  # before any lock is asked for, which nobody may be there to give back
            refuse_forked(self._pid)

        def drop(request: Request) -> None:
            self._loop.inbox.put(partial(self._loop.drop, request))

        return Request(listener, priority, self._line.next_turn(), expected_s(audio), drop, time_limit_s)

    def _accept(self, request: Request) -> Request:
        self._line.add(request)
        self._loop.inbox.put(_nothing)
        return request


def _end_at_exit(engine: weakref.ref[Engine]) -> None:
    alive = engine()
    if alive is not None:
        alive.close(finish=False)


def _nothing() -> None:
    pass
