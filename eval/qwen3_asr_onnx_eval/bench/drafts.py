"""How often drafts hold: seen on a trained model, and played back on random weights, where it would be an accident."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.model.choosing import Choice, greedy

__all__ = ["REJECTED", "Observed", "Replay", "rejected_places"]

REJECTED = 0.0024
"""Places where the judge writes another token than the draft has, per drafted token: the miniature's `fast` on its seen
and long clips (`python -m mini drafts`, 150 clips of each, entry 085)."""

TOKENS = 10
"""A played-back text counts up from here, within the smallest vocabulary, and never twice to the same number."""


def rejected_places(n_tokens: int, seed: int, rejected: float = REJECTED) -> frozenset[int]:
    """Return the places of a text of `n_tokens` where its draft does not hold, each as likely as any other."""
    drawn = np.random.default_rng(seed).random(n_tokens) < rejected
    return frozenset(np.flatnonzero(drawn).tolist())


class _Chooser:
    """Tells the calls that judge from those that draft, for one row at a time.

    `model/batch.py` drafts a token a call, each with one more written, and judges a draft in one call that begins where
    the draft did.

    Attributes:
        judged: whether the last call was a judgement.
    """

    def __init__(self) -> None:
        self.judged = False
        self._drafted = -1  # tokens that stood before the last drafted one

    def _tell(self, written: Sequence[Sequence[int]]) -> None:
        self.judged = bool(written[0]) and (len(written) > 1 or len(written[0]) == self._drafted)
        self._drafted = -1 if self.judged else len(written[0])


class Replay(_Chooser):
    """Writes made-up tokens, drafts wrong at given places and judges right.

    Attributes:
        places: places of the text, from 0, where the draft is wrong.
        verified: whether there is a judge.
    """

    def __init__(self, places: Collection[int], *, verified: bool) -> None:
        super().__init__()
        self.places = places
        self.verified = verified

    def __call__(self, logits: npt.NDArray[np.float32], written: Sequence[Sequence[int]], /) -> Choice:
        """Return the tokens to write; the logits are looked at as greedy decoding does."""
        _, logprobs = greedy(logits, written)
        self._tell(written)
        drafts = self.verified and bool(written[0]) and not self.judged
        tokens = [TOKENS + len(text) - (drafts and len(text) in self.places) for text in written]
        return np.array(tokens), logprobs


class Observed(_Chooser):
    """Greedy decoding of a verified variant that keeps count.

    Attributes:
        n_drafts: drafts judged.
        n_whole: of them, those that held to the end.
        held: of the others, how much of each draft held, 0 to 1.
        n_tokens: drafted tokens that were kept, or that the judge put its own in the place of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_drafts = self.n_whole = self.n_tokens = 0
        self.held: list[float] = []
        self._draft: list[int] = []

    def __call__(self, logits: npt.NDArray[np.float32], written: Sequence[Sequence[int]], /) -> Choice:
        """Return the best token of each row."""
        tokens, logprobs = greedy(logits, written)
        self._tell(written)
        if not written[0]:  # prefill, which the judge does itself
            self._draft = []
        elif not self.judged:
            self._draft.append(int(tokens[0]))
        else:
            right = [drafted == token for drafted, token in zip(self._draft, tokens.tolist(), strict=False)]
            kept = right.index(False) if False in right else len(right)
            self.n_drafts += 1
            self.n_tokens += min(kept + 1, len(right))
            if kept == len(right):
                self.n_whole += 1
            else:
                self.held.append(kept / len(right))
            self._draft = []
        return tokens, logprobs
