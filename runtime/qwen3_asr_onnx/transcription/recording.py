"""One input on its way: audio in, clips with their prompts out, one at a time, as they are asked for.

Audio is read block by block and only as far as the next clip needs, so that memory does not grow with its length.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.loading import AudioSource, open_audio
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra
from qwen3_asr_onnx.model.features import n_audio_tokens, n_frames
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Segment, StopReason, Timings
from qwen3_asr_onnx.speech.pauses import split_at_pauses
from qwen3_asr_onnx.speech.quiet import Clip, split_at_quiet
from qwen3_asr_onnx.speech.voice import SpeechDetector
from qwen3_asr_onnx.text.prompt import Prompt, build_prompt

from .interrupt import Interrupt

__all__ = ["INPUT_ERRORS", "Input", "InputError", "Job", "Prompter", "Slot"]

BASE_TOKENS, TOKENS_PER_SECOND = 64, 32
"""Default token limit. The densest scripts need some 20 tokens per second of fast speech; loops end here."""

USUAL_TOKENS_PER_SECOND = 6
"""What fast speech in English takes, the language of the clip named; used to guess how long a row of the cache gets."""

InputError: TypeAlias = AudioError | LimitError | MissingExtra | OSError
"""What can be wrong with one input; every other error concerns all of them."""

INPUT_ERRORS = (AudioError, LimitError, MissingExtra, OSError)

NO_TIME = Timings()


@dataclass(slots=True, eq=False)
class Slot:
    """The place of one clip in its input.

    Attributes:
        segments: what became of it, in any order: one segment, or one per half if it was cut in two.
        pending: jobs that are not done.
    """

    segments: list[Segment] = field(default_factory=list)
    pending: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One clip with its prompt, on its way through the model.

    Attributes:
        slot: where the result goes.
        clip: the audio.
        prompt: token ids around it.
        limit: most tokens to generate.
        retried: this is half of a clip on which the model looped.
        spent: what the first attempt took.
    """

    slot: Slot
    clip: Clip
    prompt: Prompt
    limit: int
    retried: bool = False
    spent: Timings = NO_TIME

    @property
    def positions(self) -> int:
        """How many positions of the cache it will probably take."""
        usual = BASE_TOKENS + math.ceil(USUAL_TOKENS_PER_SECOND * self.clip.duration_s)
        return len(self.prompt.ids) + min(self.limit, usual)


@dataclass(frozen=True, slots=True)
class Prompter:
    """Makes jobs of clips.

    Attributes:
        model: whose template and tokenizer to use.
        options: context and token limit.
        language: the forced language as the model spells it.
    """

    model: Model
    options: TranscribeOptions
    language: str | None

    def job(self, clip: Clip, slot: Slot, *, retried: bool = False, spent: Timings = NO_TIME) -> Job:
        """Return the job of a clip.

        Raises:
            LimitError: audio and context together exceed what the model can attend to.
        """
        manifest = self.model.manifest
        n_audio = n_audio_tokens(n_frames(clip.samples.size, manifest.mel))
        template, forced = manifest.prompt.template, manifest.prompt.forced
        prompt = build_prompt(self.model.tokenizer, template, n_audio, self.options.context, self.language, forced)
        room = manifest.decoder.max_positions - len(prompt.ids)
        if room < 1:
            raise LimitError(
                f"{n_audio} audio tokens and {len(prompt.ids) - n_audio} tokens of prompt and context exceed the "
                f"model's {manifest.decoder.max_positions} positions; shorten the context or lower max_segment_s"
            )
        limit = self.options.max_new_tokens
        if limit is None:
            limit = BASE_TOKENS + math.ceil(TOKENS_PER_SECOND * clip.duration_s)
        return Job(slot, clip, prompt, min(limit, room), retried, spent)


class Input:
    """One input: read as far as jobs are asked for.

    Attributes:
        slots: places of the clips that were read and not handed out, in order.
        is_read: whether the last clip was read.
        promised_s: length according to the container; None when it does not say or was not opened.
        duration_s: seconds of audio read so far.
        read_s: wall-clock seconds that reading and cutting took.
        error: what is wrong with the input; the clips before it are valid.
        ended_by: why the call ended before the input did.
    """

    def __init__(
        self,
        audio: AudioSource,
        prompter: Prompter,
        detector: SpeechDetector | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Remember what to read.

        Args:
            audio: see `AudioSource`.
            prompter: makes the jobs.
            detector: finds speech for split="vad", shared by inputs that are read one after the other.
            interrupt: ends the reading too: hours of silence give no clip, and nobody else would ask.
        """
        self._interrupt = interrupt
        self.slots: deque[Slot] = deque()
        self.is_read = False
        self.promised_s: float | None = None
        self.read_s = 0.0
        self.error: InputError | None = None
        self.ended_by: StopReason | None = None
        self._n_samples = 0
        self._prompter = prompter
        self._detector = detector
        self._jobs = self._read(audio)
        self._ahead: deque[Job] = deque()

    @property
    def duration_s(self) -> float:
        """Seconds of audio read so far."""
        return self._n_samples / SAMPLE_RATE

    def open(self) -> None:
        """Read the first clip now, so that what is wrong with the input is known before the model runs.

        Raises:
            AudioError, LimitError, MissingExtra, OSError: the input cannot be read.
        """
        job = self.next_job()
        if self.error is not None:
            raise self.error
        if job is not None:
            self._ahead.append(job)

    def next_job(self) -> Job | None:
        """Return the next clip's job; None when there is no more, or when reading failed (see `error`)."""
        if self._ahead:
            return self._ahead.popleft()
        started = time.perf_counter()
        try:
            job = next(self._jobs, None)
        except INPUT_ERRORS as error:
            self.error, job = error, None
        self.read_s += time.perf_counter() - started
        self.is_read = job is None
        return job

    def close(self) -> None:
        """Close the file. No job can be asked for afterwards."""
        self._jobs.close()

    def _read(self, audio: AudioSource) -> Generator[Job, None, None]:
        options = self._prompter.options
        with open_audio(audio) as opened:
            self.promised_s = opened.duration_s
            blocks = self._counted(opened.blocks)
            if self._detector is None:
                clips = split_at_quiet(blocks, options.max_segment_s)
            else:
                clips = split_at_pauses(blocks, self._detector, options.max_segment_s)
            for clip in clips:
                slot = Slot()
                job = self._prompter.job(clip, slot)
                self.slots.append(slot)
                yield job

    def _counted(self, blocks: Iterator[Waveform]) -> Iterator[Waveform]:
        for block in blocks:
            if self._interrupt is not None and self._interrupt():
                self.ended_by = self._interrupt.reason
                return
            self._n_samples += block.size
            yield block
