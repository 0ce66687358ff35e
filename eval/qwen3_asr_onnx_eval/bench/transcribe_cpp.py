"""transcribe.cpp as a recogniser, through its package on PyPI, timed stage by stage by its own clock.

How many tokens it writes cannot be said: with random weights, which hardly ever end a text, it is its budget (256),
once its guard against loops is off. The time of one token is the mean over all of them. They attend to about a hundred
positions more than 40 tokens would, which is in their disfavour by about a hundredth.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.session import usable_cores
from qwen3_asr_onnx_eval.machine.child_process import MeasurementError

from .recognizers import StageTimes

__all__ = ["TranscribeCppRecognizer", "stage_times"]

SWITCHES = {"TRANSCRIBE_NO_REPETITION_GUARD": "1", "TRANSCRIBE_PERF_DEBUG": "1"}
"""No guard against loops, and a log of what each stage took. Both are read once by the library."""

FIGURES = {
    "mel": r"^ *mel +([\d.]+) ms",
    "encoder": r"^ *enc_compute +([\d.]+) ms",
    "prefill": r"^ *prefill_compute +([\d.]+) ms",
    "n_prompt": r"T_prompt=(\d+)",
    "n_steps": r"^ *step_loop.*\((\d+) steps",
    "steps": r"^ *step_loop +([\d.]+) ms",
}
"""What stands where in that log (0.4.1)."""


class TranscribeCppRecognizer:
    """One GGUF file, on the CPU, with all cores that this process may use."""

    def __init__(self, file: Path) -> None:
        os.environ.update(SWITCHES)
        import transcribe_cpp

        self._log: list[str] = []
        transcribe_cpp.set_log_callback(lambda _level, message: self._log.append(message))
        self._session: Any = transcribe_cpp.Model(str(file), backend="cpu").session(n_threads=usable_cores())

    def run(self, waveform: Waveform, n_tokens: int) -> StageTimes:
        """Time one clip; the times of `n_tokens` tokens are the mean of those that were written.

        Args:
            waveform: (n_samples,) float32, 16 kHz.
            n_tokens: how many to answer for.
        """
        import transcribe_cpp

        self._log.clear()
        with contextlib.suppress(transcribe_cpp.OutputTruncated):  # at its budget
            self._session.run(waveform)
        return stage_times("\n".join(self._log), n_tokens)

    def step_times(self, capacities: tuple[int, ...], n_tokens: int) -> dict[int, list[float]] | None:
        """Return None: steps cannot be asked for."""
        del capacities, n_tokens
        return None


def stage_times(log: str, n_tokens: int) -> StageTimes:
    """Return the stages of a clip, of what the library logged about it.

    Args:
        log: everything it said during the run.
        n_tokens: how many tokens to answer for.

    Raises:
        MeasurementError: a figure is not there, or nothing was written.
    """
    found = {name: re.search(pattern, log, re.MULTILINE) for name, pattern in FIGURES.items()}
    values = {name: float(match[1]) for name, match in found.items() if match}
    if len(values) < len(FIGURES) or not values["n_steps"]:
        raise MeasurementError(f"transcribe-cpp does not tell what a clip took; its log ends: {log[-500:]!r}")
    token_ms = values["steps"] / values["n_steps"]
    return StageTimes(
        values["mel"],
        values["encoder"],
        values["prefill"],
        (token_ms,) * (n_tokens - 1),
        int(values["n_prompt"]),
        n_written=int(values["n_steps"]) + 1,
    )
