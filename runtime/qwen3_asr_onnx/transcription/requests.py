"""One request of many on its way through an engine: who made it, what is read of it, and what is waiting."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, TypeAlias

import numpy as np

from qwen3_asr_onnx.alignment.aligner import Words
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Mel
from qwen3_asr_onnx.audio.loading import AudioSource
from qwen3_asr_onnx.audio.wav import is_wav, read_wav_header
from qwen3_asr_onnx.errors import AudioError, Qwen3AsrError
from qwen3_asr_onnx.model.stopping import Stop
from qwen3_asr_onnx.results import Segment, Transcript

from .interrupt import Interrupt
from .pieces import Draft
from .recording import ClipRequest, Input, Slot

__all__ = ["Failing", "Listener", "Request", "Result", "expected_s"]

Result: TypeAlias = Transcript | Words | Exception
"""What a request comes to."""

BYTES_PER_SECOND = 16_000
"""Of compressed audio, to guess a length by: 128 kbit/s."""


class Listener(Protocol):
    """Who made a request. Called from the engine's thread: it must be quick and must not raise."""

    wants_drafts: bool

    def written(self, draft: Draft) -> None:
        """Take what the first unfinished piece says by now."""

    def finished(self, segment: Segment) -> None:
        """Take the next segment."""

    def ended(self, result: Result) -> None:
        """Take what the request came to: the last that is said."""


class Request:
    """What an engine knows of a request. All but `cancel` is for the engine's thread alone, unless it says so.

    Attributes:
        listener: who made it.
        priority: higher ones go first.
        source: the audio, read by a thread of its own; None for one that is aligned.
        read: reads what is aligned, in a thread of its own.
        interrupt: its time limit, and its end.
        stop: ends what the model does for it alone.
        limited: whether it has a time limit.
        waiting_s: seconds of audio that wait, as far as is known.
        turn: where it stands in the line: a number that grows with each piece it gives.
        opened_s: when its audio began to be read, by the engine's clock; None before that.
        has_begun: whether the model has begun with it.
        is_cut: whether its time is up.
        ready: pieces that were read and not begun, with their mel features, if they were made.
        first: the place of its first piece.
        n_timing: pieces that wait for the times of their words.
        segments: those that were handed out.
        room: how many more pieces its reader may read ahead.
    """

    def __init__(
        self,
        listener: Listener,
        priority: int,
        turn: int,
        waiting_s: float,
        drop: Callable[[Request], None],
        time_limit_s: float | None = None,
    ) -> None:
        self.listener, self.priority, self.turn = listener, priority, turn
        self.waiting_s = waiting_s
        self.source: Input | None = None
        self._over = threading.Event()
        self.interrupt = Interrupt(time_limit_s, self._over)
        self.stop = Stop()
        self.limited = time_limit_s is not None
        self._drop = drop
        self.read: Callable[[Request], None] = _nothing
        self.opened_s: float | None = None
        self.has_begun = self.is_cut = False
        self.ready: deque[tuple[ClipRequest, Mel | None]] = deque()
        self.first: Slot | None = None
        self.n_timing = 0
        self.segments: list[Segment] = []
        self.room = threading.Semaphore(0)

    def cancel(self) -> None:
        """End it within one token; its listener hears nothing more. From any thread, and from a finalizer."""
        if not self.is_over:
            self._drop(self)
            self.stop.set()  # after the message: what it ends is not looked for in vain

    @property
    def is_over(self) -> bool:
        """Whether it ended; its reader asks too."""
        return self._over.is_set()

    @property
    def waits_for_text(self) -> bool:
        """Whether its next piece is the first one, or a half of it."""
        return self.first is None or (bool(self.ready) and self.ready[0][0].slot is self.first)

    def take(self) -> tuple[ClipRequest, Mel | None]:
        """Return the next piece; another may be read, and two once it has begun."""
        piece = self.ready.popleft()
        if not piece[0].retried:
            self.room.release()
        if self.first is None:
            self.first = piece[0].slot
            self.has_begun = True
            self.room.release()
        return piece

    def go_on(self) -> None:
        """Say whether somebody still waits for it.

        Raises:
            Qwen3AsrError: it has ended, and so should the work.
        """
        if self.is_over:
            raise Qwen3AsrError("the request was cancelled")

    def end(self) -> None:
        """Let go of what it holds."""
        self._over.set()
        self.stop.set()
        self.source = None  # it leads to the model, which may be closed
        self.ready.clear()
        self.room.release()


class Failing:
    """A context whose errors go to those they concern; what encloses it goes on."""

    def __init__(self, then: Callable[[Exception], object]) -> None:
        self._then = then

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._then(error)
        return True


def expected_s(audio: AudioSource) -> float:
    """Return about how many seconds of audio something holds, without reading it; 0.0 where nothing tells."""
    if isinstance(audio, np.ndarray):
        audio = audio, SAMPLE_RATE
    if isinstance(audio, tuple):
        samples, rate = audio
        return max(getattr(samples, "shape", ()), default=0) / rate if rate else 0.0
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return _wav_s(io.BytesIO(audio[:4096]), len(audio)) or len(audio) / BYTES_PER_SECOND
    if not isinstance(audio, (str, Path)):
        return 0.0
    try:
        status = Path(audio).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for who writes into it
            return 0.0
        with Path(audio).open("rb") as file:
            return _wav_s(file, status.st_size) or status.st_size / BYTES_PER_SECOND
    except (OSError, ValueError):  # what is wrong with it is told when it is read
        return 0.0


def _wav_s(file: BinaryIO, n_bytes: int) -> float | None:
    """Return the seconds of a WAV file, by its header; None for other files."""
    if not is_wav(file.read(12)):
        return None
    file.seek(0, os.SEEK_SET)
    try:
        header = read_wav_header(file, "")
    except AudioError:
        return None
    return None if header.n_frames is None else min(header.n_frames, n_bytes) / header.sample_rate


def _nothing(_: Request) -> None:
    pass
