"""The streaming state of the official package, driven by the stream policy that repeats its state machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.errors import AudioError, OptionsError
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.options import StreamOptions, TranscribeOptions
from qwen3_asr_onnx.stream.official import ModelWriter, OfficialPolicy, Writer, Written
from qwen3_asr_onnx.stream.updates import StreamUpdate
from qwen3_asr_onnx.text.prompt import AUDIO_TOKEN
from qwen3_asr_onnx.transcriber import Transcriber

__all__ = ["ASRStreamingState", "begin", "feed", "finish"]

_INT16_SCALE = 32768.0


@dataclass
class ASRStreamingState:
    """One stream: read `language` and `text` after each step. The fields are those of the official package.

    Attributes:
        unfixed_chunk_num: how many first chunks start without the text so far.
        unfixed_token_num: how many tokens of the text so far are written anew each time.
        chunk_size_sec: seconds per step.
        chunk_size_samples: samples per step.
        chunk_id: steps done.
        buffer: samples that do not make a chunk yet.
        audio_accum: samples heard so far.
        prompt_raw: the prompt as text, one placeholder for the audio.
        context: background text.
        force_language: the language in the prompt, if any.
        language: language of the text so far; "" while none is known.
        text: the text so far; each step may change its end.
    """

    unfixed_chunk_num: int
    unfixed_token_num: int
    chunk_size_sec: float
    chunk_size_samples: int
    chunk_id: int
    buffer: Waveform
    audio_accum: Waveform
    prompt_raw: str
    context: str
    force_language: str | None
    language: str
    text: str
    _raw_decoded: str
    _policy: OfficialPolicy | None = field(default=None, repr=False, compare=False)

    def heard(self, audio: Waveform, raw: str) -> None:
        """Note one step: all audio so far, and all that the model wrote for it."""
        self.chunk_id += 1
        self.audio_accum = audio
        self._raw_decoded = raw

    @property
    def policy(self) -> OfficialPolicy:
        """The state machine behind this state.

        Raises:
            OptionsError: the state was not made by `init_streaming_state`.
        """
        if self._policy is None:
            raise OptionsError("this state was not made by init_streaming_state(); make one for each stream")
        return self._policy


class _NotingWriter:
    """Notes in the state what the model heard and wrote."""

    def __init__(self, writer: Writer, state: ASRStreamingState) -> None:
        self._writer = writer
        self._state = state

    def write(self, audio: Waveform, prefix: str) -> Written:
        written = self._writer.write(audio, prefix)
        self._state.heard(audio, prefix + written.text)
        return written


def begin(
    model: Transcriber,
    context: str,
    language: str | None,
    unfixed_chunk_num: int,
    unfixed_token_num: int,
    chunk_size_sec: float,
    max_new_tokens: int | None,
) -> ASRStreamingState:
    """Return the state of a stream that has heard nothing yet.

    Raises:
        OptionsError: a number is out of range.
    """
    if chunk_size_sec is None or not float(chunk_size_sec) > 0:
        raise OptionsError(f"chunk_size_sec must be > 0, got: {chunk_size_sec}")
    options = StreamOptions(
        policy="official",
        chunk_s=float(chunk_size_sec),
        unfixed_chunks=int(unfixed_chunk_num),
        unfixed_tokens=int(unfixed_token_num),
    )
    loaded = model._loaded  # as Transcriber.stream does; the official fields show what a `Stream` keeps to itself
    prompter = Prompter(loaded, TranscribeOptions(context=context, max_new_tokens=max_new_tokens), language)
    state = ASRStreamingState(
        unfixed_chunk_num=options.unfixed_chunks,
        unfixed_token_num=options.unfixed_tokens,
        chunk_size_sec=options.chunk_s,
        chunk_size_samples=max(1, round(options.chunk_s * SAMPLE_RATE)),
        chunk_id=0,
        buffer=np.zeros(0, dtype=np.float32),
        audio_accum=np.zeros(0, dtype=np.float32),
        prompt_raw=_prompt_text(model, context, language),
        context=context,
        force_language=language,
        language="",
        text="",
        _raw_decoded="",
    )
    writer = _NotingWriter(ModelWriter(loaded, prompter), state)
    state._policy = OfficialPolicy(loaded, prompter, options, writer)
    return state


def feed(state: ASRStreamingState, pcm: npt.NDArray[Any]) -> ASRStreamingState:
    """Take in 16 kHz samples and bring the state up to date after every full chunk; return the same state.

    Raises:
        AudioError: a sample is not a finite number; nothing was taken in.
    """
    samples = np.asarray(pcm).reshape(-1)
    scale = _INT16_SCALE if samples.dtype == np.int16 else 1.0
    block: Waveform = samples.astype(np.float32) / np.float32(scale)
    if not np.isfinite(block).all():
        raise AudioError("pcm16k holds samples that are not finite numbers; nothing was taken in")
    waiting = np.concatenate([state.buffer, block])
    n_heard = state.audio_accum.size
    try:
        for update in state.policy.feed(block):
            _show(state, update)
    finally:  # also after an error or Ctrl-C in a later chunk
        state.buffer = waiting[state.audio_accum.size - n_heard :]
    return state


def finish(state: ASRStreamingState) -> ASRStreamingState:
    """Hear what is left in the buffer, if anything, and return the same state."""
    if state.buffer.size:
        state.buffer = np.zeros(0, dtype=np.float32)
        for update in state.policy.finish():
            _show(state, update)
    return state


def _show(state: ASRStreamingState, update: StreamUpdate) -> None:
    state.language = update.language
    state.text = update.committed + update.tentative


def _prompt_text(model: Transcriber, context: str, language: str | None) -> str:
    pieces = model.manifest.prompt
    forced = "" if language is None else pieces.forced.replace("{language}", language)
    text = pieces.template.replace("{forced}", forced).replace("{audio}", AUDIO_TOKEN)
    return text.replace("{context}", context)
