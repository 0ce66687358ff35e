"""Two runs -> what changed: paired tests system by system, and the utterances that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx_eval.results.rows import ResultRow

from .intervals import holm
from .summary import Pair, Summary, compare_pair, score_row

__all__ = ["Change", "Comparison", "compare_runs"]


@dataclass(frozen=True, slots=True)
class Change:
    """One system before and after.

    Attributes:
        pair: the paired test, first = before, second = after.
        rows: before and after of every utterance whose number of errors changed, the largest change first.
        n_other: utterances that only one of the runs has, or that differ in samples or reference.
        n_better: utterances with fewer errors after.
        n_worse: utterances with more errors after.
    """

    pair: Pair
    rows: Sequence[tuple[ResultRow, ResultRow]]
    n_other: int
    n_better: int
    n_worse: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs and the systems that both hold.

    Attributes:
        before: the earlier run.
        after: the later run.
        changes: one for each system compared.
        only_before: systems of the first run alone.
        only_after: systems of the second run alone.
    """

    before: Summary
    after: Summary
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def compare_runs(before: Summary, after: Summary) -> Comparison:
    """Return what changed between two runs: systems are matched by name, or are the only one on each side.

    Raises:
        OptionsError: no system or no utterance in common.
    """
    names_before, names_after = before.results.systems, after.results.systems
    common = [(name, name) for name in names_before if name in names_after]
    if not common and len(names_before) == len(names_after) == 1:
        common = [(names_before[0], names_after[0])]
    changes = [_change(before, one, after, other) for one, other in common]
    found = [change for change in changes if change is not None]
    if not found:
        raise OptionsError(
            f"the runs have nothing in common: systems {', '.join(names_before)} and {', '.join(names_after)}, "
            f"datasets {before.results.header.dataset} and {after.results.header.dataset}"
        )
    adjusted = holm([change.pair.test.p for change in found])
    return Comparison(
        before,
        after,
        tuple(replace(c, pair=replace(c.pair, p_adjusted=p)) for c, p in zip(found, adjusted, strict=True)),
        tuple(name for name in names_before if name not in {one for one, _ in common}),
        tuple(name for name in names_after if name not in {other for _, other in common}),
    )


def _change(before: Summary, name_before: str, after: Summary, name_after: str) -> Change | None:
    rows_before = [row for row in before.results.rows if row.system == name_before]
    rows_after = [row for row in after.results.rows if row.system == name_after]
    pair = compare_pair(f"{name_before} (before)", rows_before, f"{name_after} (after)", rows_after)
    if pair is None:
        return None
    later = {row.id: row for row in rows_after}
    both = [
        (replace(row, system=pair.first), replace(later[row.id], system=pair.second))
        for row in rows_before
        if row.id in later
        and (row.reference, row.audio_sha256) == (later[row.id].reference, later[row.id].audio_sha256)
    ]
    steps = [(score_row(b).errors - score_row(a).errors, a, b) for a, b in both]
    moved = sorted((step for step in steps if step[0]), key=lambda step: abs(step[0]), reverse=True)
    ids = {row.id for row in rows_before} | set(later)
    return Change(
        pair,
        [(a, b) for _, a, b in moved],
        len(ids) - len(both),
        sum(step < 0 for step, _, _ in moved),
        sum(step > 0 for step, _, _ in moved),
    )
