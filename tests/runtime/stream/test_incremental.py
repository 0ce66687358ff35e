"""The incremental policy with a scripted model: words are written into the samples, so none can be lost unnoticed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_asr_onnx import StreamOptions, StreamUpdate
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.loading import Model, load_model
from qwen3_asr_onnx.results import Timings
from qwen3_asr_onnx.speech.activity import FRAME_SAMPLES, FrameCutter
from qwen3_asr_onnx.stream.hypothesis import Hypothesis
from qwen3_asr_onnx.stream.incremental import HURRIED_CHUNKS, IncrementalPolicy
from qwen3_asr_onnx.text.answer import join_texts

HEADER = "language English<asr_text>"
HORIZON_S = 16.0
LEVEL = 1e-3


class Sound:
    """Takes every sample that is not zero for sound."""

    def __init__(self) -> None:
        self._cutter = FrameCutter()

    def push(self, samples: Waveform) -> npt.NDArray[np.bool_]:
        flags: npt.NDArray[np.bool_] = np.any(self._cutter.push(samples) != 0, axis=1)
        return flags


def speech(words: Sequence[tuple[float, float]]) -> Waveform:
    """Return audio in which each word (seconds, pause after it) is a run of samples that hold its number.

    The first and the last sample are negative: a run that has both is a whole word.
    """
    parts = []
    for number, (word_s, pause_s) in enumerate(words, start=1):
        word = np.full(round(word_s * SAMPLE_RATE), number * LEVEL, np.float32)
        word[[0, -1]] *= -1
        parts += [word, np.zeros(round(pause_s * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts)


def said(numbers: Sequence[int]) -> str:
    return " ".join(f"w{number:03d}" for number in numbers)


@dataclass
class Listener:
    """Reads the words out of the samples; a part of a word is heard wrongly, differently each time."""

    model: Model
    prompter: Prompter
    heard_s: list[float] = field(default_factory=list)
    n_new: list[int] = field(default_factory=list)
    ending: str = "stop_token"

    def restart(self) -> None: ...

    def listen(
        self, audio: Waveform, fixed: Sequence[int], draft: Sequence[int], limit: int, watch: Callable[..., bool]
    ) -> Hypothesis:
        self.heard_s.append(audio.size / SAMPLE_RATE)
        numbers, first = np.unique(np.abs(np.round(audio / LEVEL).astype(int)), return_index=True)
        ends = np.bincount(np.abs(np.round(audio[audio < 0] / LEVEL).astype(int)), minlength=len(numbers) + 1000)
        heard = [f"w{n:03d}" if ends[n] == 2 else f"half{audio.size % 7}" for n in numbers[np.argsort(first)] if n]
        answer = self.prompter.written(f"{HEADER}{' '.join(heard)}" if heard else "language None<asr_text>")
        ids = (*fixed, *answer[len(fixed) :])
        self.n_new.append(len(ids) - len(fixed))
        assert self.n_new[-1] <= limit
        ended: Any = self.ending
        return Hypothesis(ids, (-0.1,) * (len(ids) - len(fixed) + 1), ended, 0, Timings(decode_s=0.01))


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return load_model(tiny_bundle, None, "cpu", None)


def policy_of(model: Model, **options: Any) -> tuple[IncrementalPolicy, Listener]:
    """Return a policy, and the listener in the place of its decoder."""
    prompter = Prompter(model)
    streaming = StreamOptions(**{"horizon_s": HORIZON_S, **options})
    policy = IncrementalPolicy(model, prompter, streaming, Sound())
    listener = Listener(model, prompter)
    policy._decoder = listener  # type: ignore[assignment]
    return policy, listener


def run(policy: IncrementalPolicy, audio: Waveform, sizes: Sequence[int] = ()) -> list[StreamUpdate]:
    """Feed blocks of the given sizes, the last of them over and over."""
    updates: list[StreamUpdate] = []
    start = 0
    for size in sizes:
        updates += policy.feed(audio[start : start + size])
        start += size
    updates += policy.feed(audio[start:])
    return [*updates, *policy.finish()]


def transcript(updates: Sequence[StreamUpdate]) -> str:
    return "".join(update.committed for update in updates)


word_s = st.floats(0.15, 0.9)
hurried_pause_s, any_pause_s = st.floats(0.005, 0.03), st.sampled_from([0.01, 0.1, 0.2, 0.3, 0.5, 0.8, 1.5, 3.0])
monologue = st.lists(st.tuples(word_s, hurried_pause_s), min_size=40, max_size=120)
conversation = st.lists(st.tuples(word_s, any_pause_s), min_size=1, max_size=50)


@settings(max_examples=25, deadline=None)
@given(spoken=st.one_of(monologue, conversation), sizes=st.lists(st.integers(0, 50_000), max_size=30))
def test_every_word_is_committed_once_whatever_the_blocks(
    model: Model, spoken: list[tuple[float, float]], sizes: list[int]
) -> None:
    audio = speech(spoken)
    policy, listener = policy_of(model)
    updates = run(policy, audio, sizes)
    whole = said(range(1, len(spoken) + 1))
    assert transcript(updates) == whole
    segments = [update.segment for update in updates if update.segment is not None]
    assert join_texts([(one.text, one.language) for one in segments]) == whole
    assert max(listener.heard_s) <= HORIZON_S + FRAME_SAMPLES / SAMPLE_RATE
    assert updates == run(policy_of(model)[0], audio)


@settings(max_examples=12, deadline=None)
@given(spoken=st.one_of(monologue, conversation), hold_back=st.integers(0, 12))
def test_what_is_committed_stands_in_the_segment_that_is_finished(
    model: Model, spoken: list[tuple[float, float]], hold_back: int
) -> None:
    policy, _ = policy_of(model, hold_back=hold_back)
    line = ""
    for update in run(policy, speech(spoken)):
        line += update.committed
        if update.segment is not None:
            assert line.strip() == update.segment.text
            line = ""
    assert line == ""


def test_segments_follow_each_other_without_overlap_and_cut_no_word(model: Model) -> None:
    """No pause is long enough to end a segment: the cuts lie in the 10 ms between words."""
    spoken = [(0.37, 0.01)] * 100
    audio = speech(spoken)
    updates = run(policy_of(model)[0], audio)
    assert transcript(updates) == said(range(1, 101))
    segments = [update.segment for update in updates if update.segment is not None]
    assert len(segments) >= 3
    for one, following in itertools.pairwise(segments):
        assert one.end_s == following.start_s
        assert audio[round(one.end_s * SAMPLE_RATE)] == 0
    assert max(one.end_s - one.start_s for one in segments) <= HORIZON_S


def test_a_long_pause_ends_a_segment_and_is_kept_from_the_model(model: Model) -> None:
    policy, listener = policy_of(model)
    updates = run(policy, speech([(0.5, 30.0), (0.5, 5.0)]))
    first, second = [update.segment for update in updates if update.segment is not None]
    assert (first.text, first.start_s, second.text) == ("w001", 0.0, "w002")
    assert first.end_s == pytest.approx(0.8, abs=0.05)
    assert second.start_s == pytest.approx(30.0, abs=0.05)
    assert second.end_s == pytest.approx(31.3, abs=0.05)
    assert sum(listener.heard_s) < 8


def test_the_first_segment_is_known_soon_after_the_pause_begins(model: Model) -> None:
    policy, _ = policy_of(model)
    audio = speech([(0.5, 5.0)])
    updates = list(policy.feed(audio[: round(1.8 * SAMPLE_RATE)]))
    assert [update.committed for update in updates] == ["w001"]


def test_clicks_and_silence_never_reach_the_model(model: Model) -> None:
    policy, listener = policy_of(model)
    audio = np.zeros(60 * SAMPLE_RATE, np.float32)
    audio[:: 7 * SAMPLE_RATE] = 0.5
    assert run(policy, audio) == []
    assert listener.heard_s == []


def test_all_audio_reaches_the_model_when_silence_is_not_skipped(model: Model) -> None:
    policy, _ = policy_of(model, skip_silence=False)
    updates = run(policy, np.zeros(40 * SAMPLE_RATE, np.float32))
    segments = [update.segment for update in updates if update.segment is not None]
    assert segments[0].start_s == 0.0
    assert segments[-1].end_s == 40.0
    assert {one.stop_reason for one in segments} == {"no_speech"}
    assert transcript(updates) == ""


def test_the_end_of_a_hypothesis_is_tentative(model: Model) -> None:
    policy, _ = policy_of(model, hold_back=0)
    updates = list(policy.feed(speech([(0.3, 0.05)] * 18)))
    assert [update.heard_s for update in updates] == pytest.approx([2.0, 4.0, 6.0], abs=0.05)
    assert updates[0].committed == ""
    assert updates[0].tentative.startswith("w001 w002")
    assert updates[1].committed == said(range(1, 6))  # the sixth word was half heard the first time
    assert updates[1].tentative.startswith(" w006 ")


def test_held_back_ids_are_committed_later(model: Model) -> None:
    committed = [
        len(transcript(list(policy_of(model, hold_back=hold_back)[0].feed(speech([(0.3, 0.05)] * 18)))))
        for hold_back in (0, 40, 200)
    ]
    assert committed[0] > committed[1] > committed[2] == 0


@pytest.mark.parametrize(("ending", "reason"), [("limit", "length"), ("watch", "repetition")])
def test_an_answer_that_did_not_end_by_itself_is_not_committed_before_its_segment(
    model: Model, ending: str, reason: str
) -> None:
    policy, listener = policy_of(model, hold_back=0)
    listener.ending = ending
    updates = run(policy, speech([(0.3, 0.05)] * 18))
    assert all(not update.committed for update in updates[:-1])
    assert updates[-1].segment is not None
    assert updates[-1].segment.stop_reason == reason


def test_in_a_hurry_fewer_hypotheses_and_the_same_text(model: Model) -> None:
    audio = speech([(0.3, 0.05)] * 120)
    calm, hurried = policy_of(model), policy_of(model)
    expected = transcript(run(calm[0], audio))
    updates = [*hurried[0].feed(audio, hurried=True), *hurried[0].finish()]
    assert transcript(updates) == expected
    assert len(hurried[1].heard_s) * 2 < len(calm[1].heard_s)
    assert HURRIED_CHUNKS > 2


def test_an_abandoned_update_loses_nothing(model: Model) -> None:
    policy, _ = policy_of(model)
    audio = speech([(0.3, 0.05)] * 40)
    first = next(policy.feed(audio[: 8 * SAMPLE_RATE]))
    assert transcript([first, *run(policy, audio[8 * SAMPLE_RATE :])]) == said(range(1, 41))
