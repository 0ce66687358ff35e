"""One prompt on its way through a batch, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from qwen3_asr_onnx.results import End
from qwen3_asr_onnx.text.loops import ends_in_loop

from .choosing import Denial
from .embeddings import Embedded

__all__ = ["MOST_DRAFTED", "Generated", "Joining", "Key", "Row", "Watch"]

Watch: TypeAlias = Callable[[Sequence[int]], bool]
"""Called with all ids of a row after each new one; True ends the row. It sees the live list: copy what is kept."""

Key = TypeVar("Key")

MOST_DRAFTED = 48
"""A draft this long is judged: what comes behind the first difference was written for nothing."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model wrote for one prompt.

    Attributes:
        token_ids: generated ids, the stop token excluded.
        logprobs: natural-log probability of each of them; of the stop token too, as the last, where one was written.
        end: why the row ended.
        prefill_s: seconds spent on the prompt.
        decode_s: this row's share of the seconds spent on steps.
        n_passes: how often a draft was judged.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    end: End
    prefill_s: float = 0.0
    decode_s: float = 0.0
    n_passes: int = 0


@dataclass(slots=True)
class Row(Generic[Key]):
    """A prompt on its way.

    Attributes:
        key: what its owner knows it by.
        length: valid positions in the cache.
        limit: most tokens to generate.
        eos: ids that end it.
        watch: sees the ids after each new one; True ends it.
        token: the last token chosen, the first that is not in the cache yet but as part of a draft.
        ids: tokens generated, the stop token excluded.
        logprobs: of all tokens chosen.
        end: why it ended; None while it runs.
        prefill_s: seconds spent on the prompt.
        decode_s: its share of the seconds spent on steps.
        draft: what the step graph wrote behind `token` and nobody has judged yet. `token` and all of it but the last
            are the last positions in the cache.
        n_passes: how often a draft was judged.
    """

    key: Key
    length: int
    limit: int
    eos: frozenset[int]
    watch: Watch | None
    token: int = -1
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    end: End | None = None
    prefill_s: float = 0.0
    decode_s: float = 0.0
    draft: list[int] = field(default_factory=list)
    n_passes: int = 0

    @property
    def unread(self) -> int:
        """The token that the next step reads."""
        return self.draft[-1] if self.draft else self.token

    @property
    def written(self) -> list[int]:
        """All ids behind the prompt, judged or not."""
        return [*self.ids, *self.draft] if self.draft else self.ids

    @property
    def drafts_on(self) -> bool:
        """Whether its draft may become longer before it is judged."""
        full = len(self.draft) >= MOST_DRAFTED or len(self.written) >= self.limit
        return not full and self.draft[-1] not in self.eos and not ends_in_loop(self.written)

    def accept(self, token: int, logprob: float) -> None:
        """Take the next token and settle whether it is the last."""
        self.token = token
        self.logprobs.append(logprob)
        if token in self.eos:
            self.end = "stop_token"
            return
        self.ids.append(token)
        if self.watch is not None and self.watch(self.ids):
            self.end = "watch"
        elif len(self.ids) >= self.limit:
            self.end = "limit"

    def result(self) -> Generated:
        """Return what it generated, once it has ended."""
        assert self.end is not None
        return Generated(tuple(self.ids), tuple(self.logprobs), self.end, self.prefill_s, self.decode_s, self.n_passes)


@dataclass(slots=True)
class Joining(Generic[Key]):
    """A prompt that is being read, on its way into a batch.

    Attributes:
        row: what it becomes.
        place: its row of the cache.
        prompt: (n_tokens, hidden) float32.
        shared: token ids at its start that other prompts may begin with.
        denial: how the model would say that nobody speaks, if that is to be looked for.
        n_read: positions that are in the cache.
    """

    row: Row[Key]
    place: int
    prompt: Embedded
    shared: tuple[int, ...]
    denial: Denial | None
    n_read: int = 0

    @property
    def n_logits(self) -> int:
        """Of how many of the last positions the logits are looked at; they must be read together."""
        return 1 if self.denial is None else 1 + self.denial.back

    def next_count(self, most: int | None) -> int:
        """Return how many positions to read next, so that all parts are about alike and none is longer than `most`."""
        left = len(self.prompt) - self.n_read
        if most is None:
            return left
        n_parts = math.ceil(left / max(most, self.n_logits))
        count = math.ceil(left / n_parts)
        return left if left - count < self.n_logits else count
