"""What a model must not get away with: loops, and words that nobody said. Ids and text in, verdicts out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .scripts import SPACELESS

__all__ = ["ends_in_loop", "is_context_leak", "trim_loop"]

LOOP_TOKENS, LOOP_COPIES, LOOP_PERIOD = 30, 4, 48
"""A loop is at least 4 copies and 30 tokens of a pattern of at most 48: some 10 s of speech said word for word again.
A chorus can do that; but a loop is decoded again in two halves before anything is dropped, and a chorus passes then."""

_UNITS = re.compile(rf"(?=\w)[{SPACELESS}]|[^\W{SPACELESS}]+")
"""A word, or one character of a script without spaces between words."""


def ends_in_loop(ids: Sequence[int]) -> bool:
    """Return whether generated ids end in copies of one pattern: the model will not stop by itself. A decoder watch."""
    return bool(_loop_period(ids))


def trim_loop(ids: Sequence[int]) -> Sequence[int]:
    """Return the ids up to the first copy of the pattern they end in; all of them when they do not loop."""
    period = _loop_period(ids)
    if not period:
        return ids
    end = len(ids)
    while end > period and ids[end - 1] == ids[end - 1 - period]:
        end -= 1
    return ids[:end]


def _loop_period(ids: Sequence[int]) -> int:
    """Return the length of the shortest pattern that the ids end in copies of, 0 for none."""
    if len(ids) < LOOP_TOKENS:
        return 0
    for period in range(1, min(LOOP_PERIOD, len(ids) // LOOP_COPIES) + 1):
        if ids[-1] != ids[-1 - period]:
            continue
        n_tokens = period * max(LOOP_COPIES, -(-LOOP_TOKENS // period))
        tail = ids[-n_tokens:]
        if len(tail) == n_tokens and tail[period:] == tail[:-period]:
            return period
    return 0


def is_context_leak(text: str, context: str, *, near_silent: bool) -> bool:
    """Return whether a transcript is made of the context instead of the audio.

    Decided by two signs together: every word of the text occurs in the context, and the audio is near-silent. Either
    alone proves nothing: names from the context are what a speaker is expected to say.

    Args:
        text: the transcript of one piece.
        context: the background text the model was given.
        near_silent: whether the piece holds nothing that could be speech (`speech.activity.is_near_silent`).
    """
    words = set(_UNITS.findall(text.casefold()))
    return near_silent and bool(words) and words <= set(_UNITS.findall(context.casefold()))
