"""The engine in programs of tasks: gathering, events, cancelled tasks, dropped iterators, several loops, closing."""

from __future__ import annotations

import asyncio
import gc
import io
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip
from tests.support.recording_aligner import RecordingAligner

from qwen3_asr_onnx import (
    AsyncTranscriber,
    AudioError,
    AudioLimits,
    BusyError,
    OptionsError,
    Partial,
    Qwen3AsrError,
    Segment,
    Transcriber,
    Transcript,
)
from qwen3_asr_onnx.alignment.aligner import Words
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.transcription.engine import Engine

LONG = np.tile(synthetic_clip(3.0), 300)
SHORT: dict[str, Any] = {"max_new_tokens": 6, "max_segment_s": 3.0}


async def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.002)


async def idle(asr: AsyncTranscriber) -> None:
    await until(lambda: asr.n_active == asr.n_waiting == 0)
    assert all(lane.is_empty for lane in asr._engine._loop._lanes)


def test_gathered_calls_give_what_lone_calls_give(asr: Transcriber) -> None:
    clips = [synthetic_clip(seconds) for seconds in (1.0, 8.0, 2.5, 5.0)]

    async def main() -> list[Transcript]:
        async with AsyncTranscriber(asr) as many:
            assert many.transcriber is asr
            return await asyncio.gather(*[many.transcribe(clip, **SHORT) for clip in clips])

    for clip, found in zip(clips, asyncio.run(main()), strict=True):
        assert found.token_ids == asr.transcribe(clip, **SHORT).token_ids
    assert asr.transcribe(clips[0], **SHORT).segments  # the transcriber that was given stays open


def test_events_come_in_order_and_end_with_the_transcript(asr: Transcriber) -> None:
    async def main() -> list[Any]:
        async with AsyncTranscriber(asr) as many:
            return [event async for event in many.events(synthetic_clip(9.0), language="en", **SHORT)]

    events = asyncio.run(main())
    segments = [event for event in events if isinstance(event, Segment)]
    transcript = events[-1]
    assert isinstance(transcript, Transcript)
    assert sum(isinstance(event, Transcript) for event in events) == 1
    assert tuple(segments) == transcript.segments
    done_s = 0.0
    for event in events:
        if isinstance(event, Partial):
            assert event.start_s >= done_s
            (segment,) = [one for one in segments if one.start_s == event.start_s]
            assert segment.text.startswith(event.text)
        elif isinstance(event, Segment):
            done_s = event.end_s


def test_who_asks_seldom_gets_the_newest_partial_and_every_segment(asr: Transcriber) -> None:
    async def main() -> list[Any]:
        async with AsyncTranscriber(asr) as many:
            events = many.events(synthetic_clip(9.0), **SHORT)
            await until(lambda: many.n_active == many.n_waiting == 0)
            return [event async for event in events]

    events = asyncio.run(main())
    assert [type(event) for event in events] == [Segment] * len(events[-1].segments) + [Transcript]


