"""One growing stretch of audio in, what the model would write for it out, without doing finished work again.

The prompt is: system turn, audio, end of the user turn, text. Attention is causal and the encoder never looks beyond a
window of 8 s, so the decoder's cache of the system turn and of finished windows stays valid as audio arrives. Only the
unfinished window and what stands behind it are read again. The text of last time is a draft: one pass over all of its
tokens gives the choice of the model at each, and writing goes on from the first that differs (speculative decoding with
the model's own last answer as the draft; Leviathan et al. 2023).

What comes out is what greedy decoding from scratch would write of the same features. Those of a finished window are as
of the time it was finished, and that is all a recording can differ in: the front end cuts off what lies 80 dB below
the loudest moment, so where a later moment is louder, a recording cuts off more of the quiet window before. Windows are
not read anew for it: that would cost a prompt each time somebody raises their voice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.choosing import greedy
from qwen3_asr_onnx.model.decoder import SHORTEST_CHUNK
from qwen3_asr_onnx.model.features import n_audio_tokens
from qwen3_asr_onnx.model.judging import judge
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.model.rows import Watch
from qwen3_asr_onnx.model.writing import continue_greedy
from qwen3_asr_onnx.results import End, Timings

from .policy import WAY_OUT

__all__ = ["LOOKAHEAD_SAMPLES", "Hypothesis", "StreamDecoder"]

LOOKAHEAD_SAMPLES = 40
"""The last mel frame of a window reaches this far past its end (a frame is 400 samples wide and 160 apart). With so
much audio more, no frame is mirrored at the edge, and a window's features are what they would be in a recording."""

