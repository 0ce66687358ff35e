"""A draft and the judge's logits in, what the judge writes out: speculative decoding with greedy acceptance.

One pass of the judge over a whole draft gives its choice at every place. Up to the first place where it chooses another
token the draft is what it would have written itself, one token at a time; the choice at that place is its own, and so
is the one behind a draft that holds to the end. Whatever the draft is, what comes out is what the judge writes alone
(Leviathan et al. 2023, for the best token instead of a drawn one).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .choosing import Chooser, decide

__all__ = ["judge"]


def judge(
    choose: Chooser, logits: npt.NDArray[np.float32], draft: Sequence[int], written: Sequence[int], graph: Path
) -> tuple[list[int], list[float]]:
    """Return the tokens that the judge writes, as far as they rest on what it has agreed with, at least one.

    Args:
        choose: decides on every token.
        logits: (n, vocab) float32 of the judge: in front of the draft and behind its first n - 1 tokens. As many as
            the draft has tokens, or one more.
        draft: what was written instead of the judge.
        written: the ids that stand before the draft.
        graph: file of the judge, for errors.

    Returns:
        The tokens and their natural-log probabilities. All but the last are a beginning of the draft.

    Raises:
        BundleError: a probability is not a number.
    """
    known = [[*written, *draft[:n]] for n in range(len(logits))]
    tokens, logprobs = (values.tolist() for values in decide(choose, logits, known, graph))
    n_kept = next((n for n, token in enumerate(draft[: len(tokens)], 1) if token != tokens[n - 1]), len(tokens))
    return tokens[:n_kept], logprobs[:n_kept]
