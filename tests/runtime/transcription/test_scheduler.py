"""Long and many inputs through the checked-in bundle: order, loops, limits, cancelling, bad inputs, memory."""

from __future__ import annotations

import contextlib
import io
import threading
import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import AudioError, LimitError, TranscribeOptions, Transcriber, Transcript
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.loading import Excerpt, OpenAudio, hold_audio
from qwen3_asr_onnx.audio.waiting import Abandoned
from qwen3_asr_onnx.model import batch, memory
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.batch import Batch, Generated
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.embeddings import Embedded
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.results import Segment
from qwen3_asr_onnx.transcription import pieces, recording
from qwen3_asr_onnx.transcription.interrupt import Interrupt
from qwen3_asr_onnx.transcription.recording import ClipRequest, Input
from qwen3_asr_onnx.transcription.scheduler import Pipeline, RunSettings

RATE = 16_000
FOUR_TOKENS = TranscribeOptions(max_new_tokens=4, max_segment_s=3.0)


def silence(seconds: float) -> Waveform:
    return np.zeros(int(seconds * RATE), dtype=np.float32)


@contextlib.contextmanager
def held(blocks: Callable[[], Iterator[Waveform]]) -> Iterator[Any]:
    """Stand for audio that is open, as `hold_audio` gives it."""

    class Held:
        @contextlib.contextmanager
        def read(self, excerpt: Excerpt) -> Iterator[OpenAudio]:
            yield OpenAudio(None, blocks(), 1)

    yield Held()


def run(asr: Transcriber, audio: Any, options: TranscribeOptions, **settings: Any) -> list[Segment]:
    prompter = Prompter(asr, options)
    work = Pipeline(asr._loaded, prompter.options.batch_size, Interrupt(), RunSettings(**settings))
    return [segment for _, segment in work.run(iter([Input(audio, prompter, None)])) if segment is not None]


