"""What runs beside the model: times of words, which somebody waits for, and alignments, which may last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from qwen3_asr_onnx.alignment.aligner import Words
from qwen3_asr_onnx.results import Segment

__all__ = ["Aside"]


class Aside:
    """One thread of an aligner. Between two windows of an alignment it times the words that wait."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qwen3-asr aligner")
        self._waiting: deque[tuple[Future[Segment], Callable[[], Segment]]] = deque()

    def time(self, timed: Callable[[], Segment]) -> Future[Segment]:
        """Have the words of a segment timed."""
        future: Future[Segment] = Future()
        self._waiting.append((future, timed))
        self._thread.submit(self.catch_up)
        return future

    def align(self, align: Callable[[], Words]) -> Future[Words]:
        """Have a text aligned; what does it calls `catch_up` now and then."""
        return self._thread.submit(align)

    def catch_up(self) -> None:
        """Time the words that wait. Only in this thread."""
        while self._waiting:
            future, timed = self._waiting.popleft()
            try:
                future.set_result(timed())
            except Exception as error:  # noqa: BLE001 - it is for whoever waits, as an executor has it
                future.set_exception(error)

    def end(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._thread.shutdown()
