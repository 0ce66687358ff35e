"""One input on its way: audio in, clips with their prompts out, one at a time, as they are asked for.

Audio is read block by block and only as far as the next clip needs, so that memory does not grow with its length.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.loading import AudioLimits, AudioSource, Excerpt, HeldAudio, hold_audio
from qwen3_asr_onnx.audio.sources import at_home
from qwen3_asr_onnx.audio.waiting import Abandoned
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra
from qwen3_asr_onnx.model.asking import BASE_TOKENS, Prompter
from qwen3_asr_onnx.results import Segment, StopReason, Timings
from qwen3_asr_onnx.speech.pauses import split_at_pauses
from qwen3_asr_onnx.speech.quiet import Clip, split_at_quiet
from qwen3_asr_onnx.speech.voice import SpeechDetector
from qwen3_asr_onnx.text.prompt import Prompt

from .identity import Identity, fingerprint
from .interrupt import Interrupt
from .journal import Journal, Place

__all__ = ["INPUT_ERRORS", "ClipRequest", "Input", "InputError", "Slot"]

USUAL_TOKENS_PER_SECOND = 6
"""What fast speech in English takes, the language of the clip named; used to guess how long a row of the cache gets."""

InputError: TypeAlias = AudioError | LimitError | MissingExtra | OSError
"""What can be wrong with one input; every other error concerns all of them."""

INPUT_ERRORS = (AudioError, LimitError, MissingExtra, OSError)

MOST_CHANNELS = 16
"""Most channels that are transcribed each by itself; a header may claim 65,535."""

NO_TIME = Timings()
DEFAULT_LIMITS = AudioLimits()


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one clip in its input.

    Attributes:
        segments: what became of it, in any order: one segment, or one per half if it was cut in two.
        pending: requests that are not done.
        first: what the model looped on, and what it wrote there, while the clip is heard again in two halves.
        keep: called with the segments when all of them are there.
    """

    segments: list[Segment] = field(default_factory=list)
    pending: int = 1
    first: tuple[ClipRequest, Segment] | None = None
    keep: Callable[[list[Segment]], object] | None = None

    def add(self, segment: Segment) -> None:
        """Take what became of one request."""
        self.segments.append(segment)
        self.pending -= 1
        if not self.pending and self.keep is not None and self.is_whole:
            self.keep(self.segments)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of what is there was ended from outside."""
        return all(segment.stop_reason not in ("cancelled", "time_limit") for segment in self.segments)


@dataclass(frozen=True, slots=True, eq=False)
class ClipRequest:
    """One clip with its prompt, on its way through the model.

    Attributes:
        prompter: makes the prompt, and knows what was asked for.
        slot: where the result goes.
        clip: the audio.
        prompt: token ids around it.
        limit: most tokens to generate.
        retried: this is half of a clip on which the model looped.
        spent: what the first attempt took.
    """

    prompter: Prompter
    slot: Slot
    clip: Clip
    prompt: Prompt
    limit: int
    retried: bool = False
    spent: Timings = NO_TIME

    @classmethod
    def of(
        cls, prompter: Prompter, clip: Clip, slot: Slot, *, retried: bool = False, spent: Timings = NO_TIME
    ) -> ClipRequest:
        """Return the request of a clip.

        Raises:
            LimitError: audio and context together exceed what the model can attend to.
        """
        prompt = prompter.prompt(prompter.n_audio_tokens(clip.samples.size))
        limit = min(prompter.limit(clip.samples.size), prompter.room(prompt))
        return cls(prompter, slot, clip, prompt, limit, retried, spent)

    @property
    def positions(self) -> int:
        """How many positions of the cache it will probably take."""
        usual = BASE_TOKENS + math.ceil(USUAL_TOKENS_PER_SECOND * self.clip.duration_s)
        return len(self.prompt.ids) + min(self.limit, usual)


class Input:
    """One input: read as far as requests are asked for.

    Attributes:
        slots: places of the clips that were read and not handed out, in order.
        is_read: whether the last clip was read.
        promised_s: length according to the container; None when it does not say or was not opened.
        duration_s: seconds of audio read so far, of each channel.
        start_s: where in the recording it begins.
        n_readings: how often it is read: once, or for every channel that is split.
        read_s: wall-clock seconds that reading and cutting took.
        error: what is wrong with the input; the clips before it are valid.
        ended_by: why the call ended before the input did.
        detector: finds speech for split="vad".
    """

    def __init__(
        self,
        audio: AudioSource,
        prompter: Prompter,
        detector: SpeechDetector | None = None,
        interrupt: Interrupt | None = None,
        limits: AudioLimits = DEFAULT_LIMITS,
        journal: Journal | None = None,
        identity: Identity | None = None,
    ) -> None:
        """Remember what to read.

        Args:
            audio: see `AudioSource`.
            prompter: makes the requests.
            detector: finds speech for split="vad", shared by inputs that are read one after the other.
            interrupt: ends the reading too: hours of silence give no clip, and nobody else would ask.
            limits: what audio is accepted.
            journal: has what an earlier run made of it, and gets what is made now.
            identity: of model and options, for the journal.
        """
        self._journal = journal
        self._identity = identity or {}
        self._limits = limits
        self._interrupt = interrupt
        self.slots: deque[Slot] = deque()
        self.is_read = False
        self.promised_s: float | None = None
        self.read_s = 0.0
        self.error: InputError | None = None
        self.ended_by: StopReason | None = None
        self.n_readings = 1
        self._n_samples = 0
        self._prompter = prompter
        self.detector = detector
        self._requests = self._read(audio)
        self._ahead: deque[ClipRequest] = deque()

    @property
    def duration_s(self) -> float:
        """Seconds of audio read so far."""
        return self._n_samples / SAMPLE_RATE

    @property
    def timed(self) -> bool:
        """Whether its words get times."""
        return self._prompter.options.timestamps == "word"

    @property
    def wants_detector(self) -> bool:
        """Whether speech is to be found in it."""
        return self._prompter.options.split == "vad"

    @property
    def start_s(self) -> float:
        """Seconds from the start of the recording to the part that is read."""
        return self._prompter.options.start_s

    def done_s(self, segment: Segment) -> float:
        """Return how many seconds of the input are finished with a segment and all before it."""
        earlier_s = self.duration_s * ((segment.channel or 1) - 1)
        return (earlier_s + segment.end_s - self.start_s) / self.n_readings

    def open(self) -> None:
        """Read the first clip now, so that what is wrong with the input is known before the model runs.

        Raises:
            AudioError, LimitError, MissingExtra, OSError: the input cannot be read.
        """
        request = self.next_request()
        if self.error is not None:
            raise self.error
        if request is not None:
            self._ahead.append(request)

    def next_request(self) -> ClipRequest | None:
        """Return the next clip's request; None when there is no more, or when reading failed (see `error`)."""
        if self._ahead:
            return self._ahead.popleft()
        started = time.perf_counter()
        try:
            request = next(self._requests, None)
        except INPUT_ERRORS as error:
            self.error, request = error, None
        except Abandoned:
            if self._interrupt is None or not self._interrupt():
                raise
            self.ended_by, request = self._interrupt.reason, None
        self.read_s += time.perf_counter() - started
        self.is_read = request is None
        return request

    def take_finished(self) -> Iterator[Segment]:
        """Yield, each once, the segments of the clips that are finished, as are all before them."""
        while self.slots and not self.slots[0].pending:
            yield from sorted(self.slots.popleft().segments, key=lambda segment: segment.start_s)

    @property
    def is_done(self) -> bool:
        """Whether it was read, and all its segments were taken."""
        return self.is_read and not self.slots

    def cut(self, reason: StopReason | None, timed: Callable[[ClipRequest, Segment], Segment]) -> None:
        """End it where it is, for a reason: what is unfinished stays as far as it got.

        Where a clip was being heard again, the first attempt is `timed` and kept unless the second got further.
        """
        unfinished = [slot for slot in tuple(self.slots) if slot.pending or not slot.is_whole]
        if unfinished or not self.is_read:
            self.ended_by = reason
        self.is_read = True
        for slot in unfinished:
            if slot.first is not None:
                request, segment = slot.first
                if len(segment.text) >= sum(len(half.text) for half in slot.segments):
                    slot.segments = [timed(request, segment)]
            slot.pending = 0

    def close(self) -> None:
        """Close the file. No request can be asked for afterwards."""
        self._requests.close()

    def _read(self, audio: AudioSource) -> Generator[ClipRequest, None, None]:
        if self._journal is not None:
            self._journal.begin({"input": _fingerprint_of(audio), **self._identity})
        with hold_audio(audio, self._limits) as held:
            for clip in self._clips(held):
                slot = Slot() if self._journal is None else self._recalled(clip, self._journal)
                if slot.pending:
                    request = ClipRequest.of(self._prompter, clip, slot)
                    self.slots.append(slot)
                    yield request
                else:
                    self.slots.append(slot)

    def _clips(self, held: HeldAudio) -> Iterator[Clip]:
        """Yield the pieces of the excerpt; of channels that are split, those of one after those of another.

        Each is read by itself, so that memory does not grow where one person listens for hours.
        """
        options = self._prompter.options
        for channel in self._channels(held):
            with held.read(Excerpt(options.start_s, options.end_s, options.track, channel)) as opened:
                self.promised_s = opened.duration_s
                blocks = self._counted(opened.blocks)
                if self.detector is None:
                    clips = split_at_quiet(blocks, options.max_segment_s)
                else:
                    self.detector.reset()
                    clips = split_at_pauses(blocks, self.detector, options.max_segment_s)
                for clip in clips:
                    start_sample = clip.start_sample + round(options.start_s * SAMPLE_RATE)
                    yield Clip(start_sample, clip.samples, channel if options.channels == "split" else None)
            if self.ended_by is not None:
                return

    def _channels(self, held: HeldAudio) -> Sequence[int | None]:
        """Return the channels to read one after the other; None stands for the mean of all."""
        options = self._prompter.options
        if options.channels == "mix":
            return [None]
        if options.channels != "split":
            return [{"left": 1, "right": 2}.get(str(options.channels)) or int(options.channels)]
        with held.read(Excerpt(track=options.track)) as opened:
            self.n_readings = opened.n_channels
        if self.n_readings > MOST_CHANNELS:
            raise AudioError(
                f"the recording has {self.n_readings} channels, and at most {MOST_CHANNELS} are split; mix or take one"
            )
        return range(1, self.n_readings + 1)

    def _recalled(self, clip: Clip, journal: Journal) -> Slot:
        """Return the place of a clip: filled, if an earlier run finished it."""
        place = Place.of(clip)
        segments = journal.recall(place)
        return Slot(keep=partial(self._keep, journal, place)) if segments is None else Slot(segments, pending=0)

    def _keep(self, journal: Journal, place: Place, segments: list[Segment]) -> None:
        """Keep a finished piece, unless it is all there is: then the result is about to be handed out."""
        if journal.is_on_disk or not self._is_over():
            journal.keep(place, segments)

    def _is_over(self) -> bool:
        """Return whether nothing is left to make; looks for the next clip to know."""
        if any(slot.pending for slot in self.slots):
            return False
        if not self.is_read and not self._ahead:
            request = self.next_request()
            if request is not None:
                self._ahead.append(request)
        return self.is_read

    def _counted(self, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
        n_samples = 0
        for block in blocks:
            if self._interrupt is not None and self._interrupt():
                self.ended_by = self._interrupt.reason
                return
            n_samples += block.size
            self._n_samples = max(self._n_samples, n_samples)
            yield block


def _fingerprint_of(audio: AudioSource) -> dict[str, Any] | None:
    """Return the fingerprint of audio that is a file on disk; None where only its samples can tell."""
    if not isinstance(audio, (str, Path)):
        return None
    try:
        path = at_home(Path(audio), str(audio))
        return fingerprint(path) if path.is_file() else None
    except (OSError, ValueError):  # a URL of any length; what is wrong with a file is told when it is opened
        return None
