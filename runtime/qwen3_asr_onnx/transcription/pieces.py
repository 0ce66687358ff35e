"""What a piece goes through, whoever schedules it: heard, put into a batch, its answer read, its words timed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.arrays import AudioFeatures, Mel
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.model.asking import Prompter, hear
from qwen3_asr_onnx.model.batch import Batch, Generated, Watch
from qwen3_asr_onnx.model.choosing import Chooser, greedy
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.features import log_mel
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.model.memory import affordable_bytes, most_rows
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.outputs.phrases import estimate_phrases
from qwen3_asr_onnx.results import Partial, Segment, StopReason, Timings
from qwen3_asr_onnx.speech.activity import is_near_silent
from qwen3_asr_onnx.speech.quiet import halve_at_quiet
from qwen3_asr_onnx.text.answer import REPLACEMENT, lacks_tag, language_probability, make_segment, read_answer
from qwen3_asr_onnx.text.loops import ends_in_loop, is_context_leak, trim_loop

from .recording import ClipRequest

__all__ = ["DEFAULT_SETTINGS", "Draft", "Pieces", "RunSettings", "halves", "is_loop", "prompter_for"]

LOG = logging.getLogger(__name__)

SHORTEST_RETRY_S = 2.0
"""A clip this short is not cut in two when the model loops on it."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a pipeline decodes.

    Attributes:
        eos: ids that end a row instead of the model's own; an empty sequence always fills the token limit.
        watch: ends rows that loop; None lets them run to their limit.
        choose: decides on every token.
        first_alone: decode the first piece before others join it: somebody waits for its text. It costs what a batch of
            one costs.
    """

    eos: Sequence[int] | None = None
    watch: Watch | None = ends_in_loop
    choose: Chooser = greedy
    first_alone: bool = False


DEFAULT_SETTINGS = RunSettings()


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What an unfinished piece says so far; made readable only if somebody reads it.

    Attributes:
        request: of the piece.
        ids: what the model wrote.
    """

    request: ClipRequest
    ids: Sequence[int]

    def partial(self) -> Partial:
        """Return it in words."""
        prompter = self.request.prompter
        raw = prompter.model.tokenizer.decode(list(self.ids)).strip().rstrip(REPLACEMENT)
        answer = read_answer(raw, prompter.language, prompter.tag)
        return Partial(self.request.clip.start_s, answer.text, raw)


