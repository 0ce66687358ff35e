"""How far a run is: seconds of audio done in, a progress bar with real-time factor and remaining time out."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator

from .console import Bar, progress_bar

__all__ = ["AudioMeter", "audio_progress"]


class AudioMeter:
    """Counts audio that is done.

    Attributes:
        done_s: seconds of audio done.
    """

    def __init__(self, bar: Bar, n_inputs: int) -> None:
        self.done_s = 0.0
        self._bar = bar
        self._shown_s = 0
        self._n_inputs = n_inputs
        self._n_done = 0
        self._started_s = time.perf_counter()

    def add(self, seconds: float) -> None:
        """Count audio just finished."""
        self.done_s += seconds
        whole = int(self.done_s)
        self._bar.update(whole - self._shown_s)
        self._shown_s = whole
        self._show()

    def input_done(self) -> None:
        """Count an input that is finished or has failed."""
        self._n_done += 1
        self._show()

    def say(self, text: str) -> None:
        """Show a word at the end of the bar, until audio is finished."""
        self._bar.set_postfix_str(text)

    def _show(self) -> None:
        parts = []
        if self.done_s:
            parts.append(f"RTF {(time.perf_counter() - self._started_s) / self.done_s:.3f}")
        if self._n_inputs > 1:
            parts.append(f"{self._n_done} of {self._n_inputs} inputs")
        self._bar.set_postfix_str(", ".join(parts))


@contextlib.contextmanager
def audio_progress(durations_s: Iterable[float | None], n_inputs: int, *, quiet: bool) -> Iterator[AudioMeter]:
    """Yield a meter whose bar counts seconds of audio.

    The time that remains is shown when the length of every input is known.

    Args:
        durations_s: length of each input, None for unknown; only looked at when a person watches.
        n_inputs: how many inputs there are.
        quiet: hide the bar.
    """
    with progress_bar(total=None, unit="s", quiet=quiet) as bar:
        if not getattr(bar, "disable", False):
            known = list(durations_s)
            # tqdm takes a total at any time.
            bar.total = None if None in known else math.ceil(sum(known))  # type: ignore[attr-defined, arg-type]
        yield AudioMeter(bar, n_inputs)