def test_a_cancelled_task_ends_its_request(asr: Transcriber) -> None:
    async def main() -> None:
        async with AsyncTranscriber(asr) as many:
            task = asyncio.create_task(many.transcribe(LONG, **SHORT))
            await until(lambda: many.n_active == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await idle(many)
            waits = asyncio.create_task(anext(many.events(io.BytesIO(b"text"), **SHORT)))
            with pytest.raises(AudioError):
                await waits

    asyncio.run(main())


@pytest.mark.parametrize("how", ["aclose", "drop", "never begun", "break"])
def test_an_iterator_that_is_left_ends_its_request(asr: Transcriber, how: str) -> None:
    async def main() -> None:
        async with AsyncTranscriber(asr) as many:
            events = many.events(LONG, **SHORT)
            if how != "never begun":
                await anext(events)
            if how == "aclose":
                await events.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(events)
            elif how == "break":
                async for _ in events:
                    break
            del events
            gc.collect()
            await idle(many)

    asyncio.run(main())


def test_one_instance_serves_loops_of_several_threads_and_survives_their_end(asr: Transcriber) -> None:
    many = AsyncTranscriber(asr)
    expected = asr.transcribe(synthetic_clip(4.0), **SHORT).token_ids
    found: list[bool] = []

    async def gathered() -> None:
        transcripts = await asyncio.gather(*[many.transcribe(synthetic_clip(4.0), **SHORT) for _ in range(5)])
        found.extend(one.token_ids == expected for one in transcripts)

    threads = [threading.Thread(target=lambda: asyncio.run(gathered())) for _ in range(2)]
    for thread in threads:
        thread.start()

    loop = asyncio.new_event_loop()  # is closed while a task of it waits: it cannot be told any more
    events = many.events(LONG, **SHORT)
    task = loop.create_task(anext(events))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    for thread in threads:
        thread.join(30.0)
    assert found == [True] * 10

    async def rest() -> None:
        await idle(many)
        await many.close()

    asyncio.run(rest())
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_errors_reach_their_caller_at_once_or_in_time(asr: Transcriber, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncTranscriber(asr, limits=AudioLimits(max_duration_s=10.0)) as many:
            for options in ({"language": "Klingon"}, {"timestamps": "word"}, {"nonsense": 1}):
                with pytest.raises(OptionsError):
                    many.events(synthetic_clip(1.0), **options)
            with pytest.raises(OptionsError, match="forced aligner"):
                await many.align(synthetic_clip(1.0), "one two", "en")
            good, *bad = await asyncio.gather(
                many.transcribe(synthetic_clip(2.0), **SHORT),
                many.transcribe(tmp_path / "none.wav"),
                many.transcribe(synthetic_clip(11.0)),
                return_exceptions=True,
            )
            assert isinstance(good, Transcript)
            assert [type(error).__name__ for error in bad] == ["AudioError", "LimitError"]

    asyncio.run(main())


class Timer(RecordingAligner):
    """Gives every word a tenth of a second, once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def align_waveform(
        self, waveform: Waveform, text: str, language: str, offset_s: float = 0.0, options: Any = None
    ) -> Words:
        self.begun.set()
        assert self.go.wait(30.0)
        return self.words(text, offset_s)

    def align(
        self, audio: Any, text: str, language: Any, options: Any = None, progress: Any = None, **changes: Any
    ) -> Words:
        self.begun.set()
        assert self.go.wait(30.0)
        progress(1.0)
        return self.words(text, 0.0)


def test_words_are_timed_beside_the_model(asr: Transcriber) -> None:
    async def main() -> None:
        timer = Timer()
        async with AsyncTranscriber(asr, aligner=timer) as many:
            timed = asyncio.create_task(
                many.transcribe(synthetic_clip(5.0), timestamps="word", language="English", **SHORT)
            )
            await until(timer.begun.is_set)
            assert await many.transcribe(synthetic_clip(1.0), **SHORT)  # goes by
            assert not timed.done()
            timer.go.set()
            transcript = await timed
            assert [word.text for word in transcript.words or ()] == transcript.text.split()
            assert all(segment.words is not None for segment in transcript.segments)
            words = await many.align(synthetic_clip(1.0), "one two", "en")
            assert [word.text for word in words] == ["one", "two"]
            with pytest.raises(OptionsError, match="language of the text"):
                await many.align(synthetic_clip(1.0), "one two", None)
            with pytest.raises(AudioError):
                await many.align(b"text", "one two", "en")

    asyncio.run(main())


@pytest.mark.parametrize("aligns", [True, False])
def test_cancelled_while_words_are_timed(asr: Transcriber, aligns: bool) -> None:
    async def main() -> None:
        timer = Timer()
        async with AsyncTranscriber(asr, aligner=timer) as many:
            clip = synthetic_clip(2.0)
            task: asyncio.Task[Any] = asyncio.create_task(
                many.align(clip, "one two", "en") if aligns else many.transcribe(clip, timestamps="word", **SHORT)
            )
            await until(timer.begun.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await idle(many)
            timer.go.set()

    asyncio.run(main())


def test_busy_is_told_with_the_seconds_to_wait(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwen3_asr_onnx.transcription.line.Line.to_open", lambda *_: [])

    async def main() -> None:
        many = AsyncTranscriber(asr, max_waiting_s=5.0)
        first = asyncio.create_task(many.transcribe(synthetic_clip(4.0)))
        await until(lambda: many.n_waiting == 1)
        assert many.waiting_s == pytest.approx(4.0)
        with pytest.raises(BusyError) as caught:
            await many.transcribe(synthetic_clip(2.0))
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.retry_after_s == caught.value.retry_after_s >= 1.0
        await many.close(finish=False)
        with pytest.raises(Qwen3AsrError, match="closed"):
            await first
        with pytest.raises(Qwen3AsrError, match="closed"):
            await many.transcribe(synthetic_clip(1.0))

    asyncio.run(main())


def test_an_error_in_the_block_ends_what_is_open(asr: Transcriber) -> None:
    async def main() -> None:
        async with AsyncTranscriber(asr) as many:
            tasks.append(asyncio.create_task(many.transcribe(LONG, **SHORT)))
            await until(lambda: many.n_active == 1)
            raise KeyError

    tasks: list[asyncio.Task[Transcript]] = []
    with pytest.raises(KeyError):
        asyncio.run(main())
    with pytest.raises(Qwen3AsrError, match="closed"):
        tasks[0].result()


def test_it_loads_and_closes_its_own_model(tiny_bundle: Path, asr: Transcriber) -> None:
    async def main() -> None:
        many = AsyncTranscriber(tiny_bundle, batch_size=2)
        await many.transcribe(synthetic_clip(1.0), **SHORT)
        await many.close()
        await many.close()
        with pytest.raises(Qwen3AsrError, match="closed"):
            many.transcriber.transcribe(synthetic_clip(1.0))

    asyncio.run(main())
    for bad in ({"batch_size": 0}, {"max_waiting_s": 0.0}, {"threads": 1}):
        with pytest.raises(OptionsError):
            AsyncTranscriber(asr, **bad)


def test_an_engine_leaves_no_thread(asr: Transcriber) -> None:
    before = set(threading.enumerate())
    many = AsyncTranscriber(asr)
    assert isinstance(many._engine, Engine)
    del many
    gc.collect()
    asyncio.run(until(lambda: set(threading.enumerate()) <= before))