MAX_DRAFT = SHORTEST_CHUNK - 1
"""Tokens checked in one pass: the output layer, the largest of all, runs for each."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the model writes for the audio so far.

    Attributes:
        token_ids: all ids of the answer, the fixed ones included, the stop token excluded.
        logprobs: natural-log probability of each id that is not fixed, and of the stop token if there was one.
        end: why the model stopped writing.
        n_checked: how many ids of the draft held.
        timings: seconds spent.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    end: End
    n_checked: int
    timings: Timings


class StreamDecoder:
    """Asks the model again and again about one stretch of audio, then about the next, on one cache."""

    def __init__(self, model: Model, prompter: Prompter, longest_s: float, n_text: int) -> None:
        """Prepare the cache; nothing is computed yet.

        Args:
            model: shared with other streams.
            prompter: gives the prompt around the audio.
            longest_s: longest stretch of audio that will be asked about.
            n_text: most tokens of text for it.

        Raises:
            LimitError: context and audio exceed the model's positions.
        """
        manifest = model.manifest
        self._model = model
        self._window_frames = manifest.encoder.window_frames
        self._window_samples = self._window_frames * manifest.mel.hop_length
        block_frames = manifest.encoder.block_frames
        self._window_tokens = n_audio_tokens(self._window_frames, block_frames)
        n_frames = int(longest_s * manifest.mel.sample_rate) // manifest.mel.hop_length + 1
        longest = n_audio_tokens(n_frames, block_frames)
        prompt = prompter.prompt(longest)
        after_audio = prompt.audio_start + prompt.n_audio_tokens
        self._head = prompt.ids[: prompt.audio_start]
        self._tail: Rows = model.embeddings.rows(prompt.ids[after_audio:])
        room = prompter.room(prompt, WAY_OUT)
        self._denial = prompter.denial
        self._cache = KvCache(manifest.decoder, 1, len(prompt.ids) + min(n_text, room))
        self._head_is_read = False
        self._n_windows = 0

    def restart(self) -> None:
        """Begin a new stretch of audio; the system turn stays read."""
        self._n_windows = 0

    def listen(
        self, audio: Waveform, fixed: Sequence[int], draft: Sequence[int], limit: int, watch: Watch | None = None
    ) -> Hypothesis:
        """Return what the model writes for the stretch so far.

        Args:
            audio: (n_samples,) float32, 16 kHz: the whole stretch from its start, longer or shorter than last time.
                Finished windows that were heard before are taken as unchanged, and as they were heard then: with the
                floor below the loudest moment so far.
            fixed: ids the answer begins with, whatever the model would choose.
            draft: ids that probably follow them; affects the speed, never the result.
            limit: most ids to write behind `fixed`, at least 1.
            watch: sees the ids behind `fixed` after each new one; True stops the writing.
        """
        n_windows = max(0, audio.size - LOOKAHEAD_SAMPLES) // self._window_samples
        n_kept = min(self._n_windows, n_windows)
        (features,), heard = hear(self._model, [audio], n_kept * self._window_frames)
        clock = time.perf_counter()
        past = self._read_head() + n_kept * self._window_tokens
        rest = np.concatenate([features, self._tail, self._rows(fixed)])
        # Behind words that are committed, nobody doubts any more that somebody speaks.
        denial = None if fixed else self._denial
        back = 0 if denial is None else denial.back
        draft = draft[: min(MAX_DRAFT - back, limit - 1)]
        logits = self._read(past, rest, draft, back)
        self._n_windows = n_windows
        prefilled = time.perf_counter()
        if denial is not None and denial.holds(logits[0]):
            return Hypothesis((), (), "stop_token", 0, heard + Timings(prefill_s=prefilled - clock))
        graph = self._model.decoder.init.path
        kept, logprobs = judge(greedy, logits[-1 - len(draft) :], draft, (), graph)
        n_checked = len(kept) - 1
        written, more, end = self._go_on(past + len(rest) + n_checked, kept, limit, watch)
        decode_s = time.perf_counter() - prefilled
        spent = Timings(prefill_s=prefilled - clock, decode_s=decode_s, n_tokens=len(written) - n_checked)
        return Hypothesis((*fixed, *written), (*logprobs, *more), end, n_checked, heard + spent)

    def _read_head(self) -> int:
        """Put the system turn into the cache if it is not there; return its length."""
        if not self._head_is_read:
            self._model.decoder.extend(self._cache, 0, self._model.embeddings.rows(self._head))
            self._head_is_read = True
        return len(self._head)

    def _read(self, past: int, rest: Rows, draft: Sequence[int], back: int) -> Rows:
        """Read the prompt's rest and a draft; return the logits that judge them.

        They are those of `back` positions before the prompt's last one, if that is not 0, and of all that follow: of
        the prompt's last position and of each token of the draft. The draft goes through the graph that decides on what
        is written: where that is the prefill graph, or the only one, one pass does both.
        """
        decoder = self._model.decoder
        needed = past + len(rest) + len(draft)
        if needed > self._cache.capacity:
            self._cache.grow(1, past, needed)
        if decoder.init is decoder.step or decoder.verified or not draft:
            both = np.concatenate([rest, self._rows(draft)])
            return decoder.extend(self._cache, 0, both, past, n_logits=back + 1 + len(draft))
        first = decoder.extend(self._cache, 0, rest, past, n_logits=back + 1)
        others = decoder.extend(self._cache, 0, self._rows(draft), past + len(rest), n_logits=len(draft), step=True)
        return np.concatenate([first, others])

    def _go_on(
        self, length: int, ids: list[int], limit: int, watch: Watch | None
    ) -> tuple[list[int], tuple[float, ...], End]:
        """Write on behind checked ids, of which all but the last are among the cache's first `length` positions."""
        decoder = self._model.decoder
        if ids[-1] in decoder.eos:
            return ids[:-1], (), "stop_token"
        if watch is not None and watch(ids):
            return ids, (), "watch"
        room = min(limit - len(ids), self._model.manifest.decoder.max_positions - length - 1)
        if room < 1:
            return ids, (), "limit"

        def watch_all(new: Sequence[int]) -> bool:
            return watch is not None and watch([*ids, *new])

        more = continue_greedy(decoder, self._cache, length, ids[-1], room, watch=watch_all)
        return [*ids, *more.token_ids], more.logprobs, more.end

    def _rows(self, ids: Sequence[int]) -> Rows:
        return self._model.embeddings.rows(np.array(ids, dtype=np.int64))
