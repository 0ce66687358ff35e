"""The engine in asyncio programs: audio in, transcripts out, all requests of all event loops in one running batch."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

from .alignment.aligner import Aligner, Words
from .audio.loading import AudioLimits, AudioSource
from .bundle.files import Bundle
from .errors import OptionsError, Qwen3AsrError
from .options import AlignOptions, TranscribeOptions, changed
from .results import Partial, Segment, Transcript
from .transcriber import Transcriber
from .transcription.engine import DEFAULT_MAX_WAITING_S, Draft, Engine, Result

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

    from .transcription.engine import Request

__all__ = ["AsyncTranscriber"]

DEFAULT_OPTIONS = TranscribeOptions()
DEFAULT_ALIGNMENT = AlignOptions()

Event: TypeAlias = Partial | Segment | Transcript


class AsyncTranscriber:
    """A loaded model for programs of many requests at once: they share its batch, and wait for each other briefly.

    What a request gives does not depend on the others. The first pieces of all requests, which somebody waits for, go
    before the rest of long ones. Any number of threads and event loops may use one instance.

        async with AsyncTranscriber("bundle/") as asr:
            transcripts = await asyncio.gather(asr.transcribe("a.wav"), asr.transcribe("b.wav", language="en"))
    """

    def __init__(
        self,
        model: Transcriber | str | os.PathLike[str] | Bundle | None = None,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
        aligner: Aligner | None = None,
        limits: AudioLimits | None = None,
        *,
        batch_size: int | None = None,
        max_waiting_s: float = DEFAULT_MAX_WAITING_S,
    ) -> None:
        """Load the model; this blocks, as `Transcriber` does.

        Args:
            model: a `Transcriber`, which stays open when this is closed, or what it would take.
            variant: as for `Transcriber`, like the next two, of a model that is loaded here.
            device: "cpu" or "cuda".
            threads: threads per operator; None uses every core this process may use.
            aligner: times words, and aligns; None takes that of a `Transcriber` given. It stays open.
            limits: what audio to accept, and how much, in every call; None takes those of a `Transcriber` given.
            batch_size: how many first pieces, and how many others, decode together at most; None lets the memory
                decide. That in the options of a request is not looked at.
            max_waiting_s: most seconds of audio that may wait for their turn; what would be more is a `BusyError`.

        Raises:
            OptionsError: a value is not valid, or meant for a model that is loaded already.
            BundleError, ProviderError, MissingExtra: as `Transcriber`.
        """
        if batch_size is not None and batch_size < 1:
            raise OptionsError(f"batch_size is {batch_size}; give at least 1, or leave it out to let the memory decide")
        if not max_waiting_s > 0:
            raise OptionsError(f"max_waiting_s is {max_waiting_s}; give more than 0 seconds")
        self._loaded_here = not isinstance(model, Transcriber)
        if isinstance(model, Transcriber):
            if (variant, device, threads) != (None, "cpu", None):
                raise OptionsError("variant, device and threads are those of the Transcriber that was given")
            self._transcriber = model
        else:
            self._transcriber = Transcriber(model, variant, device, threads, aligner, limits or AudioLimits())
        self._engine = Engine(
            self._transcriber._loaded,
            aligner or self._transcriber.aligner,
            limits or self._transcriber.limits,
            batch_size=batch_size,
            max_waiting_s=max_waiting_s,
        )

    @property
    def transcriber(self) -> Transcriber:
        """The same model for calls that block, and for streams."""
        return self._transcriber

    @property
    def n_active(self) -> int:
        """Requests that have begun and not ended."""
        return self._engine.n_active

    @property
    def n_waiting(self) -> int:
        """Requests that have not begun."""
        return self._engine.n_waiting

    @property
    def waiting_s(self) -> float:
        """Seconds of audio of the requests that have not begun; guessed from the bytes where nothing says."""
        return self._engine.waiting_s

    async def transcribe(
        self, audio: AudioSource, options: TranscribeOptions = DEFAULT_OPTIONS, *, priority: int = 0, **changes: Any
    ) -> Transcript:
        """Transcribe one input of any length.

        Cancelling the task that awaits this ends the request within one token.

        Args:
            audio: as for `Transcriber.transcribe`. A file object is read by another thread.
            options: language, context, limits. The time limit counts from this call.
            priority: requests of a higher one go first.
            changes: fields of the options, as keywords.

        Raises:
            BusyError: too much is waiting.
            AudioError, OptionsError, LimitError, MissingExtra, OSError: as `Transcriber.transcribe`.
            BundleError: the model broke; others that were under way fail too, and later ones are tried.
            Qwen3AsrError: this was closed.
        """
        events = self._events(audio, changed(options, TranscribeOptions, changes), priority, drafts=False)
        try:
            async for event in events:
                if isinstance(event, Transcript):
                    return event
        finally:
            await events.aclose()
        raise AssertionError("a request ends with a transcript or an error")

    def events(
        self, audio: AudioSource, options: TranscribeOptions = DEFAULT_OPTIONS, *, priority: int = 0, **changes: Any
    ) -> Events:
        """Transcribe one input, told as it goes: each piece as it grows, each segment as it is finished, then all.

        The request is made at once. Closing the iterator (`aclose`, or dropping it) or cancelling the task that awaits
        its next event ends it within one token.

        Args:
            audio: as for `transcribe`, like all the others.
            options: language, context, limits.
            priority: requests of a higher one go first.
            changes: fields of the options, as keywords.

        Returns:
            `Partial`s of the first unfinished piece (the newest; who asks seldom misses some), the `Segment`s in order,
            and one `Transcript` at the end.

        Raises:
            BusyError, OptionsError, MissingExtra, Qwen3AsrError: at once, as `transcribe`.
            AudioError, LimitError, MissingExtra, OSError, BundleError: while iterating, as `transcribe`.
        """
        return self._events(audio, changed(options, TranscribeOptions, changes), priority, drafts=True)

    async def align(
        self,
        audio: AudioSource,
        text: str,
        language: str | None,
        options: AlignOptions = DEFAULT_ALIGNMENT,
        **changes: Any,
    ) -> Words:
        """Return when every word of a transcript is spoken, as `Aligner.align` does.

        Raises:
            BusyError: too much is waiting.
            OptionsError: there is no aligner, or as `Aligner.align`.
            AudioError, LimitError, MissingExtra, OSError: as `Aligner.align`.
            Qwen3AsrError: this was closed.
        """
        mailbox = _Mailbox(drafts=False)
        request = self._engine.align(audio, text, language, changed(options, AlignOptions, changes), mailbox)
        mailbox.cancel = request.cancel
        try:
            words = await mailbox.next()
        finally:
            request.cancel()
        assert isinstance(words, tuple)
        return words

    async def close(self, *, finish: bool = True, timeout_s: float | None = None) -> None:
        """Take no more requests, let those that are there finish, and end; then release what was loaded here.

        Args:
            finish: False ends them now: who awaits them gets a `Qwen3AsrError`.
            timeout_s: seconds after which what is not finished is ended all the same; None for no limit.
        """
        import asyncio

        await asyncio.get_running_loop().run_in_executor(None, self._close, finish, timeout_s)

    def _close(self, finish: bool, timeout_s: float | None) -> None:
        self._engine.close(finish=finish, timeout_s=timeout_s)
        if self._loaded_here:
            self._transcriber.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.close(finish=kind is None)

    def _events(self, audio: AudioSource, options: TranscribeOptions, priority: int, *, drafts: bool) -> Events:
        mailbox = _Mailbox(drafts=drafts)
        return Events(mailbox, self._engine.transcribe(audio, options, mailbox, priority))


class _Mailbox:
    """What the engine's threads say of one request, until a task takes it. Holds one draft at most, the newest."""

    def __init__(self, *, drafts: bool) -> None:
        self.wants_drafts = drafts
        self.cancel = _nothing  # called when nobody can take anything any more
        self._lock = threading.Lock()
        self._draft: Draft | None = None
        self._segments: deque[Segment] = deque()
        self._result: Result | None = None
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def written(self, draft: Draft) -> None:
        """Take what a piece says so far."""
        with self._lock:
            self._draft = draft
        self._wake()

    def finished(self, segment: Segment) -> None:
        """Take a segment, which makes the draft of it needless."""
        with self._lock:
            self._draft = None
            self._segments.append(segment)
        self._wake()

    def ended(self, result: Result) -> None:
        """Take what the request came to."""
        with self._lock:
            self._draft, self._result = None, result
        self._wake()

    async def next(self) -> Partial | Segment | Transcript | Words:
        """Return what comes next; raise what went wrong."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                item = self._taken()
                if item is None:
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._waiter = loop, waiter
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Draft):
                return item.partial()
            if item is not None:
                return item
            await waiter

    def _taken(self) -> Draft | Segment | Result | None:
        if self._segments:
            return self._segments.popleft()
        draft, self._draft = self._draft, None
        return draft or self._result

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiter = self._waiter, None
        if waiting is None:
            return
        loop, waiter = waiting
        try:
            loop.call_soon_threadsafe(_release, waiter)
        except RuntimeError:  # the loop was closed, and whoever waited with it
            self.cancel()


class Events:
    """An asynchronous iterator over what is said of one request, which ends with the iterator."""

    def __init__(self, mailbox: _Mailbox, request: Request) -> None:
        self._mailbox, self._request = mailbox, request
        mailbox.cancel = request.cancel
        self._is_over = False

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """Return what comes next; raise what went wrong."""
        if self._is_over:
            raise StopAsyncIteration
        self._is_over = True  # unless it goes well: an error and a cancelled task end it
        try:
            event = await self._mailbox.next()
        except BaseException:
            self._request.cancel()
            raise
        assert not isinstance(event, tuple)
        self._is_over = isinstance(event, Transcript)
        return event

    async def aclose(self) -> None:
        """End the request, if it has not ended."""
        self._is_over = True
        self._request.cancel()
        self._mailbox.ended(Qwen3AsrError("these events were closed"))  # to a task that still waits for one

    def __del__(self) -> None:
        self._request.cancel()


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _nothing() -> None:
    pass
