"""The threads that read audio for an engine: one for each request that is open, a piece or two ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from qwen3_asr_onnx.arrays import Mel
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.speech.voice import SpeechDetector

from .recording import ClipRequest, Input
from .requests import Failing, Request

__all__ = ["Piece", "Readers"]

END_S = 1.0
"""Seconds to wait for readers whose requests have ended; one that waits for somebody else is left behind."""

Piece: TypeAlias = tuple[ClipRequest, Mel | None]


class Readers:
    """Starts threads that read; what they find goes to the engine's thread as messages."""

    def __init__(
        self,
        tell: Callable[[Callable[[], object]], object],
        heard: Callable[[Request, Piece | None], object],
        failed: Callable[[Request, Exception], object],
    ) -> None:
        """Remember where messages go.

        Args:
            tell: sends one.
            heard: to be called in a message with a piece, and with None when there is no more.
            failed: to be called in a message with what went wrong.
        """
        self._tell, self._heard, self._failed = tell, heard, failed
        self._threads: set[threading.Thread] = set()
        self._detectors: list[SpeechDetector] = []  # idle ones

    def start(self, request: Request) -> None:
        """Begin to read for a request."""
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        thread = threading.Thread(target=self._run, args=(request,), name="qwen3-asr reader", daemon=True)
        self._threads.add(thread)
        thread.start()

    def join(self) -> None:
        """Wait for the threads, all requests having ended; not for those that are stuck."""
        end_s = time.monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))

    def _run(self, request: Request) -> None:
        with Failing(lambda error: self._tell(partial(self._failed, request, error))):
            source = request.source  # which ends with the request
            if source is None:
                request.read(request)
            else:
                self._read_pieces(request, source)
                self._tell(partial(self._heard, request, None))

    def _read_pieces(self, request: Request, source: Input) -> None:
        """Read an input piece by piece, as far ahead as there is room."""
        detector = None
        try:
            if source.wants_detector:
                detector = source.detector = self._detector()
            while not request.is_over:
                piece = source.next_request()
                if piece is None:
                    return
                mel = log_mel(piece.clip.samples, piece.prompter.model.manifest.mel)
                self._tell(partial(self._heard, request, (piece, mel)))
                request.room.acquire()
        finally:
            source.close()
            if detector is not None:
                self._detectors.append(detector)

    def _detector(self) -> SpeechDetector:
        from qwen3_asr_onnx.speech.voice import SileroDetector

        try:
            return self._detectors.pop()
        except IndexError:
            return SileroDetector()