# --- batches ---


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
def test_pieces_of_many_inputs_mix_and_come_out_in_order(asr: Transcriber, batch_size: int | None) -> None:
    clips = [synthetic_clip(seconds) for seconds in (0.1, 5.0, 1.0, 11.0, 2.5)]
    options = TranscribeOptions(max_new_tokens=6, max_segment_s=3.0, batch_size=batch_size)
    alone = TranscribeOptions(max_new_tokens=6, max_segment_s=3.0, batch_size=1)
    together = list(asr.transcribe_many(clips, options))
    for clip, transcript in zip(clips, together, strict=True):
        expected = asr.transcribe(clip, alone)
        assert transcript.token_ids == expected.token_ids
        assert [(s.start_s, s.end_s) for s in transcript.segments] == [(s.start_s, s.end_s) for s in expected.segments]


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_a_long_context_is_read_once_for_all_pieces(
    asr: Transcriber, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [synthetic_clip(seconds) for seconds in (5.0, 1.0, 2.5)]
    options = TranscribeOptions(
        context="Anna Meyer, Berlin, Zürich " * 12, max_new_tokens=6, max_segment_s=3.0, batch_size=batch_size
    )
    with monkeypatch.context() as patch:
        patch.setattr(batch, "SHARED_FROM", 10**9)
        expected = [one.token_ids for one in asr.transcribe_many(clips, options)]
    read: list[int] = []
    extend = Decoder.extend

    def counted(self: Decoder, cache: KvCache, row: int, embedded: Embedded, past: int = 0, **options: Any) -> Any:
        read.append(past)
        return extend(self, cache, row, embedded, past, **options)

    monkeypatch.setattr(Decoder, "extend", counted)
    assert [one.token_ids for one in asr.transcribe_many(clips, options)] == expected
    assert len(read) == 4
    assert read[0] == 0
    assert min(read[1:]) == max(read[1:]) > batch.SHARED_FROM


def watch_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that fills with the number of rows after each prompt that joins."""
    rows: list[int] = []
    add = Batch.add

    def watched(self: Batch[Any], *args: Any, **kwargs: Any) -> None:
        add(self, *args, **kwargs)
        rows.append(self.n_active)

    monkeypatch.setattr(Batch, "add", watched)
    return rows


def test_a_row_that_leaves_is_replaced(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = watch_rows(monkeypatch)
    clips = [synthetic_clip(seconds) for seconds in (0.1, 5.0, 1.0, 2.5)]
    list(asr.transcribe_many(clips * 2, TranscribeOptions(max_new_tokens=24, batch_size=3)))
    assert rows[:3] == [1, 2, 3]
    assert len(rows) == 2 * len(clips)
    assert rows[3:].count(3) >= len(rows) - 5


def test_who_waits_for_text_gets_the_first_piece_alone(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = watch_rows(monkeypatch)
    clips = [synthetic_clip(11.0), synthetic_clip(1.0)]
    options = replace(FOUR_TOKENS, batch_size=3)
    expected = list(asr.transcribe_many(clips, options))
    assert rows[:3] == [1, 2, 3], "nobody waits"
    rows.clear()
    seen: list[tuple[Segment, int]] = []
    many = asr.transcribe_many(clips, options, on_segment=lambda segment: seen.append((segment, len(rows))))
    first = next(many)
    assert len(seen) == len(first.segments), "those of the next input come later"
    second = next(many)
    assert tuple(segment for segment, _ in seen) == first.segments + second.segments
    assert [one.token_ids for one in (first, second)] == [one.token_ids for one in expected]
    assert (seen[0][1], rows[:4]) == (1, [1, 1, 2, 3])
    rows.clear()
    segments = asr.iter_segments(clips[0], options)
    assert next(segments).token_ids == first.segments[0].token_ids
    assert rows == [1]
    assert [segment.token_ids for segment in segments] == [segment.token_ids for segment in first.segments[1:]]
    assert max(rows) == 3


def test_memory_bounds_the_rows_unless_they_are_given(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = watch_rows(monkeypatch)
    clips = [synthetic_clip(3.0)] * 6
    prompter = Prompter(asr, FOUR_TOKENS)
    positions = ClipRequest.of(prompter, next(iter_clips(clips[0])), recording.Slot()).positions
    two_rows = 2 * positions * KvCache.position_bytes(asr.decoder.dims)
    monkeypatch.setattr(memory, "CACHE_BYTES", two_rows)
    list(asr.transcribe_many(clips, FOUR_TOKENS))
    assert max(rows) == 2
    monkeypatch.setattr(memory, "CACHE_BYTES", 2**40)
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * two_rows)
    rows.clear()
    list(asr.transcribe_many(clips, FOUR_TOKENS))
    assert max(rows) == 1  # a quarter of 3 x 2 rows
    rows.clear()
    list(asr.transcribe_many(clips, TranscribeOptions(max_new_tokens=4, batch_size=5)))
    assert max(rows) == 5


def test_steps_in_integers_take_more_rows(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = watch_rows(monkeypatch)
    clips = [synthetic_clip(1.0)] * 18
    list(asr.transcribe_many(clips, FOUR_TOKENS))
    assert max(rows) == 8
    monkeypatch.setattr(asr.decoder, "judge_steps_from", 3)
    list(asr.transcribe_many(clips, FOUR_TOKENS))
    assert max(rows) == 16


def iter_clips(audio: Waveform) -> Iterator[Any]:
    from qwen3_asr_onnx.speech.quiet import split_at_quiet

    return split_at_quiet([audio])


def test_the_cache_gives_memory_back_for_a_longer_row(asr: Transcriber) -> None:
    dims = asr.decoder.dims
    prompt = asr.embeddings.rows(np.arange(50))
    rows: Batch[int] = Batch(asr.decoder, KvCache(dims, 3, 100), max_positions=120, eos=())
    for key in range(2):
        rows.add(key, prompt, 5)
    assert not rows.fits(60)
    while rows.n_active:
        rows.run()
    assert rows.fits(10_000), "one row always fits"
    long_prompt = asr.embeddings.rows(np.arange(90))
    rows.add(2, long_prompt, 1)
    assert rows.fits(30)
    assert not rows.fits(31)


# --- early results, cancelling, time ---


def test_only_as_much_is_read_as_is_needed(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    read_s = 0.0

    def blocks() -> Iterator[Waveform]:
        nonlocal read_s
        while True:
            read_s += 1.0
            yield silence(1.0)

    monkeypatch.setattr(recording, "hold_audio", lambda audio, limits: held(blocks))
    options = TranscribeOptions(max_new_tokens=2, max_segment_s=3.0, batch_size=2)
    segments = asr.iter_segments("endless", options)
    assert next(segments).start_s == 0.0
    assert next(segments).start_s > 0.0
    assert read_s < 20
    segments.close()  # type: ignore[attr-defined]


def test_cancelling_stops_within_one_token_and_keeps_what_is_there(
    asr: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    steps = 0
    rows = asr.embeddings.rows

    def counted(ids: Any) -> Any:
        nonlocal steps
        steps += len(ids) == 2  # a step of two rows
        if steps == 5:
            cancel.set()
        return rows(ids)

    monkeypatch.setattr(asr.embeddings, "rows", counted)
    options = TranscribeOptions(max_new_tokens=50, max_segment_s=3.0, batch_size=2)
    transcript = asr.transcribe(synthetic_clip(11.0), options, cancel=cancel)
    assert steps == 5
    assert transcript.stop_reason == "cancelled"
    assert [segment.stop_reason for segment in transcript.segments] == ["cancelled"] * 2
    assert [len(segment.token_ids) for segment in transcript.segments] == [6, 6]
    whole = asr.transcribe(synthetic_clip(11.0), options)
    assert whole.stop_reason != "cancelled"
    assert whole.segments[0].token_ids[:6] == transcript.segments[0].token_ids


def test_what_was_heard_in_one_input_has_no_say_in_the_next(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        """Loses its hearing with the first 4 s."""

        made = 0

        def __init__(self) -> None:
            Forgetful.made += 1
            self.heard = 0

        def reset(self) -> None:
            self.heard = 0

        def probabilities(self, samples: Waveform) -> Any:
            self.heard += samples.size
            return np.full(samples.size // 512, self.heard <= 4 * RATE, dtype=np.float32)

    monkeypatch.setattr("qwen3_asr_onnx.speech.voice.SileroDetector", Forgetful)
    options = TranscribeOptions(split="vad", max_new_tokens=1)
    many = list(asr.transcribe_many([synthetic_clip(3.0), synthetic_clip(3.0), synthetic_clip(3.0)], options))
    assert [[(one.start_s, one.end_s) for one in transcript.segments] for transcript in many] == [[(0.0, 3.0)]] * 3
    assert Forgetful.made == 1, "loaded once for all"
    asr.transcribe(synthetic_clip(1.0), options)
    assert Forgetful.made == 2


def test_hours_of_silence_can_be_cancelled(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = threading.Event()

    class Deaf:
        heard = 0

        def reset(self) -> None: ...

        def probabilities(self, samples: Waveform) -> Any:
            self.heard += samples.size
            if self.heard > 100 * RATE:
                cancel.set()
            return np.zeros(samples.size // 512, dtype=np.float32)

    monkeypatch.setattr(Transcriber, "_detector", staticmethod(lambda options: Deaf()))
    transcript = asr.transcribe(silence(600.0), TranscribeOptions(split="vad"), cancel=cancel)
    assert (transcript.stop_reason, transcript.segments) == ("cancelled", ())
    assert 100 < transcript.duration_s < 110


def test_a_read_that_never_ends_costs_nothing_of_what_was_heard(
    asr: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()

    def stalled() -> Iterator[Waveform]:
        cancel.set()  # as the first signal does, and the next one, into the read that it waits in:
        raise Abandoned
        yield silence(1.0)

    monkeypatch.setattr(
        recording,
        "hold_audio",
        lambda audio, limits: held(stalled) if isinstance(audio, str) else hold_audio(audio, limits),
    )
    first, second = asr.transcribe_many([synthetic_clip(2.0), "pipe"], FOUR_TOKENS, cancel=cancel)
    assert len(first.token_ids) >= 1
    assert (second.stop_reason, second.segments) == ("cancelled", ())
    with pytest.raises(Abandoned):  # nobody asked for an end
        list(asr.transcribe_many(["pipe"], FOUR_TOKENS))


def test_a_cancelled_call_yields_what_is_open_and_begins_nothing(asr: Transcriber) -> None:
    cancel = threading.Event()
    options = TranscribeOptions(max_new_tokens=4, max_segment_s=3.0, batch_size=1)
    segments = asr.iter_segments(synthetic_clip(11.0), options, cancel=cancel)
    assert next(segments).stop_reason == "length"
    cancel.set()
    assert list(segments) == []
    begun: list[int] = []

    def audios() -> Iterator[Waveform]:
        for i in range(3):
            begun.append(i)
            yield synthetic_clip(1.0)

    assert list(asr.transcribe_many(audios(), cancel=cancel)) == []
    assert begun == []


def test_the_time_limit_keeps_and_marks_the_finished_part(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    add = Batch.add

    def slow(self: Batch[Any], *args: Any, **kwargs: Any) -> None:
        nonlocal now
        add(self, *args, **kwargs)
        now += 10.0

    monkeypatch.setattr(Batch, "add", slow)
    monkeypatch.setattr("qwen3_asr_onnx.transcription.interrupt.time.monotonic", lambda: now)
    options = TranscribeOptions(max_new_tokens=4, max_segment_s=3.0, batch_size=1, time_limit_s=25.0)
    transcript = asr.transcribe(synthetic_clip(11.0), options)
    assert transcript.stop_reason == "time_limit"
    assert [segment.stop_reason for segment in transcript.segments[:2]] == ["length", "length"]
    assert transcript.segments[-1].end_s < 11.0
    now = 0.0
    results = list(asr.transcribe_many([synthetic_clip(1.0), synthetic_clip(11.0), synthetic_clip(1.0)], options))
    assert [one.stop_reason for one in results] == ["length", "time_limit"]


def test_an_input_without_speech_is_handed_out_before_the_next_is_read(asr: Transcriber) -> None:
    begun: list[int] = []

    def audios() -> Iterator[Waveform]:
        for i in range(4):
            begun.append(i)
            yield silence(0) if i != 2 else synthetic_clip(1.0)

    results = asr.transcribe_many(audios(), FOUR_TOKENS)
    for n in range(1, 3):
        assert next(results).segments == ()
        assert len(begun) == n
    assert [len(one.segments) for one in results] == [1, 0]


# --- loops ---


def test_a_loop_is_cut_short_and_tried_again_in_halves(asr: Transcriber) -> None:
    clip = synthetic_clip(8.0)
    options = TranscribeOptions(max_new_tokens=40)
    (whole,) = run(asr, clip, options, eos=(), watch=None)
    calls: list[int] = []

    def alarm(ids: Any) -> bool:
        calls.append(len(ids))
        return len(ids) == 7 and len(calls) == 7  # the first attempt only

    halves = run(asr, clip, options, eos=(), watch=alarm)
    assert len(halves) == 2
    assert (halves[0].start_s, halves[1].end_s) == (whole.start_s, whole.end_s)
    assert halves[0].end_s == halves[1].start_s
    assert 2.0 <= halves[0].end_s <= 6.0
    assert all(segment.retried and segment.stop_reason == "length" for segment in halves)
    assert halves[0].timings.n_tokens == 47, "the first attempt's time and tokens are not lost"


@pytest.mark.parametrize(("n_more", "kept"), [(0, [20]), (1, [20]), (12, [20]), (41, [40, 2]), (55, [40, 15])])
def test_what_was_written_before_a_loop_survives_an_end_that_comes_before_the_halves_are_done(
    asr: Transcriber, monkeypatch: pytest.MonkeyPatch, n_more: int, kept: list[int]
) -> None:
    """The end comes with the loop itself, inside the first half, and when the halves have got further than it did."""
    monkeypatch.setattr(type(asr.tokenizer), "decode", lambda _, ids: "".join(chr(0x4E00 + i) for i in range(len(ids))))
    cancel = threading.Event()
    calls: list[int] = []

    def alarm(ids: Any) -> bool:
        calls.append(len(ids))
        if len(calls) == 20 + n_more:
            cancel.set()
        return len(calls) == 20

    prompter = Prompter.for_options(asr._loaded, TranscribeOptions(language="zh", max_new_tokens=40, batch_size=1))
    source = Input(synthetic_clip(8.0), prompter, None)
    work = Pipeline(asr._loaded, prompter.options.batch_size, Interrupt(None, cancel), RunSettings(eos=(), watch=alarm))
    segments = [segment for _, segment in work.run(iter([source])) if segment is not None]
    assert source.ended_by == "cancelled"
    assert [len(segment.text) for segment in segments] == kept
    assert segments[0].stop_reason == ("repetition" if kept == [20] else "length")


def test_a_second_loop_is_kept_once_and_named(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "trim_loop", lambda ids: ids[:3])
    segments = run(
        asr, synthetic_clip(8.0), TranscribeOptions(max_new_tokens=40), eos=(), watch=lambda ids: len(ids) > 8
    )
    assert [(segment.stop_reason, segment.retried) for segment in segments] == [("repetition", True)] * 2
    assert all(len(segment.token_ids) == 9 for segment in segments)


def test_a_short_clip_that_loops_is_not_halved(asr: Transcriber) -> None:
    (segment,) = run(asr, synthetic_clip(1.0), TranscribeOptions(), eos=(), watch=lambda ids: len(ids) > 8)
    assert (segment.stop_reason, segment.retried) == ("repetition", False)


# --- answers that are none ---


@pytest.mark.parametrize(("level", "reason"), [(1.0, "no_tag"), (1e-3, "no_speech")])
def test_an_answer_without_its_tag_on_sound_is_named(
    asr: Transcriber, monkeypatch: pytest.MonkeyPatch, level: float, reason: str
) -> None:
    """Such as a damaged or wrong model writes; on near-silence it is a way to say nothing."""
    settle = Pipeline._settle
    ids = (40, 41, 42)

    def answer(self: Pipeline, request: ClipRequest, _: Generated) -> None:
        settle(self, request, Generated(ids, (-1.0,) * 4, "stop_token"))

    monkeypatch.setattr(Pipeline, "_settle", answer)
    transcript = asr.transcribe(synthetic_clip(2.0) * np.float32(level), FOUR_TOKENS)
    assert (transcript.text, transcript.language, transcript.stop_reason) == ("", "", reason)
    assert transcript.segments[0].token_ids == ids
    forced = asr.transcribe(synthetic_clip(2.0), TranscribeOptions(language="en"))
    assert forced.stop_reason == "eos"


# --- confidence ---


def test_every_token_has_its_probability(asr: Transcriber) -> None:
    transcript = asr.transcribe(synthetic_clip(2.5), TranscribeOptions(max_new_tokens=12))
    (segment,) = transcript.segments
    assert len(segment.token_logprobs) == len(segment.token_ids)
    assert all(value <= 0 for value in segment.token_logprobs)
    if segment.stop_reason == "length":
        assert segment.avg_logprob == pytest.approx(np.mean(segment.token_logprobs))
    assert transcript.to_dict()["segments"][0]["token_logprobs"] == segment.token_logprobs


def test_the_average_is_that_of_all_probabilities(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that its limit ended has no probability of a stop token; one that stopped has."""
    results: list[Generated] = []
    settle = Pipeline._settle

    def note(self: Pipeline, request: ClipRequest, result: Generated) -> None:
        stopped = Generated(result.token_ids, (*result.logprobs, -30.0), "stop_token")
        results.append(result if results else stopped)
        settle(self, request, results[-1])

    monkeypatch.setattr(Pipeline, "_settle", note)
    transcript = asr.transcribe(synthetic_clip(11.0), TranscribeOptions(max_new_tokens=4, max_segment_s=5.0))
    logprobs = [value for result in results for value in result.logprobs]
    assert len({segment.stop_reason for segment in transcript.segments}) == 2
    assert transcript.avg_logprob == pytest.approx(np.mean(logprobs))
    assert sum(segment.n_logprobs for segment in transcript.segments) == len(logprobs)


def test_phrases_make_up_the_text(asr: Transcriber) -> None:
    options = TranscribeOptions(language="English", max_new_tokens=12, max_segment_s=3.0)
    segments = asr.transcribe(synthetic_clip(8.0), options).segments
    assert any(segment.phrases for segment in segments)
    for segment in segments:
        assert segment.phrases is not None
        assert "".join(phrase.text for phrase in segment.phrases).split() == segment.text.split() or not segment.phrases
        edges = [edge for phrase in segment.phrases for edge in (phrase.start_s, phrase.end_s)]
        assert [segment.start_s, *edges, segment.end_s] == sorted([segment.start_s, *edges, segment.end_s])


def test_timings_add_up(asr: Transcriber) -> None:
    transcript = asr.transcribe(synthetic_clip(11.0), FOUR_TOKENS)
    spent = transcript.timings
    assert spent.n_tokens == len(transcript.token_ids)
    assert spent.load_s > 0
    assert spent.decode_s == pytest.approx(sum(segment.timings.decode_s for segment in transcript.segments))
    assert transcript.to_dict()["timings"]["tokens_per_s"] == pytest.approx(spent.n_tokens / spent.decode_s)


# --- bad inputs ---


def test_empty_and_broken_inputs_among_good_ones(asr: Transcriber, tmp_path: Path) -> None:
    good = synthetic_clip(3.0)
    nan_at_the_end = np.concatenate([synthetic_clip(11.0), np.array([np.nan], dtype=np.float32)])
    (tmp_path / "text.wav").write_bytes(b"this is no audio, whatever the name says")
    audios: list[Any] = [good, silence(0), tmp_path / "text.wav", good, nan_at_the_end, good]
    first, empty, text, second, late, last = asr.transcribe_many(audios, FOUR_TOKENS, errors="return")
    assert isinstance(empty, Transcript)
    assert (empty.text, empty.segments, empty.stop_reason, empty.duration_s) == ("", (), "no_speech", 0.0)
    assert isinstance(text, AudioError)
    assert isinstance(late, AudioError)
    assert "not a finite number" in str(late)
    assert isinstance(first, Transcript)
    for one in (second, last):
        assert isinstance(one, Transcript)
        assert one.token_ids == first.token_ids


def test_what_is_wrong_far_inside_is_told_after_what_came_before(asr: Transcriber) -> None:
    nan_at_the_end = np.concatenate([synthetic_clip(11.0), np.array([np.nan], dtype=np.float32)])
    segments = asr.iter_segments(nan_at_the_end, FOUR_TOKENS)
    assert next(segments).start_s == 0.0
    with pytest.raises(AudioError, match=r"11\.000 s"):
        list(segments)


def test_a_bad_input_is_told_at_once(asr: Transcriber) -> None:
    with pytest.raises(AudioError, match=r"nowhere\.wav"):
        asr.iter_segments("nowhere.wav")
    with pytest.raises(LimitError, match="shorten the context"):
        asr.iter_segments(synthetic_clip(1.0), TranscribeOptions(context="ä" * 5000))


# --- memory ---


def wav_of(seconds: int) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(bytes(16_000 * seconds))
    file.seek(0)
    return file


def test_memory_does_not_grow_with_the_length(asr: Transcriber) -> None:
    import tracemalloc

    options = TranscribeOptions(max_new_tokens=1, max_segment_s=10.0, batch_size=2)

    def peak_of(seconds: int) -> int:
        file = wav_of(seconds)
        tracemalloc.start()
        n = sum(1 for _ in asr.iter_segments(file, options))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n >= seconds // 15
        return peak

    peak_of(60)
    assert peak_of(160) < 1.2 * peak_of(80)
