"""The engine: texts of lone calls, turns of the lanes, cancelling in every state, bad inputs, limits, closing."""

from __future__ import annotations

import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes

from qwen3_asr_onnx import AudioError, AudioLimits, BundleError, BusyError, Transcriber, Transcript
from qwen3_asr_onnx.errors import Qwen3AsrError
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.batch import Batch
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.model.stopping import current_stop
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Segment
from qwen3_asr_onnx.speech.quiet import Clip
from qwen3_asr_onnx.transcription import lanes, line, loop
from qwen3_asr_onnx.transcription.engine import Draft, Engine, Request, Result
from qwen3_asr_onnx.transcription.lanes import Lane, Lanes
from qwen3_asr_onnx.transcription.pieces import Pieces, RunSettings
from qwen3_asr_onnx.transcription.recording import ClipRequest, Slot
from qwen3_asr_onnx.transcription.requests import expected_s

RATE = 16_000
LONG = np.tile(synthetic_clip(3.0), 300)
SHORT = TranscribeOptions(max_new_tokens=6, max_segment_s=3.0)


class Ear:
    """A listener that writes down what it hears."""

    def __init__(self, on_written: Callable[[], object] = lambda: None) -> None:
        self.wants_drafts = True
        self.drafts: list[Draft] = []
        self.segments: list[Segment] = []
        self.results: list[Result] = []
        self._over = threading.Event()
        self._on_written = on_written

    def written(self, draft: Draft) -> None:
        self.drafts.append(draft)
        self._on_written()

    def finished(self, segment: Segment) -> None:
        self.segments.append(segment)

    def ended(self, result: Result) -> None:
        self.results.append(result)
        self._over.set()

    def result(self) -> Any:
        assert self._over.wait(30.0)
        (result,) = self.results
        return result


