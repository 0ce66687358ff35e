"""Logits in, the next token of every row out: the one place where the model's answer is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Choice", "Chooser", "Denial", "greedy"]

Choice: TypeAlias = tuple[npt.NDArray[np.integer], npt.NDArray[np.floating]]
"""The token of each row, (rows,), and its natural-log probability, (rows,)."""


class Chooser(Protocol):
    """Chooses the next tokens of a batch. Rows come and go: what it knows about a row is what the row has written."""

    def __call__(self, logits: npt.NDArray[np.float32], written: Sequence[Sequence[int]], /) -> Choice:
        """Return the next token of each row.

        Args:
            logits: (rows, vocab) float32; may be overwritten.
            written: the ids that each row has generated so far.
        """
        ...


def greedy(logits: npt.NDArray[np.float32], _written: Sequence[Sequence[int]] = ()) -> Choice:
    """Return the best token of each row (rows, vocab), and its natural-log probability."""
    tokens = logits.argmax(axis=-1)
    best = logits[np.arange(len(logits)), tokens]
    # log softmax at the maximum is minus the log of the sum of exp(x - max).
    logprobs = -np.log(np.exp(logits - best[:, None]).sum(axis=-1, dtype=np.float64))
    return tokens, logprobs


@dataclass(frozen=True, slots=True)
class Denial:
    """How a model that was told the language would have said that nobody speaks.

    Forced or not, it names the language before the transcript. What it would have named is known from the same pass:
    from the logits at the position in front of the name.

    Attributes:
        back: how many positions before the last one of the prompt that is.
        token: what it would have written there for nobody.
    """

    back: int
    token: int

    def holds(self, logits: npt.NDArray[np.float32]) -> bool:
        """Return whether the model would have said so; (vocab,) logits of that position."""
        return int(logits.argmax()) == self.token
