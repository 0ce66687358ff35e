"""Inputs with options of their own in one call: each result is that of its input alone, and they share batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import OptionsError, TranscribeOptions, Transcriber
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.batch import SHARED_FROM, Batch

WORDS = 14
CLIPS = [synthetic_clip(seconds, seed) for seed, seconds in enumerate((5.0, 1.0, 2.5, 7.0, 4.0, 3.0))]


def options_of_each(batch_size: int | None) -> list[TranscribeOptions]:
    """Contexts of one length that differ, of other lengths, none; forced languages and none; parts."""
    contexts = [
        "Anna Berlin " * WORDS,
        "Berlin Anna " * WORDS,
        "Anna Berlin " * WORDS,
        "",
        "Otto",
        "Berlin Anna " * WORDS,
    ]
    languages = ["English", None, "German", "Chinese", None, "en"]
    shared: dict[str, Any] = {"max_new_tokens": 8, "max_segment_s": 3.0, "batch_size": batch_size}
    return [
        TranscribeOptions(context=context, language=language, start_s=start_s, **shared)
        for context, language, start_s in zip(contexts, languages, (0, 0, 0.5, 1, 0, 0), strict=True)
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
def test_each_result_is_that_of_its_input_alone(
    asr: Transcriber, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = options_of_each(batch_size)
    first, second = (Prompter(asr, own).prompt(1) for own in each[:2])
    assert first.audio_start == second.audio_start >= SHARED_FROM, "what is told apart is no length"
    expected = [asr.transcribe(clip, own, batch_size=1) for clip, own in zip(CLIPS, each, strict=True)]
    mixed = 0
    add = Batch.add

    def watched(self: Batch[Any], *args: Any, **kwargs: Any) -> None:
        nonlocal mixed
        add(self, *args, **kwargs)
        mixed += len({row.key.prompter.options for row in self._rows if row is not None}) > 1

    monkeypatch.setattr(Batch, "add", watched)
    found = list(asr.transcribe_many(CLIPS, each))
    assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.start_s for one in found] == [own.start_s for own in each]
    assert bool(mixed) == (batch_size != 1)


def test_a_context_is_read_once_by_all_that_have_it(asr: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = Batch._take_shared

    def watched(self: Batch[Any], place: int, shared: tuple[int, ...]) -> int:
        taken.append(take(self, place, shared))
        return taken[-1]

    monkeypatch.setattr(Batch, "_take_shared", watched)
    options = TranscribeOptions(context="Anna Berlin " * WORDS, max_new_tokens=4, max_segment_s=10.0, batch_size=3)
    languages = ["English", None, "German", "Chinese", "English", None]
    list(asr.transcribe_many(CLIPS, [replace(options, language=name) for name in languages]))
    assert [n > 0 for n in taken] == [False, *[True] * 5]


def test_keywords_change_the_options_of_all(asr: Transcriber) -> None:
    each = [TranscribeOptions(language="English"), TranscribeOptions(language="German")]
    found = list(asr.transcribe_many(CLIPS[1:3], each, max_new_tokens=1))
    assert [len(one.token_ids) for one in found] == [1, 1]


def test_what_is_of_the_call_is_one_for_all(asr: Transcriber) -> None:
    changed: list[dict[str, Any]] = [{"batch_size": 2}, {"time_limit_s": 9.0}]
    for changes in changed:
        with pytest.raises(OptionsError, match="of the whole call"):
            asr.transcribe_many(CLIPS[:2], [TranscribeOptions(), replace(TranscribeOptions(), **changes)])
    with pytest.raises(OptionsError, match="language"):
        asr.transcribe_many(CLIPS[:2], [TranscribeOptions(), TranscribeOptions(language="Klingon")])
    with pytest.raises(OptionsError, match="the options are a dict"):
        asr.transcribe_many(CLIPS[:1], [{"language": "en"}])  # type: ignore[list-item]


@pytest.mark.parametrize(("n_inputs", "more"), [(1, "fewer"), (3, "more")])
def test_there_are_as_many_options_as_inputs(asr: Transcriber, n_inputs: int, more: str) -> None:
    results = asr.transcribe_many(iter(CLIPS[:n_inputs]), [TranscribeOptions(max_new_tokens=1)] * 2)
    with pytest.raises(OptionsError, match=f"2 options and {more} inputs"):
        list(results)
    assert list(asr.transcribe_many([], [])) == []
