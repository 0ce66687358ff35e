"""What ffmpeg says while it decodes: complaints, and when each piece of audio plays by the file's own clock.

The decoded samples follow each other without a gap, whatever the file says of their time: audio that starts 4 s into a
video, or a track of which 3 s are missing, would give times that are wrong from there on.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from qwen3_asr_onnx.arrays import Waveform

from .blocks import BLOCK_FRAMES

__all__ = ["FfmpegLog"]

LEAST_GAP_S = 0.1
"""Shorter offsets are encoder delays and rounded time stamps; to follow them would shift the audio for nothing."""

LONGEST_GAP_S = 3600.0
"""A clock that jumps further is broken, and silence of days would end as an error about the length."""

_PIECE = re.compile(rb"\[info\] n:\s*\d+ pts:\s*\S+ pts_time:(\S+).* rate:(\d+) nb_samples:(\d+)")
_START = re.compile(rb"\[info\]   Duration: .*, start: (-?[\d.]+)")
_COMPLAINT = re.compile(rb"\[(?:error|fatal|panic)\] (.*)")


class FfmpegLog:
    """Reads the messages of a running ffmpeg (`-copyts -v level+info`, filter `ashowinfo`) to their end.

    With `-copyts`, because ffmpeg would count the time of an MPEG-TS from the first of the tracks that it decodes.
    """

    def __init__(self, messages: BinaryIO) -> None:
        """Begin to read.

        Args:
            messages: the program's standard error; closed at its end.
        """
        self._messages = messages
        self._news = threading.Condition()
        self._gaps: deque[tuple[int, int]] = deque()  # silence: before which sample, how many
        self._n_samples = 0
        self._clock_s = 0.0  # when the next sample should play
        self._ended = False
        self.complaints: deque[str] = deque(maxlen=8)
        self.faults: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._messages:
            for line in self._messages:
                if piece := _PIECE.search(line):
                    self._take(piece)
                elif start := _START.search(line):
                    self._clock_s = float(start[1])
                elif complaint := _COMPLAINT.search(line):
                    self.complaints.append(complaint[1].decode("utf-8", "replace").strip())
        with self._news:
            self._ended = True
            self._news.notify()

    def _take(self, piece: re.Match[bytes]) -> None:
        rate, n_samples = int(piece[2]), int(piece[3])
        try:
            gap_s = float(piece[1]) - self._clock_s
        except ValueError:  # a piece without a time follows the one before
            gap_s = 0.0
        with self._news:
            if LEAST_GAP_S <= gap_s <= LONGEST_GAP_S:
                self._gaps.append((self._n_samples, round(gap_s * rate)))
            elif gap_s > LONGEST_GAP_S:
                self.faults.append(f"its clock jumps by {gap_s:.0f} s at {self._clock_s:.2f} s; that is not followed")
            if abs(gap_s) >= LEAST_GAP_S:  # backwards too: nothing is dropped, the clock goes on from there
                self._clock_s += gap_s
            self._clock_s += n_samples / rate
            self._n_samples += n_samples
            self._news.notify()

    def in_time(self, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
        """Yield the blocks with silence where the clock of the file goes on and its samples do not.

        Args:
            blocks: (n,) float32, mono, all that the program writes, in order.
        """
        n_given = 0
        for block in blocks:
            end = n_given + len(block)
            first = 0
            for before, n_silent in self._gaps_until(end):
                yield block[first : before - n_given]
                first = before - n_given
                for start in range(0, n_silent, BLOCK_FRAMES):
                    yield np.zeros(min(BLOCK_FRAMES, n_silent - start), dtype=np.float32)
            yield block[first:]
            n_given = end

    def _gaps_until(self, n_samples: int) -> list[tuple[int, int]]:
        """Return the gaps before the first `n_samples` samples that were not returned yet, once all are known."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self._n_samples >= n_samples)
            found = []
            while self._gaps and self._gaps[0][0] < n_samples:
                found.append(self._gaps.popleft())
            return found

    def close(self) -> None:
        """Wait for the end of the messages, which comes with that of the program."""
        self._reader.join()
