"""The default streaming policy: segments that end at pauses, cheap hypotheses, text that is never taken back.

Audio without sound is passed over. Where sound begins, a segment begins; each further chunk gives a hypothesis for the
segment so far. Words that two hypotheses in a row agree on, and that do not stand at the very end, are committed
(LocalAgreement-2, Liu et al. 2020, with the hold-back of the official policy): later hypotheses begin with them. A
pause ends the segment, the shorter a pause the longer the segment; one that runs on to the horizon is cut at its
quietest moment. Memory and work per chunk are bounded by the horizon, whatever the length of the stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import StreamOptions
from qwen3_asr_onnx.results import Timings
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES, ActivityDetector, EnergyDetector, is_near_silent
from qwen3_asr_onnx.speech.quiet import quietest_cut
from qwen3_asr_onnx.speech.voice import VoiceDetector
from qwen3_asr_onnx.text.answer import NO_SPEECH, ParsedOutput, make_segment
from qwen3_asr_onnx.text.loops import ends_in_loop, is_context_leak, trim_loop

from .committed import AnswerReader, TextJoiner
from .hypothesis import LOOKAHEAD_SAMPLES, Hypothesis, StreamDecoder
from .updates import StreamUpdate

__all__ = ["IncrementalPolicy"]

PAUSES: tuple[tuple[float, float], ...] = ((0.0, 1.2), (8.0, 0.7), (14.0, 0.4), (18.0, 0.25))
"""From how many seconds of segment on which pause ends it, in seconds. A quarter of a second is longer than the closure
of any consonant, so no word is cut."""

LEAD_SAMPLES = SAMPLE_RATE // 2
"""Audio kept from before the first sound: soft onsets lie below the threshold."""

TRAIL_SAMPLES = 3 * SAMPLE_RATE // 10
"""Audio kept after the last sound."""

HURRIED_CHUNKS = 4
"""In a hurry only one hypothesis is formed in so many chunks."""

SEARCH_S = 8.0
"""A segment without a pause is cut within this long before the horizon. Nothing heard there is committed before."""

LEAST_SOUND_FRAMES = 4
"""Segments with less sound are dropped unheard: 128 ms hold no syllable, and single frames are clicks."""

SEARCH_MARGIN_S = 0.5
"""The search begins this much later: a word half heard when the last text was committed must not be cut."""


@dataclass(slots=True)
class _Segment:
    """The stretch of audio that is being listened to.

    Attributes:
        start: its first sample, counted from the start of the stream.
        audio: its blocks.
        size: its samples.
        last_sound: samples up to the end of the last frame that may hold speech.
        n_sound: how many such frames there are.
        next_chunk: samples at which the next hypothesis is due.
        heard: samples that the last hypothesis is about.
        ids: the last hypothesis, or before the first one a guess at it.
        logprobs: of the ids, as far as they were ever chosen by the model.
        n_committed: how many ids are committed.
        committed: their text.
        timings: seconds spent on the segment.
    """

    start: int
    audio: list[Waveform]
    size: int
    next_chunk: int
    last_sound: int = 0
    n_sound: int = 0
    heard: int = 0
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    n_committed: int = 0
    committed: str = ""
    timings: Timings = field(default_factory=Timings)

    def waveform(self) -> Waveform:
        """Return the audio in one piece."""
        self.audio = [np.concatenate(self.audio)]
        return self.audio[0]


class IncrementalPolicy:
    """A `StreamPolicy` of bounded memory and bounded work per chunk."""

    def __init__(
        self,
        model: Model,
        prompter: Prompter,
        options: StreamOptions,
        detector: ActivityDetector | None = None,
    ) -> None:
        """Begin a stream; `split` of the prompter's options says what detects speech unless a detector is given."""
        self._options = options
        self._detector = detector or (EnergyDetector() if prompter.options.split == "energy" else VoiceDetector())
        self._chunk = round(options.chunk_s * SAMPLE_RATE)
        self._horizon = round(options.horizon_s * SAMPLE_RATE)
        n_text = prompter.limit(self._horizon)
        self._decoder = StreamDecoder(model, prompter, options.horizon_s + options.chunk_s, n_text)
        self._prompter = prompter
        self._reader = AnswerReader(prompter)
        self._joiner = TextJoiner()
        self._pending: Waveform = np.empty(0, dtype=np.float32)
        self._flags: deque[bool] = deque()
        self._lead: Waveform = np.empty(0, dtype=np.float32)
        self._position = 0
        self._segment: _Segment | None = None
        self._hurried = False

    def feed(self, samples: Waveform, *, hurried: bool = False) -> Iterator[StreamUpdate]:
        """Take in 16 kHz samples and yield an update per hypothesis and per finished segment."""
        self._hurried = hurried
        self._pending = np.concatenate([self._pending, samples])
        self._flags.extend(self._detector.push(samples).tolist())
        return self._listen()

    def finish(self) -> Iterator[StreamUpdate]:
        """Yield what the rest of the audio gives; the last update commits everything."""
        yield from self._listen()
        if self._segment is not None:
            self._append(self._segment, self._pending, is_sound=False)
            self._pending = self._pending[:0]
            if self._segment.n_sound >= LEAST_SOUND_FRAMES:
                yield self._close(self._segment, self._segment.size)
            self._segment = None

    def _listen(self) -> Iterator[StreamUpdate]:
        while self._flags:
            frame, self._pending = self._pending[:FRAME_SAMPLES], self._pending[FRAME_SAMPLES:]
            is_sound = self._flags.popleft() or not self._options.skip_silence
            if self._segment is None:
                self._wait(frame, is_sound=is_sound)
                continue
            self._append(self._segment, frame, is_sound=is_sound)
            yield from self._follow(self._segment)

    def _wait(self, frame: Waveform, *, is_sound: bool) -> None:
        """Pass over a frame between segments; open a segment if it may hold speech."""
        self._position += frame.size
        lead = np.concatenate([self._lead, frame])
        self._lead = lead[-LEAD_SAMPLES:]
        if is_sound:
            self._open(lead, lead.size, 1)
            self._lead = lead[:0]

    def _open(self, audio: Waveform, last_sound: int, n_sound: int, guess: Sequence[int] = ()) -> None:
        """Begin a segment with audio that ends where the stream stands now."""
        self._decoder.restart()
        start = self._position - audio.size
        next_chunk = (audio.size // self._chunk + 1) * self._chunk
        self._segment = _Segment(start, [audio], audio.size, next_chunk, last_sound, n_sound, ids=tuple(guess))

    def _append(self, segment: _Segment, block: Waveform, *, is_sound: bool) -> None:
        self._position += block.size
        segment.audio.append(block)
        segment.size += block.size
        if is_sound:
            segment.last_sound = segment.size
            segment.n_sound += 1

    def _follow(self, segment: _Segment) -> Iterator[StreamUpdate]:
        """Do what is due now that the segment has grown: end it, or form a hypothesis."""
        pause = segment.size - segment.last_sound
        if pause >= _pause_that_ends(segment.last_sound):
            cut = segment.last_sound + min(TRAIL_SAMPLES, pause // 2)
            if segment.n_sound >= LEAST_SOUND_FRAMES:
                yield self._close(segment, cut)
            self._lead = segment.waveform()[cut:][-LEAD_SAMPLES:].copy()
            self._segment = None
        elif segment.size >= self._horizon:
            yield from self._cut(segment)
        elif segment.size >= segment.next_chunk + LOOKAHEAD_SAMPLES:
            due, segment.next_chunk = segment.next_chunk, segment.next_chunk + self._chunk
            skipped = self._hurried and due < segment.heard + HURRIED_CHUNKS * self._chunk
            if segment.last_sound > segment.heard and segment.n_sound >= LEAST_SOUND_FRAMES and not skipped:
                yield self._hypothesize(segment, due + LOOKAHEAD_SAMPLES)

    def _cut(self, segment: _Segment) -> Iterator[StreamUpdate]:
        """End a segment without pauses where it is quietest; what follows the cut begins the next one."""
        audio = segment.waveform()
        radius = round((SEARCH_S - SEARCH_MARGIN_S) * SAMPLE_RATE / 2)
        cut = quietest_cut(audio, segment.size - radius, radius)
        before = segment.ids
        update = self._close(segment, cut)
        after_cut = before[_n_common(before, segment.ids) :]
        text = self._prompter.model.tokenizer.decode(after_cut).lstrip()
        guess = [*self._reader.header(before), *self._prompter.written(text)]
        self._open(audio[cut:].copy(), max(0, segment.last_sound - cut), LEAST_SOUND_FRAMES, guess)
        yield update

    def _hypothesize(self, segment: _Segment, n_samples: int) -> StreamUpdate:
        """Listen to the first `n_samples` of a segment and commit what has proved stable."""
        before, heard_before = segment.ids, segment.heard
        found = self._ask(segment, n_samples)
        n_stable = 0
        may_commit = 0 < heard_before <= self._horizon - SEARCH_S * SAMPLE_RATE and not self._is_leak(segment)
        if may_commit and found.end == "stop_token":
            n_stable = min(_n_common(before, segment.ids), len(segment.ids) - self._options.hold_back)
        segment.n_committed = max(segment.n_committed, self._reader.word_end(segment.ids, n_stable))
        language = self._reader.parse(segment.ids).language
        committed = self._commit(segment, self._reader.body(segment.ids[: segment.n_committed]), language)
        tentative = self._reader.body(segment.ids)[len(segment.committed) :]
        return StreamUpdate(committed, tentative, language, self._position / SAMPLE_RATE, timings=found.timings)

    def _close(self, segment: _Segment, n_samples: int) -> StreamUpdate:
        """Listen to the first `n_samples` of a segment for the last time and commit its whole text."""
        found = self._ask(segment, n_samples)
        leaked = not segment.n_committed and self._is_leak(segment)
        text = "" if leaked else self._reader.final_text(segment.ids, segment.n_committed)
        answer = ParsedOutput(self._reader.parse(segment.ids).language, text) if text else NO_SPEECH
        committed = self._commit(segment, text, answer.language)
        bounds_s = segment.start / SAMPLE_RATE, (segment.start + n_samples) / SAMPLE_RATE
        untagged = self._reader.lacks_tag(segment.ids) and not is_near_silent(segment.waveform()[:n_samples])
        finished = make_segment(
            bounds_s, answer, segment.ids, segment.logprobs, found.end, leaked=leaked, untagged=untagged
        )
        finished = replace(finished, timings=segment.timings)
        return StreamUpdate(committed, "", answer.language, self._position / SAMPLE_RATE, finished, found.timings)

    def _ask(self, segment: _Segment, n_samples: int) -> Hypothesis:
        """Replace the segment's hypothesis by one about its first `n_samples`."""
        n_fixed = segment.n_committed
        fixed, draft = segment.ids[:n_fixed], segment.ids[n_fixed:]
        limit = max(1, self._prompter.limit(n_samples) - n_fixed)
        found = self._decoder.listen(segment.waveform()[:n_samples], fixed, draft, limit, ends_in_loop)
        segment.ids, logprobs = found.token_ids, found.logprobs
        if found.end == "watch":
            segment.ids = (*fixed, *trim_loop(segment.ids[n_fixed:]))
            logprobs = logprobs[: len(segment.ids) - n_fixed]
        segment.logprobs = (*segment.logprobs[:n_fixed], *logprobs)
        segment.heard = n_samples
        segment.timings += found.timings
        return found

    def _is_leak(self, segment: _Segment) -> bool:
        """Return whether the hypothesis repeats the context on audio that is nearly silent."""
        text = self._reader.parse(segment.ids).text
        near_silent = is_near_silent(segment.waveform()[: segment.heard])
        return is_context_leak(text, self._prompter.options.context, near_silent=near_silent)

    def _commit(self, segment: _Segment, text: str, language: str) -> str:
        """Note the text committed so far; return what is new in it, with the space before it."""
        new = text[len(segment.committed) :]
        continues = bool(segment.committed)
        segment.committed = text
        return self._joiner.append(new, language, continues=continues)


def _pause_that_ends(n_samples: int) -> int:
    """Return how many quiet samples end a segment of so many."""
    pause_s = next(pause_s for from_s, pause_s in reversed(PAUSES) if n_samples >= from_s * SAMPLE_RATE)
    return round(pause_s * SAMPLE_RATE)


def _n_common(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading ids are equal."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
