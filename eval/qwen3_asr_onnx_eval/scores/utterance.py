"""One utterance's reference and hypothesis -> counts and alignment, by jiwer.

Decided in the open: an utterance with an empty hypothesis counts all its units as deleted; a system that failed wrote
nothing, so it counts like an empty hypothesis (and is counted apart as well); references without speech have no units,
so they are left out of error rates and make the hallucination rate instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import jiwer

from .normalize import normalizer_for

__all__ = ["Edit", "EditKind", "UtteranceScore", "score_utterance"]

EditKind: TypeAlias = Literal["equal", "substitute", "delete", "insert"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One run of units of an alignment; one of the two sides is empty for deletions and insertions."""

    kind: EditKind
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """Counts of one utterance, in units (words or characters, see `Normalizer.unit`).

    Attributes:
        hits: units that are right.
        substitutions: units replaced by another.
        deletions: units of the reference that are missing.
        insertions: units of the hypothesis that were not said.
        edits: the alignment, in order.
        normalizer: name and version of what made the strings comparable.
        unit: "word" or "character".
    """

    hits: int
    substitutions: int
    deletions: int
    insertions: int
    edits: tuple[Edit, ...]
    normalizer: str
    unit: str

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def n_units(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def n_hypothesis_units(self) -> int:
        """Units of the hypothesis."""
        return self.hits + self.substitutions + self.insertions


def score_utterance(reference: str, hypothesis: str, language: str) -> UtteranceScore:
    """Return the counts and the alignment of one utterance.

    Args:
        reference: what was said, as written in the dataset.
        hypothesis: what a system wrote.
        language: of the reference, "" if unknown; decides the normaliser.
    """
    normalizer = normalizer_for(language)
    said, heard = normalizer.apply(reference), normalizer.apply(hypothesis)
    measure = jiwer.process_words if normalizer.unit == "word" else jiwer.process_characters
    found = measure(said, heard)
    return UtteranceScore(
        hits=found.hits,
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
        edits=tuple(
            Edit(
                cast(EditKind, chunk.type),
                tuple(found.references[0][chunk.ref_start_idx : chunk.ref_end_idx]),
                tuple(found.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx]),
            )
            for chunk in found.alignments[0]
        ),
        normalizer=normalizer.name,
        unit=normalizer.unit,
    )
