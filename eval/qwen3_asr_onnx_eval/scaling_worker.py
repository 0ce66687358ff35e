"""A `Transcriber` in its own process, timed from outside its API: JSON requests in, JSON answers out, a line each.

python -m qwen3_asr_onnx_eval.scaling_worker BUNDLE VARIANT THREADS
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .machine import MeasurementError

__all__ = ["ScalingWorker", "main"]

EXIT_TIMEOUT_S = 30


class ScalingWorker:
    """The parent's side. Use as a context manager.

    Attributes:
        loaded: `start_s` (start of the process to model loaded), of it `load_s` (the model); `rss` then.
    """

    def __init__(self, bundle: Path, variant: str, threads: int) -> None:
        command = [sys.executable, "-m", __name__, str(bundle), variant, str(threads)]
        started = time.perf_counter()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.loaded = {**self._answer(), "start_s": time.perf_counter() - started}

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> ScalingWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if error is not None:
            self._process.kill()
        self._process.wait(EXIT_TIMEOUT_S)
        self._process.stdout.close()

    def transcribe(self, audio_s: float, max_new_tokens: int, batch: int) -> dict[str, Any]:
        """Return what transcribing equal clips together took.

        `seconds`, of them `encoder_s`, `prefill_s` and `decode_s` of all clips; `n_tokens`, the most of a clip; `rss`
        and `peak_rss` afterwards.

        Args:
            audio_s: seconds of each clip.
            max_new_tokens: limit of generated tokens.
            batch: number of clips.

        Raises:
            MeasurementError: the process ended instead.
        """
        assert self._process.stdin is not None
        request = {"audio_s": audio_s, "max_new_tokens": max_new_tokens, "batch": batch}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise MeasurementError(f"the benchmark's process ended with status {self._process.wait(EXIT_TIMEOUT_S)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main(argv: list[str]) -> int:
    """Serve requests until stdin ends."""
    bundle, variant, threads = argv
    from qwen3_asr_onnx import TranscribeOptions, Transcriber

    from .recognizers import benchmark_clip
    from .worker import process_memory

    started = time.perf_counter()
    asr = Transcriber(bundle, variant, threads=int(threads))
    loaded = time.perf_counter()
    _reply(load_s=loaded - started, rss=process_memory()["rss"])
    for line in sys.stdin:
        request = json.loads(line)
        options = TranscribeOptions(
            language="English",
            max_new_tokens=request["max_new_tokens"],
            batch_size=request["batch"],
            max_segment_s=1200.0,  # in one piece: the floors beside the figures are those of one prompt
        )
        clips = [benchmark_clip(request["audio_s"])] * request["batch"]
        began = time.perf_counter()
        found = list(asr.transcribe_many(clips, options))
        seconds = time.perf_counter() - began
        memory = process_memory()
        _reply(
            seconds=seconds,
            encoder_s=sum(one.timings.encoder_s for one in found),
            prefill_s=sum(one.timings.prefill_s for one in found),
            decode_s=sum(one.timings.decode_s for one in found),
            n_tokens=max(len(one.token_ids) for one in found),
            rss=memory["rss"],
            peak_rss=memory["peak_rss"],
        )
    return 0


def _reply(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
