"""Measures a miniature transcriber on regenerated test sets: errors, language id, silence, context, forcing, rounding.

Flows in: a native model with the stored bfloat16 weights. Flows out: one JSON-able report. Arithmetic is float32 in the
native transformers classes.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mini.augment import NON_SPEECH
from mini.corpus import NO_LANGUAGE, Utterance, examples, forced_prefix
from mini.features import log_mel
from mini.language import GRAMMARS, LANGUAGES, draw_context, written_name
from mini.score import Score, score, share
from mini.transcribe import Request, parse_answer, transcribe
from mini.vocabulary import Vocabulary

TEST_SEED = 7
SET_SIZE = 300


@dataclass(frozen=True, slots=True)
class TestItem:
    """One test clip: its plan and the request made from its sound."""

    utterance: Utterance
    request: Request


@dataclass(frozen=True, slots=True)
class SetResult:
    """What a model said on one set."""

    items: Sequence[TestItem]
    languages: Sequence[str]
    texts: Sequence[str]

    def score(self, language: str | None = None) -> Score:
        """Return the error rate over all clips or those of one language."""
        chosen = [i for i, item in enumerate(self.items) if language in (None, item.utterance.language)]
        return score([self.items[i].utterance.text for i in chosen], [self.texts[i] for i in chosen])

    def language_id(self) -> Score:
        """Return the share of clips whose language was named correctly."""
        wanted = ["" if i.utterance.language == NO_LANGUAGE else i.utterance.language for i in self.items]
        return share([a == b for a, b in zip(wanted, self.languages, strict=True)])


def make_items(set_name: str, count: int, seed: int = TEST_SEED) -> list[TestItem]:
    """Return the first clips of a named test set, regenerated from the seed."""
    return [TestItem(u, Request(log_mel(c.waveform))) for u, c in examples(set_name, seed, count)]


def run_set(model: Any, vocabulary: Vocabulary, items: Sequence[TestItem]) -> SetResult:
    """Transcribe the items as they are requested."""
    parsed = [parse_answer(raw) for raw in transcribe(model, vocabulary, [item.request for item in items])]
    if any(item.request.prefix for item in items):
        parsed = [
            (item.utterance.language if item.request.prefix else language, text)
            for item, (language, text) in zip(items, parsed, strict=True)
        ]
    return SetResult(items, [language for language, _ in parsed], [text for _, text in parsed])


def with_request(item: TestItem, context: str = "", prefix: str = "") -> TestItem:
    """Return the item with another context or forced prefix."""
    return TestItem(item.utterance, Request(item.request.mel, context, prefix))


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
        invented = [i for i, item in enumerate(items) if is_invented(item.utterance)]
        report[label] = str(name_accuracy(result))
        report[f"{label}, error rate"] = str(result.score())
        if invented:
            part = SetResult([chosen[i] for i in invented], [""] * len(invented), [result.texts[i] for i in invented])
            report[f"{label}, invented names"] = str(name_accuracy(part))
    return report


def is_invented(utterance: Utterance) -> bool:
    """Tell whether a rare name comes from the syllable generator and not from the lists of known homophones."""
    known = {name for groups in GRAMMARS[utterance.language].name_groups for group in groups for name in group}
    return not any(token.split("|")[0] in known for token in utterance.rare_name.split())


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


def round_linears(model: nn.Module, bits: int, group: int) -> Any:
    """Return a copy whose linear weights are rounded to the nearest of 2**bits levels, one scale a group of inputs.

    The tied embedding table and the convolutions stay as they are; `group` 0 means one scale a row.
    """
    rounded = copy.deepcopy(model)
    for name, module in rounded.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("lm_head"):
            weight = module.weight.data
            grouped = weight.reshape(weight.shape[0], -1, group) if group else weight.unsqueeze(1)
            scale = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-9) / (2 ** (bits - 1) - 1)
            module.weight.data = (torch.round(grouped / scale) * scale).reshape(weight.shape)
    return rounded


ROUNDINGS: dict[str, tuple[int, int]] = {
    "int8 group 64": (8, 64),
    "int6 group 64": (6, 64),
    "int5 group 64": (5, 64),
    "int4 group 32": (4, 32),
    "int4 group 64": (4, 64),
    "int4 group 128": (4, 128),
    "int4 per row": (4, 0),
    "int3 group 64": (3, 64),
}


def measure_roundings(
    model: nn.Module, vocabulary: Vocabulary, items: Sequence[TestItem], say: Callable[[str], None]
) -> dict[str, str]:
    """Return the error rate of the model and of its rounded copies on the same clips."""
    report = {"bfloat16": str(run_set(model, vocabulary, items).score())}
    for label, (bits, group) in ROUNDINGS.items():
        report[label] = str(run_set(round_linears(model, bits, group), vocabulary, items).score())
        say(f"{label}: {report[label]}")
    return report


def report_set(result: SetResult) -> dict[str, str]:
    """Return the lines of the report for one speech set."""
    lines = {"all": str(result.score())}
    for language in LANGUAGES:
        lines[language] = str(result.score(language))
    lines["language id"] = str(result.language_id())
    exact = [i.utterance.text == text for i, text in zip(result.items, result.texts, strict=True)]
    lines["exact text"] = str(share(exact))
    return lines


def evaluate(model: Any, vocabulary: Vocabulary, count: int, say: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Run every measurement and return the report by set."""
    report: dict[str, dict[str, str]] = {}
    items = {name: make_items(name, count) for name in ("seen", "unseen", "clean", "long", "names")}
    for name in ("seen", "unseen", "clean", "long"):
        report[name] = report_set(run_set(model, vocabulary, items[name]))
        say(f"{name}: {report[name]}")
    quiet = run_set(model, vocabulary, make_items("nonspeech", count))
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
