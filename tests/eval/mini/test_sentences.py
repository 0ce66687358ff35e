"""What the miniature's clips say, before any of them sounds; and how answers are counted and slot times repaired."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the miniature's code needs torch")
pytest.importorskip("transformers", reason="the miniature's code needs transformers")


from mini.language.sentences import GRAMMARS, LANGUAGES, Word, bare, draw_sentence, is_held_out, parse, written_name
from mini.measuring.align import repair
from mini.measuring.score import edit_distance, score
from mini.speech.corpus import plan, plan_digest
from mini.training.batches import (
    respelled,
)


def test_plan_is_a_function_of_seed_and_index() -> None:
    assert [plan("train", 3, i) for i in range(40)] == [plan("train", 3, i) for i in range(40)]
    assert [plan("train", 3, i) for i in range(40)] != [plan("train", 4, i) for i in range(40)]


def test_the_corpus_plan_is_the_recorded_one() -> None:
    """Clips of `make mini`, each planned by itself: texts, contexts, voices with every setting; the sound follows."""
    assert (
        plan_digest(20261, range(0, 44_000, 11)) == "9181225256f0a66137f5dbc8a45ab15e8c1bccbeda3fe6baf55761510804ff8f"
    )


def test_test_sentences_never_occur_in_training() -> None:
    trained = [part.sentence.text for i in range(1500) for part in plan("train", 20261, i).parts]
    tested = [
        part.sentence.text for name in ("seen", "unseen", "long") for i in range(150) for part in plan(name, 7, i).parts
    ]
    assert len(trained) > 2000
    assert not any(is_held_out(text) for text in trained)
    assert all(is_held_out(text) for text in tested)
    assert not set(trained) & set(tested)


def test_every_language_has_many_sentences() -> None:
    plans = [plan("clean", 1, i) for i in range(600)]
    for language in LANGUAGES:
        assert len({drawn.text for drawn in plans if drawn.language == language}) > 150, language


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_of_every_fixed_short_sentence_are_heard_in_training(language: str) -> None:
    """The sentence itself may be held out; its words may not, or nothing could recognise them."""
    rng = np.random.default_rng(0)
    heard = {bare(word.text) for _ in range(1500) for word in _drawn(rng, language, held_out=False)}
    fixed = [parse(language, template) for template in GRAMMARS[language].short if "{" not in template]
    assert any(is_held_out(sentence.text) for sentence in fixed)
    assert {bare(word.text) for sentence in fixed for word in sentence.words} <= heard


def _drawn(rng: np.random.Generator, language: str, held_out: bool) -> tuple[Word, ...]:
    return draw_sentence(rng, language, "short", held_out).words


@pytest.mark.parametrize("language", LANGUAGES)
def test_half_of_the_digit_strings_in_training_have_few_different_digits(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = GRAMMARS[language]
    monkeypatch.setitem(GRAMMARS, language, replace(grammar, short=["{digits}" + grammar.full_stop]))

    def share_with_few(held_out: bool) -> float:
        rng = np.random.default_rng(0)
        strings = [[word.spoken for word in _drawn(rng, language, held_out) if word.spoken] for _ in range(400)]
        return float(np.mean([len(set(words)) <= 3 for words in strings if len(words) >= 6]))

    assert share_with_few(held_out=True) < 0.2
    assert share_with_few(held_out=False) > 0.5


def test_names_are_spelled_anew_and_the_context_tells_how() -> None:
    planned = (plan("train", 3, i) for i in itertools.count())
    rows = [u.to_json() for u in itertools.islice((u for u in planned if u.kind == "named"), 60)]
    rng = np.random.default_rng(0)
    spellings, told = 0, 0
    for row in rows:
        drawn = [respelled(row, rng) for _ in range(8)]
        for one in drawn:
            assert written_name(one["rare_name"]) in one["text"]
            assert not one["context"] or written_name(one["rare_name"]) in one["context"]
        spellings += len({one["text"] for one in drawn})
        told += sum(bool(one["context"]) for one in drawn)
    assert spellings > 3 * len(rows)
    assert 0.65 < told / (8 * len(rows)) < 0.85


def test_scores() -> None:
    assert edit_distance(["a", "b", "c"], ["a", "x", "c", "d"]) == 2
    result = score(["Turn on the light.", "打开灯。"], ["turn on a light", "打开灯"])
    assert (result.errors, result.units) == (1, 7)
    assert 0 <= result.low <= result.rate <= result.high


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([80, 4000, 160, 240], [80, 80, 160, 240]),
        ([0, 160, 80, 240], [0, 160, 160, 240]),
        ([500, 80, 160], [80, 80, 160]),
        ([0, 500, 400, 300, 200, 100, 600], [0, 500, 520, 540, 560, 580, 600]),
        ([3, 2, 1], [3, 3, 3]),
        ([10, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ([100, 0, 50, 60, 70, 80, 90, 5, 6, 7, 200], [0, 0, 50, 60, 70, 80, 90, 117, 145, 172, 200]),
    ],
)
def test_slot_times_are_repaired_like_the_official_code(values: list[int], expected: list[int]) -> None:
    assert repair(values) == expected
