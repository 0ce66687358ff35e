"""Live transcription: audio in as it comes, in blocks of any size; text out as soon as it is known.

A `Stream` holds everything that is remembered of one live input; the model holds nothing, so any number of streams
share one, each used by one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.blocks import channels_first, check_rate, in_frames, to_mono
from qwen3_asr_onnx.audio.resampling import Resampler, make_resampler
from qwen3_asr_onnx.errors import AudioError, OptionsError, StreamError
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.options import StreamOptions, TranscribeOptions

from .incremental import IncrementalPolicy
from .official import OfficialPolicy
from .policy import PolicyFactory
from .updates import StreamUpdate

__all__ = ["POLICIES", "Stream"]

POLICIES: MutableMapping[str, PolicyFactory] = {"incremental": IncrementalPolicy, "official": OfficialPolicy}
"""What `StreamOptions.policy` may name. A policy is a module beside this one and an entry here."""

_LARGEST_SAMPLE = 16.0
"""Float samples may exceed full scale a little; beyond 24 dB they are integers that nobody divided."""

_BLOCK_SAMPLES = 60 * SAMPLE_RATE
"""Gaps are filled with so much silence at a time: a minute at 16 kHz."""


class Stream:
    """One live input on its way to text. Made by `Transcriber.stream`.

    Behind the words that are committed already, a segment's text is what a recording of it would give, with one
    exception: what was heard in finished stretches of 8 s stays as it was heard, so sound 80 dB below a louder moment
    that came later was not cut off.

    stream = asr.stream()
    for block in microphone:
        for update in stream.feed(block, sample_rate=48_000):
            print(update.committed, end="")
    for update in stream.finish():
        print(update.committed)
    """

    def __init__(self, model: Model, options: TranscribeOptions, streaming: StreamOptions) -> None:
        """Begin a stream; nothing is computed yet.

        Args:
            model: shared with other streams.
            options: `language`, `context`, `max_new_tokens` (per segment) and `split` are used: "energy" tells speech
                from silence by loudness, "vad" by the model of the vad extra. The others concern recordings.
            streaming: how to run the stream.

        Raises:
            OptionsError: the policy or the language is unknown, word times are asked for, or a part of a recording.
            LimitError: the context leaves no room for audio.
            MissingExtra: split="vad" without the vad extra.
        """
        if options.timestamps != "none":
            raise OptionsError(
                'a stream gives no word times; transcribe the recording afterwards with timestamps="word"'
            )
        if (options.start_s, options.end_s, options.track, options.channels) != (0.0, None, None, "mix"):
            raise OptionsError(
                "start_s, end_s, track and channels choose from a recording; a stream is fed what to hear"
            )
        if streaming.policy not in POLICIES:
            raise OptionsError(f"policy is {streaming.policy!r}; give one of: {', '.join(POLICIES)}")
        self._policy = POLICIES[streaming.policy](model, Prompter.for_options(model, options), streaming)
        self._lock = threading.Lock()
        self._rate: int | None = None
        self._resampler: Resampler | None = None
        self._layout: tuple[bool, int] | None = None
        self._gap_s = 0.0
        self._n_fed = 0
        self._finished = False

    @property
    def fed_s(self) -> float:
        """Seconds of audio taken in so far, gaps included."""
        return self._gap_s + self._n_fed / (self._rate or SAMPLE_RATE)

    def feed(
        self,
        pcm: npt.NDArray[Any],
        sample_rate: int = SAMPLE_RATE,
        *,
        hurried: bool = False,
        transposed: bool | None = None,
    ) -> list[StreamUpdate]:
        """Take in audio and return what it made known: nothing most of the time, an update per chunk.

        Computes in the calling thread. Updates do not depend on how the audio is portioned. After an AudioError the
        stream is as it was before the call and may be fed on.

        Args:
            pcm: (n,), (n, channels) or (channels <= 8, n) samples: floats in [-1, 1], or integers of 8, 16 or 32 bits,
                divided by their full scale. Channels are averaged. May be empty.
            sample_rate: Hz; the same for all calls.
            hurried: more audio is waiting already: form fewer hypotheses to catch up. The text at the end of a segment
                is not affected. Incremental policy only.
            transposed: whether blocks of two axes are (channels, n). None goes by the first block whose shape tells
                (one axis of 8 or less and one of more); until then they are read as (n, channels).

        Raises:
            AudioError: not samples, not finite, out of range, or of another rate or order of axes than before.
            LimitError: official policy only: the stream has outgrown the model's positions.
            MissingExtra: the rate needs the audio extra.
            StreamError: the stream is finished, or another thread is using it.
        """
        with self._exclusively():
            self._refuse_if_finished("feed")
            rate = self._checked_rate(sample_rate)
            name = f"stream at {self.fed_s:.3f} s"
            samples = np.asarray(pcm)
            if transposed is None:
                transposed = self._order(samples, name)
            frames = in_frames(samples, name, transposed=transposed)
            block = to_mono(frames)
            _check_range(block, name, rate)
            updates = self._begin(rate) if self._rate is None else []
            if transposed is not None and frames.ndim == 2:
                self._layout = transposed, frames.shape[1]
            return updates + self._take(block, hurried=hurried)

    def gap(self, seconds: float) -> list[StreamUpdate]:
        """Note that audio was lost, as a device or network reports it: silence takes its place, so times stay true.

        Args:
            seconds: how much was lost.

        Raises:
            AudioError: the length is negative or not finite.
            StreamError: as `feed`.
        """
        if not (np.isfinite(seconds) and seconds >= 0):
            raise AudioError(f"a gap of {seconds} s; give a length of 0 s or more")
        with self._exclusively():
            self._refuse_if_finished("feed")
            if self._rate is None:  # at which rate the input comes is still to be said
                self._gap_s += seconds
                return []
            return self._fill(seconds)

    def finish(self) -> list[StreamUpdate]:
        """End the stream and return the updates for what was still held back; the last one commits everything.

        Raises:
            StreamError: the stream is finished already, or another thread is using it.
        """
        with self._exclusively():
            self._refuse_if_finished("finish")
            self._finished = True
            updates = self._begin(SAMPLE_RATE) if self._rate is None else []
            assert self._resampler is not None
            return [*updates, *self._policy.feed(self._resampler.finish()), *self._policy.finish()]

    def _begin(self, rate: int) -> list[StreamUpdate]:
        """Settle the rate, and make up for what was lost before the first block."""
        self._resampler = make_resampler(rate)
        self._rate = rate
        gap_s, self._gap_s = self._gap_s, 0.0
        return self._fill(gap_s)

    def _fill(self, seconds: float) -> list[StreamUpdate]:
        assert self._rate is not None
        left = round(seconds * self._rate)
        updates: list[StreamUpdate] = []
        while left:
            count = min(left, _BLOCK_SAMPLES)
            updates += self._take(np.zeros(count, dtype=np.float32))
            left -= count
        return updates

    def _take(self, block: Waveform, *, hurried: bool = False) -> list[StreamUpdate]:
        assert self._resampler is not None
        self._n_fed += block.size
        return list(self._policy.feed(self._resampler.push(block), hurried=hurried))

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise StreamError(
                "two threads use one stream at the same time; give each input a stream of its own (they share the "
                "model), or put a queue before this one"
            )
        try:
            yield
        finally:
            self._lock.release()

    def _refuse_if_finished(self, call: str) -> None:
        if self._finished:
            raise StreamError(f"{call} after finish: this stream has ended; begin another")

    def _order(self, samples: npt.NDArray[Any], name: str) -> bool | None:
        """Return whether a block has its channels first, as those before it had; None while none has told."""
        told = channels_first(samples)
        if self._layout is None or samples.ndim != 2:
            return told
        transposed, n_channels = self._layout
        if told not in (None, transposed) and samples.shape[0 if transposed else 1] != n_channels:
            before = f"({n_channels}, n)" if transposed else f"(n, {n_channels})"
            raise AudioError(f"{name}: a block of shape {samples.shape}, but those before were {before}")
        return transposed

    def _checked_rate(self, sample_rate: int) -> int:
        name = f"stream at {self.fed_s:.3f} s"
        rate = check_rate(sample_rate, name)
        if self._rate is not None and rate != self._rate:
            raise AudioError(
                f"{name}: a block at {rate} Hz, but the stream began at {self._rate} Hz; resample it, or finish this "
                "stream and begin another"
            )
        return rate


def _check_range(mono: Waveform, name: str, rate: int) -> None:
    if not np.isfinite(mono).all():
        at = int(np.argmin(np.isfinite(mono)))
        raise AudioError(
            f"{name}: the sample {at / rate:.3f} s into this block is not a finite number; nothing was taken in"
        )
    if mono.size and float(np.abs(mono).max()) > _LARGEST_SAMPLE:
        raise AudioError(
            f"{name}: float samples up to {float(np.abs(mono).max()):.0f}, but full scale is 1; give integers as "
            "integers, or divide them by 32768"
        )
