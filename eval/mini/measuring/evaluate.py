"""Measures a miniature transcriber on regenerated test sets: errors, language id, silence, context, forcing, rounding.

Flows in: a native model with the stored bfloat16 weights. Flows out: one JSON-able report. Arithmetic is float32 in the
native transformers classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mini.language.sentences import LANGUAGES, draw_context, is_invented, written_name
from mini.language.vocabulary import Vocabulary
from mini.measuring.rounding import measure_roundings
from mini.measuring.score import Score, share
from mini.measuring.testset import SetResult, TestItem, make_items, run_set, with_request
from mini.speech.augment import NON_SPEECH
from mini.speech.corpus import forced_prefix


def name_accuracy(result: SetResult) -> Score:
    """Return the share of clips in which the rare name is spelled as the speaker meant it."""
    hits = [written_name(i.utterance.rare_name) in text for i, text in zip(result.items, result.texts, strict=True)]
    return share(hits)


def measure_names(model: Any, vocabulary: Vocabulary, items: Sequence[TestItem]) -> dict[str, str]:
    """Return name accuracy without context, with the right context and with a context of other names."""
    rng = np.random.default_rng(5)
    distractors = [draw_context(rng, item.utterance.language, None) for item in items]
    variants = {
        "no context": [with_request(item) for item in items],
        "context with the name": [with_request(item, context=item.utterance.context) for item in items],
        "context of other names": [with_request(i, context=c) for i, c in zip(items, distractors, strict=True)],
    }
    report: dict[str, str] = {}
    for label, chosen in variants.items():
        result = run_set(model, vocabulary, chosen)
        invented = [i for i, item in enumerate(items) if is_invented(item.utterance.language, item.utterance.rare_name)]
        report[label] = str(name_accuracy(result))
        report[f"{label}, error rate"] = str(result.score())
        if invented:
            part = SetResult([chosen[i] for i in invented], [""] * len(invented), [result.texts[i] for i in invented])
            report[f"{label}, invented names"] = str(name_accuracy(part))
    return report


def measure_forcing(model: Any, vocabulary: Vocabulary, items: Sequence[TestItem]) -> dict[str, str]:
    """Return the error rate with the right language forced, and how often a wrong one changes the text."""
    right = [with_request(i, prefix=forced_prefix(i.utterance.language)) for i in items]
    wrong_of = {language: LANGUAGES[(n + 1) % len(LANGUAGES)] for n, language in enumerate(LANGUAGES)}
    wrong = [with_request(i, prefix=forced_prefix(wrong_of[i.utterance.language])) for i in items]
    right_result, wrong_result = run_set(model, vocabulary, right), run_set(model, vocabulary, wrong)
    changed = [a != b for a, b in zip(right_result.texts, wrong_result.texts, strict=True)]
    return {
        "right language forced, error rate": str(right_result.score()),
        "wrong language forced, text changed": str(share(changed)),
    }


def report_set(result: SetResult) -> dict[str, str]:
    """Return the lines of the report for one speech set."""
    lines = {"all": str(result.score())}
    for language in LANGUAGES:
        lines[language] = str(result.score(language))
    lines["language id"] = str(result.language_id())
    exact = [i.utterance.text == text for i, text in zip(result.items, result.texts, strict=True)]
    lines["exact text"] = str(share(exact))
    return lines


def evaluate(
    model: Any, vocabulary: Vocabulary, count: int, say: Callable[[str], None], seed: int
) -> dict[str, dict[str, str]]:
    """Run every measurement and return the report by set."""
    report: dict[str, dict[str, str]] = {}
    items = {name: make_items(name, count, seed) for name in ("seen", "unseen", "clean", "long", "names")}
    for name in ("seen", "unseen", "clean", "long"):
        report[name] = report_set(run_set(model, vocabulary, items[name]))
        say(f"{name}: {report[name]}")
    quiet = run_set(model, vocabulary, make_items("nonspeech", count, seed))
    report["nonspeech"] = {"no words": str(share([not text for text in quiet.texts]))}
    for position, kind in enumerate(NON_SPEECH):
        report["nonspeech"][kind] = str(share([not text for text in quiet.texts[position :: len(NON_SPEECH)]]))
    say(f"nonspeech: {report['nonspeech']}")
    report["names"] = measure_names(model, vocabulary, items["names"])
    say(f"names: {report['names']}")
    report["forcing"] = measure_forcing(model, vocabulary, items["seen"])
    say(f"forcing: {report['forcing']}")
    report["rounding"] = measure_roundings(model, vocabulary, [*items["seen"], *items["unseen"]], say)
    return report
