"""A `Transcriber` in its own process, timed from outside its API: JSON requests in, JSON answers out, a line each.

python -m qwen3_asr_onnx_eval.scaling.worker BUNDLE VARIANT THREADS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from qwen3_asr_onnx_eval.machine.child_process import ChildProcess, reply

__all__ = ["ScalingWorker", "main"]


class ScalingWorker(ChildProcess):
    """The parent's side. Use as a context manager.

    Attributes:
        loaded: `start_s` (start of the process to model loaded), of it `load_s` (the model); `rss` then.
    """

    def __init__(self, bundle: Path, variant: str, threads: int) -> None:
        started = time.perf_counter()
        super().__init__("the benchmark's process", __name__, [str(bundle), variant, str(threads)])
        self.loaded["start_s"] = time.perf_counter() - started

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
        return self.ask(audio_s=audio_s, max_new_tokens=max_new_tokens, batch=batch)


def main(argv: list[str]) -> int:
    """Serve requests until stdin ends."""
    bundle, variant, threads = argv
    from qwen3_asr_onnx import TranscribeOptions, Transcriber
    from qwen3_asr_onnx_eval.bench.recognizers import benchmark_clip
    from qwen3_asr_onnx_eval.bench.worker import process_memory

    started = time.perf_counter()
    asr = Transcriber(bundle, variant, threads=int(threads))
    loaded = time.perf_counter()
    reply(load_s=loaded - started, rss=process_memory()["rss"])
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
        reply(
            seconds=seconds,
            encoder_s=sum(one.timings.encoder_s for one in found),
            prefill_s=sum(one.timings.prefill_s for one in found),
            decode_s=sum(one.timings.decode_s for one in found),
            n_tokens=max(len(one.token_ids) for one in found),
            rss=memory["rss"],
            peak_rss=memory["peak_rss"],
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
