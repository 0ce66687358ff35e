"""A `Transcriber` in its own process, timed from outside its API."""

from __future__ import annotations

import time
from pathlib import Path

from qwen3_asr_onnx_eval.machine.child_process import Answer, ChildProcess
from qwen3_asr_onnx_eval.machine.clip import benchmark_clip
from qwen3_asr_onnx_eval.machine.memory import process_memory

__all__ = ["ScalingWorker"]

STAGES = ("encoder_s", "prefill_s", "decode_s")


class ScalingWorker(ChildProcess):
    """The parent's side. Use as a context manager.

    Attributes:
        loaded: `start_s` (start of the process to model loaded), of it `load_s` (the model); `rss` then.
    """

    def __init__(self, bundle: Path, variant: str, threads: int) -> None:
        started = time.perf_counter()
        super().__init__("the benchmark's process", _Served, bundle, variant, threads)
        self.loaded["start_s"] = time.perf_counter() - started

    def transcribe(self, audio_s: float, max_new_tokens: int, batch: int) -> Answer:
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
        return self.ask("transcribe", audio_s=audio_s, max_new_tokens=max_new_tokens, batch=batch)


class _Served:
    """The child's side."""

    def __init__(self, bundle: Path, variant: str, threads: int) -> None:
        from qwen3_asr_onnx import Transcriber

        started = time.perf_counter()
        self._asr = Transcriber(bundle, variant, threads=threads)
        self.loaded = {"load_s": time.perf_counter() - started, "rss": process_memory()["rss"]}

    def transcribe(self, audio_s: float, max_new_tokens: int, batch: int) -> Answer:
        """Do what `ScalingWorker.transcribe` asks for."""
        from qwen3_asr_onnx import TranscribeOptions

        options = TranscribeOptions(
            language="English",
            max_new_tokens=max_new_tokens,
            batch_size=batch,
            max_segment_s=1200.0,  # in one piece: the floors beside the figures are those of one prompt
        )
        clips = [benchmark_clip(audio_s)] * batch
        began = time.perf_counter()
        found = list(self._asr.transcribe_many(clips, options))
        seconds = time.perf_counter() - began
        memory = process_memory()
        return {
            "seconds": seconds,
            **{stage: sum(getattr(one.timings, stage) for one in found) for stage in STAGES},
            "n_tokens": max(len(one.token_ids) for one in found),
            "rss": memory["rss"],
            "peak_rss": memory["peak_rss"],
        }