class Pieces:
    """What a model makes of pieces. Holds no state between calls."""

    def __init__(self, model: Model, aligner: Aligner | None, settings: RunSettings = DEFAULT_SETTINGS) -> None:
        self.model = model
        self.settings = settings
        self._aligner = aligner

    def batch(self, batch_size: int | None) -> Batch[ClipRequest]:
        """Return an empty batch of the size asked for, or of what the memory allows."""
        decoder, max_positions = self.model.decoder, None
        if batch_size is None:
            max_positions = affordable_bytes() // KvCache.position_bytes(decoder.dims)
        rows = decoder.max_rows or batch_size or most_rows(in_integers=decoder.judge_steps_from > 0)
        LOG.debug("a batch of %d rows at most, %s positions", rows, "any" if max_positions is None else max_positions)
        eos, choose = self.settings.eos, self.settings.choose
        return Batch(decoder, KvCache(decoder.dims, rows, 0), max_positions=max_positions, eos=eos, choose=choose)

    def add(self, batch: Batch[ClipRequest], request: ClipRequest) -> None:
        """Hear a clip and read its prompt, all at once."""
        (features,), spent = hear(self.model, [request.clip.samples])
        request = replace(request, spent=request.spent + spent)
        embedded, shared = self._asked(request, features)
        denial = request.prompter.denial
        batch.add(request, embedded, request.limit, self.settings.watch, shared=shared, denial=denial)

    def add_in_turns(
        self, batch: Batch[ClipRequest], request: ClipRequest, mel: Mel | None, watch: Watch, most: int | None
    ) -> Iterator[None]:
        """Do the same bit by bit; others may have the model in between.

        Args:
            batch: nothing else joins it meanwhile.
            request: of the piece.
            mel: of its samples, if it was made already.
            watch: as for `Batch.add`.
            most: positions of the prompt to read at each turn, about; None for all.

        Yields:
            Behind every bit but the last.
        """
        started = time.perf_counter()
        mel = log_mel(request.clip.samples, self.model.manifest.mel) if mel is None else mel
        made = time.perf_counter()
        encoding, encoder_s = self.model.encoder.encode_in_turns(mel), 0.0
        while True:
            begun = time.perf_counter()
            try:
                next(encoding)
            except StopIteration as end:
                features = end.value
                break
            finally:
                encoder_s += time.perf_counter() - begun
            yield
        spent = Timings(mel_s=made - started, encoder_s=encoder_s)
        request = replace(request, spent=request.spent + spent)
        embedded, shared = self._asked(request, features)
        batch.join(request, embedded, request.limit, watch, shared=shared, denial=request.prompter.denial)
        try:
            while not batch.read_on(most):
                yield
        finally:
            batch.leave()

    def _asked(self, request: ClipRequest, features: AudioFeatures) -> tuple[Embedded, tuple[int, ...]]:
        """Return the embedded prompt, and the ids at its start that others may begin with too."""
        prompt = request.prompt
        embedded = self.model.embeddings.splice(prompt.ids, features, prompt.audio_start)
        return embedded, tuple(prompt.ids[: prompt.audio_start].tolist())

    def answer(self, request: ClipRequest, result: Generated, interrupted: StopReason | None = None) -> Segment:
        """Return the segment of a finished row, its words without times; `interrupted` is why it was ended, if so."""
        prompter, clip, tokenizer = request.prompter, request.clip, self.model.tokenizer
        ids, logprobs = result.token_ids, result.logprobs
        raw = tokenizer.decode(trim_loop(ids) if result.end == "watch" else ids).strip()
        if result.end != "stop_token":
            raw = raw.rstrip(REPLACEMENT)  # the first bytes of a character whose last ones were not written
        answer = read_answer(raw, prompter.language, prompter.tag)
        near_silent = is_near_silent(clip.samples)
        segment = make_segment(
            (clip.start_s, clip.end_s),
            answer,
            ids,
            logprobs,
            result.end,
            raw=raw,
            leaked=is_context_leak(answer.text, prompter.options.context, near_silent=near_silent),
            untagged=not near_silent and lacks_tag(raw, prompter.language, prompter.tag),
            interrupted=interrupted,
        )
        named = language_probability(tokenizer, ids, logprobs, prompter.tag) if prompter.language is None else None
        spent = Timings(prefill_s=result.prefill_s, decode_s=result.decode_s, n_tokens=len(result.token_ids))
        return replace(
            segment,
            language_probability=named,
            retried=request.retried,
            timings=request.spent + spent,
            channel=clip.channel,
        )

    def timed(self, request: ClipRequest, segment: Segment) -> Segment:
        """Return the segment with the times of its words, where they were asked for, else with an estimate."""
        if request.prompter.options.timestamps != "word":
            return replace(segment, phrases=estimate_phrases(request.clip.samples, segment.text, segment.start_s))
        assert self._aligner is not None, "prompter_for checks the options"
        started = time.perf_counter()
        words = self._aligner.align_waveform(request.clip.samples, segment.text, segment.language, request.clip.start_s)
        timings = segment.timings + Timings(align_s=time.perf_counter() - started)
        return replace(segment, words=words, timings=timings)


def is_loop(request: ClipRequest, result: Generated) -> bool:
    """Return whether a finished row is a loop that is worth another try, in two halves."""
    return result.end == "watch" and not request.retried and request.clip.duration_s >= SHORTEST_RETRY_S


def halves(request: ClipRequest, spent: Timings) -> list[ClipRequest]:
    """Return the requests of the two halves of a piece on which the model looped; `spent` is what it took so far."""
    LOG.debug("a loop in the piece at %.1f s: heard again in two halves", request.clip.start_s)
    first, second = halve_at_quiet(request.clip)
    made = [
        ClipRequest.of(request.prompter, first, request.slot, retried=True, spent=spent),
        ClipRequest.of(request.prompter, second, request.slot, retried=True),
    ]
    request.slot.pending += 1
    return made


def prompter_for(model: Model, aligner: Aligner | None, options: TranscribeOptions) -> Prompter:
    """Return what builds the prompts; check the options that depend on the bundle.

    Raises:
        OptionsError: the language is unknown, or word times are asked for and there is no aligner.
    """
    if options.timestamps == "word" and aligner is None:
        raise OptionsError(
            "word times need a forced aligner: Transcriber(..., aligner=Aligner()) takes the default one, "
            "Aligner(NAME) or Aligner(DIR) another"
        )
    return Prompter.for_options(model, options)
