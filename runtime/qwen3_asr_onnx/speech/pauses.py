"""Long audio into clips of speech, cut at pauses: blocks and a voice activity detector in, clips with their place out.

A clip begins shortly before speech and ends shortly after it, so what holds no speech is skipped. It grows to two
thirds of the limit and ends in the next pause; where nobody pauses, in the longest gap before the limit; where there
is none, at the quietest point. Offsets count samples, whatever frames the detector thinks in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

from .activity import FRAME_SAMPLES
from .quiet import Clip, SampleBuffer, quietest_cut
from .voice import SPEECH_BEGINS, SPEECH_GOES_ON, SpeechDetector

__all__ = ["split_at_pauses"]

PAD_SAMPLES = int(0.3 * SAMPLE_RATE)
"""Kept before and after speech: the detector needs a frame or two to notice a soft beginning or a fading end."""

PAUSE_FRAMES = round(0.3 * SAMPLE_RATE / FRAME_SAMPLES)
"""Shortest pause a clip may end in once it is long enough: stops inside words close the mouth for 0.15 s at most."""

SILENCE_FRAMES = round(2.0 * SAMPLE_RATE / FRAME_SAMPLES)
"""A pause of this length ends a clip of any length: what follows is another utterance."""

LEAST_SPEECH_FRAMES = 4
"""Clips with less speech are dropped: 128 ms hold no syllable, and single frames are clicks."""

GAP_FRAMES = 3
"""Shortest gap that is preferred to a cut inside speech."""

SEARCH_SAMPLES = int(2.5 * SAMPLE_RATE)
"""Without a gap, the quietest point is looked for this far around a point as far before the limit."""

JUDGED_TOGETHER = 32
"""Frames handed to the detector at once, about a second: so seldom are the held samples put together."""


def split_at_pauses(blocks: Iterable[Waveform], detector: SpeechDetector, max_s: float = 30.0) -> Iterator[Clip]:
    """Yield the clips that hold speech, in order, none longer than `max_s`, none overlapping another.

    Args:
        blocks: (n,) float32, mono, 16 kHz, following each other.
        detector: at the start of an input.
        max_s: longest clip, in seconds.
    """
    assert max_s > 0
    splitter = _Splitter(SampleBuffer(), int(max_s * SAMPLE_RATE))
    buffer = splitter.buffer
    for block in blocks:
        buffer.append(block)
        waiting = buffer.end - splitter.judged
        if waiting >= JUDGED_TOGETHER * FRAME_SAMPLES:
            samples = buffer.samples()[splitter.judged - buffer.start :][: waiting // FRAME_SAMPLES * FRAME_SAMPLES]
            yield from splitter.push(detector.probabilities(samples))
    rest = buffer.samples()[splitter.judged - buffer.start :]
    if rest.size:
        yield from splitter.push(detector.probabilities(np.pad(rest, (0, -rest.size % FRAME_SAMPLES))))
    yield from splitter.finish()


@dataclass(slots=True)
class _Splitter:
    """The frames of one input, one after the other. All positions are samples of the input.

    Attributes:
        buffer: holds the samples from the start of the open clip on.
        max_samples: longest clip.
        free_from: end of the last clip.
        start: start of the open clip; None between clips.
        judged: end of the last frame judged.
        speech_end: end of the last speech frame.
        n_speech: speech frames in the open clip.
        gaps: (start, end) of the stretches without speech inside the open clip.
    """

    buffer: SampleBuffer
    max_samples: int
    free_from: int = 0
    start: int | None = None
    judged: int = 0
    speech_end: int = 0
    n_speech: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def push(self, probabilities: npt.NDArray[np.float32]) -> Iterator[Clip]:
        """Take the next frames, yield the clips that end among them, and drop the samples no clip can need any more."""
        for probability in probabilities.tolist():
            frame_start, self.judged = self.judged, self.judged + FRAME_SAMPLES
            speaking = self.start is not None and self.speech_end == frame_start
            if probability >= (SPEECH_GOES_ON if speaking else SPEECH_BEGINS):
                self._add_speech(frame_start)
            if self.start is None:
                continue
            if self._may_end_here():
                pause = self.judged - self.speech_end
                # The next clip may need the second half of a short pause.
                yield from self._close(self.speech_end + min(PAD_SAMPLES, pause // 2))
            elif self.judged - self.start + FRAME_SAMPLES > self.max_samples:
                yield self._cut()
        keep = self.judged - PAD_SAMPLES - FRAME_SAMPLES if self.start is None else self.start
        self.buffer.drop_before(max(self.buffer.start, keep))

    def finish(self) -> Iterator[Clip]:
        """Yield the clip that the end of the input ends, if one is open."""
        if self.start is not None:
            yield from self._close(min(self.speech_end + PAD_SAMPLES, self.buffer.end))

    def _add_speech(self, frame_start: int) -> None:
        if self.start is None:
            self.start = max(self.free_from, frame_start - PAD_SAMPLES)
        elif frame_start - self.speech_end >= GAP_FRAMES * FRAME_SAMPLES:
            self.gaps.append((self.speech_end, frame_start))
        self.speech_end = self.judged
        self.n_speech += 1

    def _may_end_here(self) -> bool:
        assert self.start is not None
        pause_frames = (self.judged - self.speech_end) // FRAME_SAMPLES
        is_long = self.judged - self.start >= self.max_samples * 2 // 3
        return pause_frames >= SILENCE_FRAMES or (is_long and pause_frames >= PAUSE_FRAMES)

    def _close(self, end: int) -> Iterator[Clip]:
        assert self.start is not None
        if self.n_speech >= LEAST_SPEECH_FRAMES:
            yield self.buffer.clip(self.start, end)
            self.free_from = end
        self.start, self.n_speech, self.gaps = None, 0, []

    def _cut(self) -> Clip:
        """End the clip in its second half, because the limit is reached, and go on from there."""
        assert self.start is not None
        middle = self.start + self.max_samples // 2
        gaps = [gap for gap in [*self.gaps, (self.speech_end, self.judged)] if gap[0] >= middle]
        longest = max(gaps, key=lambda gap: gap[1] - gap[0])
        if longest[1] - longest[0] >= GAP_FRAMES * FRAME_SAMPLES:
            end = sum(longest) // 2
        else:
            samples = self.buffer.clip(self.start, self.judged).samples
            radius = min(SEARCH_SAMPLES, samples.size // 4)
            end = self.start + quietest_cut(samples, samples.size - radius, radius)
        clip = self.buffer.clip(self.start, end)
        self.free_from = end
        self.gaps = [gap for gap in self.gaps if gap[0] >= end]
        if self.speech_end > end:
            self.start, self.n_speech = end, LEAST_SPEECH_FRAMES  # part of the same speech, so it is speech enough
        else:
            self.start, self.n_speech = None, 0
        return clip