class Stuck(io.BytesIO):
    """A file that gives nothing until it is let go."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.go = threading.Event()
        self.reached = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.reached.set()
        assert self.go.wait(30.0)
        return super().read(size)


def clip_file(seconds: float, n_channels: int = 1) -> bytes:
    samples = (synthetic_clip(seconds) * 2**14).astype(np.int16)
    return wav_bytes(np.stack([samples] * n_channels, axis=1), RATE)


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.002)


def make(asr: Transcriber, **settings: Any) -> Engine:
    return Engine(asr._loaded, None, AudioLimits(), **settings)


def is_idle(engine: Engine) -> bool:
    return engine.n_active == engine.n_waiting == 0 and all(lane.is_empty for lane in engine._loop._lanes)


@pytest.fixture
def engine(asr: Transcriber) -> Iterator[Engine]:
    before = set(threading.enumerate())
    made = make(asr)
    yield made
    made.close(finish=False)
    until(lambda: set(threading.enumerate()) <= before)


# --- what requests give ---


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_each_request_gives_what_a_lone_call_gives(asr: Transcriber, batch_size: int | None) -> None:
    context = "a context that is long enough to be read once for all that begin with it " * 2
    requests: list[tuple[Any, TranscribeOptions]] = [
        (synthetic_clip(0.1), SHORT),
        (synthetic_clip(20.0), TranscribeOptions(max_new_tokens=12, max_segment_s=3.0)),
        (synthetic_clip(9.0), TranscribeOptions(max_new_tokens=30, max_segment_s=30.0, context=context)),
        (synthetic_clip(7.0), TranscribeOptions(max_new_tokens=9, max_segment_s=4.0, context=context, language="en")),
        (synthetic_clip(3.0), TranscribeOptions(language="German")),
        (clip_file(4.0, 2), TranscribeOptions(max_new_tokens=5, max_segment_s=3.0, channels="split")),
        (np.zeros(0, dtype=np.float32), SHORT),
        (synthetic_clip(12.0), TranscribeOptions(start_s=2.0, end_s=9.0, max_new_tokens=7, max_segment_s=3.0)),
    ]
    engine = make(asr, batch_size=batch_size)
    ears = [Ear() for _ in requests]
    for (audio, options), ear in zip(requests, ears, strict=True):
        engine.transcribe(audio, options, ear)
    for (audio, options), ear in zip(requests, ears, strict=True):
        found, expected = ear.result(), asr.transcribe(audio, options)
        assert found.text == expected.text
        assert found.token_ids == expected.token_ids
        assert (found.language, found.stop_reason, found.duration_s) == (
            expected.language,
            expected.stop_reason,
            expected.duration_s,
        )
        assert [(s.start_s, s.end_s, s.channel) for s in found.segments] == [
            (s.start_s, s.end_s, s.channel) for s in expected.segments
        ]
        assert tuple(ear.segments) == found.segments or options.channels == "split"
    engine.close()


def test_a_loop_is_heard_again_in_two_halves(asr: Transcriber) -> None:
    settings = RunSettings(eos=(), watch=lambda ids: len(ids) > 8)
    engine, ear = make(asr, settings=settings), Ear()
    engine.transcribe(synthetic_clip(8.0), TranscribeOptions(), ear)
    result = ear.result()
    engine.close()
    assert [(segment.stop_reason, segment.retried) for segment in result.segments] == [("repetition", True)] * 2


def test_drafts_are_of_the_first_unfinished_piece_and_begin_its_text(asr: Transcriber, engine: Engine) -> None:
    ear = Ear()
    engine.transcribe(synthetic_clip(9.0), TranscribeOptions(language="en", max_new_tokens=9, max_segment_s=3.0), ear)
    result = ear.result()
    starts = [draft.partial().start_s for draft in ear.drafts]
    assert starts == sorted(starts)
    # A piece that was written while one before it was unfinished has no draft.
    assert 0.0 in starts
    assert set(starts) <= {segment.start_s for segment in result.segments}
    for draft in ear.drafts:
        partial_ = draft.partial()
        (segment,) = [one for one in result.segments if one.start_s == partial_.start_s]
        assert segment.text.startswith(partial_.text)
        assert segment.token_ids[: len(draft.ids)] == draft.ids


# --- who is next ---


def test_lanes_take_turns_by_their_share_and_save_little_up(asr: Transcriber) -> None:
    two = Lanes(Pieces(asr._loaded, None), None)
    piece = ClipRequest.of(Prompter(asr), Clip(0, synthetic_clip(1.0)), Slot())
    two.first.rows = two.rest.rows = [piece]
    had = []
    for _ in range(40):
        lane = two.next()
        assert lane is not None
        lane.spent_s += 1.0 / lane.share
        had.append(lane is two.first)
    assert sum(had) == 30
    two.first.rows = []
    assert all(two.next() is two.rest for _ in range(3))
    two.rest.spent_s += 1000.0
    two.first.rows = [piece]
    assert two.next() is two.first
    assert two.first.spent_s == two.rest.spent_s - lanes.SAVED_S


def test_a_short_request_does_not_wait_for_a_long_one(engine: Engine) -> None:
    long = Ear()
    short = Ear()

    def ask() -> None:
        if len(long.drafts) == 1:
            engine.transcribe(synthetic_clip(2.0), SHORT, short)

    long._on_written = ask
    request = engine.transcribe(LONG, SHORT, long)
    short.result()
    assert len(long.segments) < 40
    request.cancel()


def test_priority_goes_first_and_requests_take_turns(asr: Transcriber) -> None:
    waiting = line.Line(3600.0)
    prompter = Prompter(asr)
    piece = ClipRequest.of(prompter, Clip(0, synthetic_clip(1.0)), Slot())
    requests = [Request(Ear(), priority, waiting.next_turn(), 1.0, lambda _: None) for priority in (0, 0, 5)]
    for request in requests:
        waiting.add(request)
        request.ready.extend([(piece, None)] * 2)
        request.first = Slot()
        request.has_begun = True
    order = []
    while (following := waiting.next_ready(first=False)) is not None:
        following.ready.popleft()
        following.turn = waiting.next_turn()
        order.append(requests.index(following))
    assert order == [2, 2, 0, 1, 0, 1]


def test_stuck_files_stop_nobody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "STUCK_S", 0.0)
    files = [Stuck(clip_file(1.0)) for _ in range(line.MOST_AHEAD + 1)]
    stuck = [engine.transcribe(file, SHORT, Ear()) for file in files]
    ear = Ear()
    engine.transcribe(synthetic_clip(1.0), SHORT, ear)
    assert isinstance(ear.result(), Transcript)
    for request, file in zip(stuck, files, strict=True):
        request.cancel()
        file.go.set()


# --- ends before the end ---


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_cancelled_while_it_is_heard_and_its_prompt_is_read(
    asr: Transcriber, engine: Engine, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    monkeypatch.setattr(lanes, "PROMPT_PART", 20)
    monkeypatch.setattr(loop, "PROMPT_PART", 20)
    busy, ear, calls = Ear(), Ear(), [0]
    requests: list[Request] = []
    advance = Lane.advance

    def watched(self: Lane) -> None:
        if self.arriving is not None and self.arriving.prompter.options.context == "its":
            calls[0] += 1
            if calls[0] == bits:
                requests[0].cancel()
        advance(self)

    monkeypatch.setattr(Lane, "advance", watched)
    engine.transcribe(synthetic_clip(20.0), SHORT, busy)

    def ask() -> None:
        requests.append(engine.transcribe(synthetic_clip(11.0), TranscribeOptions(context="its"), ear))

    engine._loop.inbox.put(ask)  # the engine's thread asks: it cannot begin before the request is known here
    expected = asr.transcribe(synthetic_clip(20.0), SHORT)
    assert busy.result().token_ids == expected.token_ids
    until(lambda: is_idle(engine))
    assert calls[0] == bits
    assert not ear.results


@pytest.mark.parametrize(("which", "beside"), [(1, True), (2, True), (3, True), (1, False), (3, False), (6, False)])
def test_cancelled_in_the_middle_of_a_call_of_the_model(
    asr: Transcriber, engine: Engine, monkeypatch: pytest.MonkeyPatch, which: int, beside: bool
) -> None:
    """Two windows are heard, then the prompt is read, then tokens are written: the call ends with the request."""
    begun = ended = 0
    requests: list[Request] = []

    def watched(self: Session, run: Callable[[Any], Any]) -> Any:
        def call(options: Any) -> Any:
            nonlocal begun, ended
            is_its = bool(requests) and current_stop() is requests[0].stop
            begun += is_its
            if is_its and begun == which:
                requests[0].cancel()
            result = run(options)
            ended += is_its
            return result

        return session_call(self, call)

    session_call = Session._call
    monkeypatch.setattr(Session, "_call", watched)
    others = [Ear() for _ in range(3 if beside else 0)]
    for other in others:
        engine.transcribe(synthetic_clip(20.0), SHORT, other)
    ear = Ear()
    options = TranscribeOptions(max_segment_s=30.0, language="English")
    engine._loop.inbox.put(lambda: requests.append(engine.transcribe(synthetic_clip(11.0), options, ear)))
    until(lambda: bool(requests) and requests[0].is_over)
    found = [other.result().token_ids for other in others]
    until(lambda: is_idle(engine))
    assert (begun, ended) == (which, which - 1)
    assert not ear.results
    monkeypatch.setattr(Session, "_call", session_call)
    assert found == [asr.transcribe(synthetic_clip(20.0), SHORT).token_ids] * len(others)
    engine.transcribe(synthetic_clip(11.0), options, ear)
    assert ear.result().token_ids == asr.transcribe(synthetic_clip(11.0), options).token_ids


def test_cancelled_while_it_is_written_or_waits(engine: Engine) -> None:
    requests: list[Request] = []
    ear = Ear(lambda: requests[0].cancel() if len(ear.drafts) == 3 else None)
    engine.transcribe(synthetic_clip(9.0), SHORT, other := Ear())
    requests.append(engine.transcribe(synthetic_clip(9.0), TranscribeOptions(), ear))
    other.result()
    until(lambda: is_idle(engine))
    assert len(ear.drafts) == 3
    late = engine.transcribe(synthetic_clip(9.0), SHORT, unheard := Ear())
    late.cancel()
    late.cancel()
    until(lambda: is_idle(engine))
    assert ear.results == unheard.results == []


def test_cancelled_while_it_is_read(engine: Engine) -> None:
    file, ear = Stuck(clip_file(1.0)), Ear()
    request = engine.transcribe(file, SHORT, ear)
    assert file.reached.wait(10.0)
    request.cancel()
    until(lambda: is_idle(engine))
    file.go.set()
    assert not ear.results


def test_the_time_limit_ends_one_request_with_what_there_is(engine: Engine) -> None:
    file, ear, other = Stuck(clip_file(1.0)), Ear(), Ear()
    engine.transcribe(file, TranscribeOptions(time_limit_s=0.1), ear)
    engine.transcribe(LONG, TranscribeOptions(time_limit_s=0.5, max_segment_s=3.0), other)
    assert (ear.result().stop_reason, ear.result().segments) == ("time_limit", ())
    result = other.result()
    file.go.set()
    assert result.stop_reason == "time_limit"
    assert tuple(other.segments) == result.segments
    until(lambda: is_idle(engine))


def test_many_requests_of_which_some_are_cancelled(asr: Transcriber) -> None:
    chance = random.Random(20)
    kinds = [(seconds, n) for seconds in (0.5, 2.0, 7.0) for n in (3, 11)]
    expected = {
        kind: asr.transcribe(synthetic_clip(kind[0]), max_new_tokens=kind[1], max_segment_s=3.0).token_ids
        for kind in kinds
    }
    engine = make(asr)
    asked = []
    for n in range(40):
        seconds, limit = kind = chance.choice(kinds)
        options = TranscribeOptions(max_new_tokens=limit, max_segment_s=3.0)
        request = engine.transcribe(synthetic_clip(seconds), options, ear := Ear(), chance.randrange(2))
        asked.append((kind, ear, n % 10 == 3))
        if n % 10 == 3:
            time.sleep(chance.random() * 0.02)
            request.cancel()
    for kind, ear, cancelled in asked:
        assert cancelled or ear.result().token_ids == expected[kind]
    engine.close()
    assert engine.n_active == engine.n_waiting == 0
    assert not engine._loop._owners


# --- what goes wrong ---


def test_an_error_reaches_its_own_request_only(engine: Engine, tmp_path: Path) -> None:
    good, bad, missing = Ear(), Ear(), Ear()
    engine.transcribe(b"no audio at all", SHORT, bad)
    engine.transcribe(tmp_path / "none.wav", SHORT, missing)
    engine.transcribe(synthetic_clip(5.0), SHORT, good)
    assert isinstance(bad.result(), AudioError)
    assert isinstance(missing.result(), AudioError)
    assert isinstance(good.result(), Transcript)


def test_a_model_that_breaks_fails_what_is_open_and_is_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "run", partial(_fail, BundleError("it broke")))
        engine.transcribe(synthetic_clip(2.0), SHORT, first := Ear())
        assert str(first.result()) == "it broke"
    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "next", partial(_fail, RuntimeError("a bug")))
        engine.transcribe(synthetic_clip(2.0), SHORT, second := Ear())
        assert str(second.result()) == "a bug"
    engine.transcribe(synthetic_clip(2.0), SHORT, third := Ear())
    assert isinstance(third.result(), Transcript)
    assert is_idle(engine)


def _fail(error: Exception, *_: object, **__: object) -> None:
    raise error


def test_too_much_may_not_wait(asr: Transcriber) -> None:
    engine = make(asr, max_waiting_s=100.0)
    files = [Stuck(clip_file(1.0)) for _ in range(2)]
    engine.transcribe((synthetic_clip(1.0), RATE), SHORT, Ear()).cancel()
    until(lambda: is_idle(engine))
    waiting = engine._line
    for file in files:
        engine.transcribe(file, SHORT, Ear())
    for request in waiting.everybody():
        request.waiting_s = 45.0
    assert engine.waiting_s == 90.0
    with pytest.raises(BusyError, match="90 s of audio wait") as caught:
        engine.transcribe(np.zeros(20 * RATE, dtype=np.float32), SHORT, Ear())
    assert caught.value.retry_after_s == pytest.approx(10.0 / line.USUAL_SPEED)
    engine.transcribe(np.zeros(5 * RATE, dtype=np.float32), SHORT, Ear())
    for file in files:
        file.go.set()
    engine.close(finish=False)


def test_how_long_audio_is_is_guessed_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(clip_file(3.0, 2))
    (tmp_path / "a.mp3").write_bytes(bytes(32_000))
    assert expected_s(path) == expected_s(str(path)) == expected_s(path.read_bytes()) == pytest.approx(3.0)
    assert expected_s(np.zeros(RATE, dtype=np.float32)) == 1.0
    assert expected_s((np.zeros((8000, 2), dtype=np.float32), 8000)) == 1.0
    assert expected_s(tmp_path / "a.mp3") == 2.0
    assert expected_s(tmp_path / "none") == expected_s("https://host/a.wav") == expected_s(io.BytesIO()) == 0.0
    assert expected_s("a\0b") == 0.0


# --- closing ---


def test_closing_waits_or_ends_and_takes_no_more(asr: Transcriber) -> None:
    before = set(threading.enumerate())
    for finish, timeout_s in ((True, None), (False, None), (True, 0.05)):
        engine, ears = make(asr), [Ear() for _ in range(3)]
        seconds = 3.0 if finish and timeout_s is None else 0.0
        for ear in ears:
            engine.transcribe(LONG if not seconds else synthetic_clip(seconds), SHORT, ear)
        engine.close(finish=finish, timeout_s=timeout_s)
        kind = Transcript if seconds == 3.0 else Qwen3AsrError
        assert all(isinstance(ear.result(), kind) for ear in ears)
        with pytest.raises(Qwen3AsrError, match="closed"):
            engine.transcribe(synthetic_clip(1.0), SHORT, Ear())
        engine.close()
    until(lambda: set(threading.enumerate()) <= before)


def test_closing_does_not_wait_for_a_call_of_the_model(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, ear = make(asr), Ear()
    closing = threading.Thread(target=partial(engine.close, finish=False))
    ends: list[bool] = []

    def watched(self: Session, run: Callable[[Any], Any]) -> Any:
        def call(options: Any) -> Any:
            closing.start()
            until(lambda: not engine._loop.inbox.empty())
            until(lambda: all(request.stop._is_set for request in engine._line.everybody()))
            result = run(options)
            ends.append(True)
            return result

        return session_call(self, call)

    session_call = Session._call
    monkeypatch.setattr(Session, "_call", watched)
    engine.transcribe(synthetic_clip(11.0), SHORT, ear)
    with pytest.raises(Qwen3AsrError, match="closed"):
        raise ear.result()
    closing.join(20.0)
    assert not ends


def test_an_engine_that_nobody_holds_ends(asr: Transcriber) -> None:
    before = set(threading.enumerate())
    ear = Ear()
    make(asr).transcribe(synthetic_clip(3.0), SHORT, ear)
    assert isinstance(ear.result(), Transcript)
    until(lambda: set(threading.enumerate()) <= before)


def test_the_memory_goes_back_when_nothing_is_to_be_done(
    asr: Transcriber, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "IDLE_S", 0.01)
    engine.transcribe(synthetic_clip(3.0), SHORT, ear := Ear())
    ear.result()
    until(lambda: not engine._loop._lanes.hold_memory)
