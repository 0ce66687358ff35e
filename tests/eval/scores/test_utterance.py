"""Our counts against jiwer's own on the same strings."""

from __future__ import annotations

import pytest

pytest.importorskip("jiwer", reason="needs the eval extra")
pytest.importorskip("whisper_normalizer", reason="needs the eval extra")

import jiwer
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3_asr_onnx_eval.scores.normalize import normalizer_for
from qwen3_asr_onnx_eval.scores.utterance import score_utterance

WORDS = st.lists(st.sampled_from(["ein", "zwei", "drei", "Vier", "fünf", "sechs."]), max_size=8).map(" ".join)
CHARACTERS = st.text("你好世界吗 ，a", max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=6))
def test_sums_over_utterances_are_jiwers_corpus_wer(pairs: list[tuple[str, str]]) -> None:
    normalize = normalizer_for("German").apply
    theirs = jiwer.process_words([normalize(r) for r, _ in pairs], [normalize(h) for _, h in pairs])
    ours = [score_utterance(r, h, "German") for r, h in pairs]
    assert sum(s.errors for s in ours) / sum(s.n_units for s in ours) == theirs.wer
    assert sum(s.errors for s in ours) == theirs.substitutions + theirs.deletions + theirs.insertions
    assert sum(s.hits for s in ours) == theirs.hits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CHARACTERS.filter(lambda text: bool(text.strip(" ，"))), CHARACTERS), min_size=1, max_size=6))
def test_and_its_corpus_cer(pairs: list[tuple[str, str]]) -> None:
    normalize = normalizer_for("Chinese").apply
    theirs = jiwer.process_characters([normalize(r) for r, _ in pairs], [normalize(h) for _, h in pairs])
    ours = [score_utterance(r, h, "Chinese") for r, h in pairs]
    assert sum(s.errors for s in ours) / sum(s.n_units for s in ours) == theirs.cer


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_the_edits_rebuild_both_sides(reference: str, hypothesis: str) -> None:
    score = score_utterance(reference, hypothesis, "German")
    normalize = normalizer_for("German").apply
    assert " ".join(unit for edit in score.edits for unit in edit.reference) == normalize(reference)
    assert " ".join(unit for edit in score.edits for unit in edit.hypothesis) == normalize(hypothesis)


def test_empty_sides_are_counted_openly() -> None:
    silent = score_utterance("Two words.", "", "English")
    assert (silent.deletions, silent.errors, silent.n_units, silent.n_hypothesis_units) == (2, 2, 2, 0)
    invented = score_utterance("", "Two words", "")
    assert (invented.insertions, invented.n_units, invented.n_hypothesis_units) == (2, 0, 2)
    nothing = score_utterance("", "", "Chinese")
    assert (nothing.errors, nothing.n_units) == (0, 0)


def test_the_score_names_its_normaliser_and_unit() -> None:
    assert score_utterance("你好", "你好", "Chinese").unit == "character"
    assert score_utterance("a", "a", "English").normalizer.startswith("whisper-english@")
