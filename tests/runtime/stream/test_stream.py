"""The public face of a stream: what may be fed, what is refused, and who may call."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import (
    AudioError,
    OptionsError,
    Stream,
    StreamError,
    StreamOptions,
    StreamUpdate,
    TranscribeOptions,
    Transcriber,
)
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model
from qwen3_asr_onnx.stream.stream import POLICIES

OPTIONS = TranscribeOptions(max_new_tokens=12)
CLIP = synthetic_clip(4.6, seed=5)


def comparable(updates: list[StreamUpdate]) -> list[dict[str, Any]]:
    """Return the updates without the times they took."""
    rows = []
    for update in updates:
        segment = update.segment
        rows.append({
            "text": (update.committed, update.tentative, update.language, round(update.heard_s, 3)),
            "segment": segment and (segment.start_s, segment.end_s, segment.token_ids, segment.stop_reason),
        })  # fmt: skip
    return rows


def run(stream: Stream, audio: npt.NDArray[Any], size: int = 7_777) -> list[dict[str, Any]]:
    updates: list[StreamUpdate] = []
    for start in range(0, len(audio), size):
        updates += stream.feed(audio[start : start + size])
    return comparable([*updates, *stream.finish()])


@pytest.fixture(scope="module")
def expected(asr: Transcriber) -> list[dict[str, Any]]:
    return run(asr.stream(OPTIONS), CLIP)


def test_a_stream_hears_all_of_a_clip(expected: list[dict[str, Any]]) -> None:
    assert [row["text"][3] for row in expected] == [2.016, 4.032, 4.6]
    start_s, end_s, ids, _ = expected[-1]["segment"]
    assert (start_s, end_s) == (0.0, 4.6)
    assert ids


@pytest.mark.parametrize("policy", ["incremental", "official"])
def test_the_portions_do_not_matter(asr: Transcriber, policy: Any) -> None:
    streaming = StreamOptions(policy=policy)
    whole, *others = [run(asr.stream(OPTIONS, streaming), CLIP, size) for size in (len(CLIP), 160, 33_333)]
    assert all(other == whole for other in others)


def test_integers_channels_and_rates_are_the_same_sound(asr: Transcriber, expected: list[dict[str, Any]]) -> None:
    as_integers = np.round(CLIP * 32768).clip(-32768, 32767).astype(np.int16)
    same = run(asr.stream(OPTIONS), as_integers.astype(np.float32) / 32768)
    assert run(asr.stream(OPTIONS), as_integers) == same
    stereo = asr.stream(OPTIONS)
    assert comparable([*stereo.feed(np.stack([CLIP, CLIP], axis=1)), *stereo.finish()]) == expected
    fast = asr.stream(OPTIONS)
    updates = [*fast.feed(np.repeat(CLIP, 3), sample_rate=48_000), *fast.finish()]
    assert [update.segment.end_s for update in updates if update.segment] == [4.6]


STEREO = np.stack([CLIP, np.zeros_like(CLIP)], axis=1)


@pytest.mark.parametrize("transposed", [False, True])
def test_short_blocks_are_read_as_the_long_ones(asr: Transcriber, transposed: bool) -> None:
    """Blocks of one or two frames, of as many channels or more, after one whose shape tells."""
    whole = STEREO.T if transposed else STEREO
    expected = asr.stream(OPTIONS)
    updates = [*expected.feed(whole), *expected.finish()]
    stream = asr.stream(OPTIONS)
    edges = [0, 20_000, *(len(STEREO) - left for left in (6, 5, 4, 2, 0))]
    blocks = [STEREO[start:end] for start, end in itertools.pairwise(edges)]
    found = [update for block in blocks for update in stream.feed(block.T if transposed else block)]
    assert stream.fed_s == len(STEREO) / SAMPLE_RATE
    assert comparable([*found, *stream.finish()]) == comparable(updates)


def test_the_caller_may_say_how_blocks_are_ordered(asr: Transcriber) -> None:
    stream = asr.stream(OPTIONS)
    stream.feed(np.zeros((2, 1)), transposed=True)
    stream.feed(np.zeros((2, 1)))
    assert stream.fed_s == 2 / SAMPLE_RATE
    stream = asr.stream(OPTIONS)
    stream.feed(np.zeros((1, 2)))
    stream.feed(np.zeros((0, 16)))
    assert stream.fed_s == 1 / SAMPLE_RATE, "(n, channels) until a block tells"
    stream.feed(np.zeros((100, 16)))
    stream.feed(np.zeros((5, 16)))
    assert stream.fed_s == 106 / SAMPLE_RATE


def test_blocks_of_both_orders_are_refused(asr: Transcriber) -> None:
    stream = asr.stream(OPTIONS)
    stream.feed(STEREO[:100])
    with pytest.raises(AudioError, match=r"shape \(2, 100\), but those before were \(n, 2\)"):
        stream.feed(STEREO[:100].T)
    stream.feed(STEREO[100:101])
    stream.feed(CLIP[:5])
    assert stream.fed_s == 106 / SAMPLE_RATE


@pytest.mark.parametrize(
    ("pcm", "rate", "message"),
    [
        (np.array([0.0, np.nan], np.float32), 16_000, "at 1.000 s: the sample 0.000 s into this block is not a finite"),
        (np.array([0.0, np.inf]), 16_000, "not a finite number"),
        (np.full(5, 1e200), 16_000, "not a finite number"),
        (np.full(5, 3000.0), 16_000, "up to 3000, but full scale is 1"),
        (np.zeros(5, np.complex64), 16_000, "type complex64"),
        (np.array(["a"]), 16_000, "give float"),
        (np.zeros((2, 2, 2)), 16_000, r"shape \(2, 2, 2\)"),
        (np.zeros((5, 0)), 16_000, r"shape \(5, 0\)"),
        (np.zeros(5), 48_000, "48000 Hz, but the stream began at 16000 Hz"),
        (np.zeros(5), 16_000.5, "whole Hz"),
        (np.zeros(5), -1, "sampling rate is -1"),
        (np.zeros(5), "16000", "give a number of Hz"),
        (np.zeros(5), True, "give a number of Hz"),
    ],
)
def test_what_is_not_sound_is_refused_and_the_stream_goes_on(
    asr: Transcriber, expected: list[dict[str, Any]], pcm: Any, rate: Any, message: str
) -> None:
    stream = asr.stream(OPTIONS)
    updates = stream.feed(CLIP[:SAMPLE_RATE])
    with pytest.raises(AudioError, match=message):
        stream.feed(pcm, rate)
    assert comparable([*updates, *stream.feed(CLIP[SAMPLE_RATE:]), *stream.finish()]) == expected


def test_a_bad_first_block_does_not_settle_the_rate(asr: Transcriber) -> None:
    stream = asr.stream(OPTIONS)
    with pytest.raises(AudioError):
        stream.feed(np.array([np.nan]), 8_000)
    stream.feed(np.zeros(100), 44_100)
    assert stream.fed_s == pytest.approx(100 / 44_100)


def test_a_finished_stream_takes_no_more(asr: Transcriber) -> None:
    stream = asr.stream(OPTIONS)
    assert stream.finish() == []
    with pytest.raises(StreamError, match="feed after finish"):
        stream.feed(CLIP)
    with pytest.raises(StreamError, match="finish after finish"):
        stream.finish()
    with pytest.raises(StreamError, match="feed after finish"):
        stream.gap(1.0)


def test_a_gap_is_silence_of_its_length(asr: Transcriber) -> None:
    with_gap, with_zeros = asr.stream(OPTIONS), asr.stream(OPTIONS)
    one = [*with_gap.feed(CLIP), *with_gap.gap(70.5), *with_gap.feed(CLIP), *with_gap.finish()]
    zeros = np.zeros(round(70.5 * SAMPLE_RATE), np.float32)
    other = [*with_zeros.feed(np.concatenate([CLIP, zeros, CLIP])), *with_zeros.finish()]
    assert comparable(one) == comparable(other)
    starts = [update.segment.start_s for update in one if update.segment]
    assert starts[0] == 0.0
    assert starts[-1] == pytest.approx(4.6 + 70.5, abs=0.6)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(AudioError, match="gap"):
            asr.stream(OPTIONS).gap(bad)


def test_a_gap_before_the_first_block_leaves_the_rate_open(asr: Transcriber) -> None:
    stream, with_zeros = asr.stream(OPTIONS), asr.stream(OPTIONS)
    assert stream.gap(2.0) == []
    assert stream.gap(1.5) == []
    assert stream.fed_s == 3.5
    audio = np.repeat(CLIP, 3)
    updates = [*stream.feed(audio, 48_000), *stream.gap(1.0), *stream.finish()]
    assert stream.fed_s == pytest.approx(3.5 + 4.6 + 1.0)
    zeros = [np.zeros(round(seconds * 48_000), np.float32) for seconds in (3.5, 1.0)]
    expected = [*with_zeros.feed(np.concatenate([zeros[0], audio, zeros[1]]), 48_000), *with_zeros.finish()]
    assert comparable(updates) == comparable(expected)


@pytest.mark.parametrize("policy", ["incremental", "official"])
def test_a_gap_and_nothing_else(asr: Transcriber, policy: Any) -> None:
    stream = asr.stream(OPTIONS, StreamOptions(policy=policy))
    assert stream.gap(1.0) == []
    updates = stream.finish()
    assert stream.fed_s == 1.0
    assert all(update.heard_s <= 1.0 for update in updates)


def test_two_threads_cannot_feed_one_stream(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = asr.stream(OPTIONS)
    inside, leave = threading.Event(), threading.Event()

    def slow_feed(*_: Any, **__: Any) -> list[StreamUpdate]:
        inside.set()
        leave.wait(10)
        return []

    monkeypatch.setattr(stream._policy, "feed", slow_feed)
    thread = threading.Thread(target=stream.feed, args=(CLIP,))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(StreamError, match="two threads use one stream"):
        stream.feed(CLIP)
    with pytest.raises(StreamError, match="two threads use one stream"):
        stream.finish()
    leave.set()
    thread.join()
    assert stream.feed(CLIP[:0]) == []


def test_many_streams_share_one_model(asr: Transcriber) -> None:
    clips = [synthetic_clip(3.0 + seed / 3, seed=seed) for seed in range(4)]
    alone = [run(asr.stream(OPTIONS), clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: run(asr.stream(OPTIONS), clip), clips))
    assert together == alone


def test_options_that_make_no_sense_for_a_stream(asr: Transcriber) -> None:
    with pytest.raises(OptionsError, match="word times"):
        asr.stream(TranscribeOptions(timestamps="word"))
    with pytest.raises(OptionsError, match="Klingon"):
        asr.stream(TranscribeOptions(language="Klingon"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"chunk_s": 0}, "chunk_s is 0"),
        ({"chunk_s": float("nan")}, "chunk_s is nan"),
        ({"horizon_s": 5}, "horizon_s is 5"),
        ({"hold_back": -1}, "hold_back is -1"),
        ({"unfixed_tokens": -1}, "unfixed_tokens is -1"),
    ],
)
def test_bad_stream_options(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        StreamOptions(**values)


def test_an_unknown_policy_is_refused(asr: Transcriber) -> None:
    with pytest.raises(OptionsError, match="policy is 'best'; give one of: incremental, official"):
        asr.stream(OPTIONS, StreamOptions(policy="best"))


def test_a_policy_is_one_entry_of_the_table(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting:
        """Commits how many samples it was fed."""

        def __init__(self, model: Model, prompter: Prompter, options: StreamOptions) -> None:
            assert (model.variant, prompter.language, options.chunk_s) == (asr.variant, "English", 1.0)
            self._n = 0

        def feed(self, samples: Waveform, *, hurried: bool = False) -> Iterator[StreamUpdate]:
            assert not hurried
            self._n += samples.size
            return iter(())

        def finish(self) -> Iterator[StreamUpdate]:
            yield StreamUpdate(str(self._n), "", "", self._n / SAMPLE_RATE)

    monkeypatch.setitem(POLICIES, "counting", Counting)
    stream = asr.stream(TranscribeOptions(language="en"), StreamOptions(policy="counting", chunk_s=1.0))
    assert stream.feed(np.zeros(1000, np.float32)) == []
    assert [update.committed for update in stream.finish()] == ["1000"]


@pytest.mark.parametrize("policy", ["incremental", "official"])
def test_next_to_nothing(asr: Transcriber, policy: Any) -> None:
    for n_samples in (0, 1, 200, 511):
        stream = asr.stream(OPTIONS, StreamOptions(policy=policy))
        updates = [*stream.feed(np.zeros(n_samples)), *stream.finish()]
        assert "".join(update.committed for update in updates).strip() == "".join(
            update.segment.text for update in updates if update.segment
        )


def test_the_memory_of_a_stream_does_not_grow(asr: Transcriber) -> None:
    stream = asr.stream(TranscribeOptions(max_new_tokens=1), StreamOptions(chunk_s=60, horizon_s=16))
    policy: Any = stream._policy
    noise = synthetic_clip(16.0, seed=1)
    for _ in range(12):
        stream.feed(noise)
        assert policy._segment is None or policy._segment.size <= 17 * SAMPLE_RATE
        assert policy._pending.size < 512
        assert len(policy._flags) == 0
    assert policy._decoder._cache.capacity <= 13 * 80 + 100
