"""What a language of the corpus is made of, and how a template becomes a string of tokens.

Flows in: sentence templates with ``{slot}`` marks. Flows out: one expanded string in which every slot has been filled.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

Rng: TypeAlias = np.random.Generator
Slot: TypeAlias = Sequence[str] | Callable[[Rng], str]
NameGroups: TypeAlias = list[list[str]]  # each group: one sound, several spellings, the default first

T = TypeVar("T")
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Grammar:
    """One language: its templates, vocabulary and homophone names."""

    language: str
    sentences: list[str]
    short: list[str]
    named: list[str]
    slots: dict[str, Slot]
    name_groups: tuple[NameGroups, NameGroups]
    joiner: str
    full_stop: str

    def expand(self, rng: Rng, template: str, **fixed: str) -> str:
        """Return the template with every ``{slot}`` drawn; slots named in `fixed` take the given value."""

        def fill(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in fixed:
                return fixed[name]
            slot = self.slots[name]
            value = slot(rng) if callable(slot) else pick(rng, slot)
            return self.expand(rng, value, **fixed)

        return SLOT.sub(fill, template)


def pick(rng: Rng, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(0, len(options)))]


def digits(rng: Rng, names: Sequence[str], shortest: int, longest: int) -> str:
    """Return a spelled digit string such as a telephone number, `shortest` to `longest` digits."""
    return " ".join(pick(rng, names) for _ in range(int(rng.integers(shortest, longest + 1))))


def few_digits(rng: Rng, names: Sequence[str], joiner: str) -> str:
    """Return a string of 3 to 9 digits of which only one to three differ: where a reader easily loses the place."""
    few = [pick(rng, names) for _ in range(int(rng.integers(1, 4)))]
    return joiner.join(pick(rng, few) for _ in range(int(rng.integers(3, 10))))
