"""Test sets as requests, and what a model answers to them.

Flows in: the name of a set. Flows out: `TestItem` values, and after a run a `SetResult` that scores itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mini.language.vocabulary import Vocabulary
from mini.measuring.score import Score, score, share
from mini.measuring.transcribe import Request, parse_answer, transcribe
from mini.speech.corpus import NO_LANGUAGE, Utterance, examples
from mini.speech.features import log_mel


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


def make_items(set_name: str, count: int, seed: int) -> list[TestItem]:
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
