"""Logits in, the next token of every row out: the one place where the model's answer is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError

__all__ = ["Choice", "Chooser", "Denial", "decide", "greedy", "refuse_nan"]

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
    tokens = logits.argmax(axis=-1)  # of a row that holds NaN, the first NaN
    sums = np.empty(len(logits))
    with np.errstate(invalid="ignore"):  # infinity less infinity: NaN, which `decide` refuses
        # Row by row: the cache of a core holds one, and a judged draft has 40 of them (75 MB, and twice the time).
        for i, (row, token) in enumerate(zip(logits, tokens.tolist(), strict=True)):
            shifted = row - row[token]
            sums[i] = np.exp(shifted, out=shifted).sum(dtype=np.float64)
        # log softmax at the maximum is minus the log of the sum of exp(x - max).
        logprobs = -np.log(sums)
    return tokens, logprobs


def decide(choose: Chooser, logits: npt.NDArray[np.float32], written: Sequence[Sequence[int]], graph: Path) -> Choice:
    """Return what `choose` makes of logits (rows, vocab), known to rest on numbers.

    Raises:
        BundleError: a probability is none, because the weights of the `graph` that gave the logits are damaged.
    """
    choice = choose(logits, written)
    refuse_nan(choice[1], "logits", graph)
    return choice


def refuse_nan(values: npt.NDArray[np.floating], what: str, graph: Path) -> None:
    """Raise where an array that a graph gave, or that was made of one, holds NaN or infinity.

    Raises:
        BundleError: it does.
    """
    if not np.isfinite(values).all():
        raise BundleError(
            f"{graph}: the {what} that this graph gives are not numbers (NaN or infinity): its weights are damaged; "
            f"check them with: qwen3-asr-onnx info --verify {graph.parent}"
        )


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
