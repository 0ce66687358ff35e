"""Scaling results over time: one line per run, and a check that no figure got slower.

Figures are kept as floors (measured time over the machine's own limit), so that runs on machines of different speed, or
on a bad day, can be compared: what is checked is a ratio of ratios.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.errors import OptionsError

__all__ = ["TOLERANCE", "Regression", "append_history", "find_regressions", "read_history"]

TOLERANCE = 1.25
"""A figure is a regression from this ratio on: repeated runs on a shared machine differ by up to a fifth."""

WINDOW = 5
"""Runs whose median a new one is compared with."""


@dataclass(frozen=True, slots=True)
class Regression:
    """One figure that got slower: `now` and `before` in floors, `ratio` between them."""

    figure: str
    now: float
    before: float
    n_before: int

    @property
    def ratio(self) -> float:
        """How many times slower."""
        return self.now / self.before

    def __str__(self) -> str:
        return (
            f"{self.figure}: {self.now:.2f} floors, {self.ratio:.2f} times the {self.before:.2f} of "
            f"{self.n_before} earlier run{'s' if self.n_before > 1 else ''}"
        )


def append_history(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """Add one line for a run to the history and return it."""
    entry = {
        "started": results["started"],
        "commit": results["commit"],
        "model": results["model"],
        "cpu": results["machine"]["cpu"],
        "cores": results["machine"]["cores"],
        "onnxruntime": results["versions"]["onnxruntime"],
        "floors": {
            f"{one['variant']} x{one['threads']} {one['what']}, {one['audio_s']:g} s, batch {one['batch']}": round(
                one["seconds"] / one["floor_s"], 4
            )
            for one in results["figures"]
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(measured_json(entry) + "\n")
    return entry


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history, oldest first; none where there is no such file.

    Raises:
        OptionsError: a line is not one of a history.
    """
    if not path.exists():
        return []
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            entry["floors"].items()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise OptionsError(f"{path}:{number}: not a line of a benchmark history ({error}); remove it") from error
        entries.append(entry)
    return entries


def find_regressions(entry: dict[str, Any], earlier: list[dict[str, Any]]) -> list[Regression]:
    """Return the figures of a run that are slower than the median of the last runs of the same model, worst first."""
    same = [one for one in earlier if one["model"] == entry["model"]][-WINDOW:]
    found = []
    for figure, now in entry["floors"].items():
        before = [one["floors"][figure] for one in same if figure in one["floors"]]
        if before and now > TOLERANCE * median(before):
            found.append(Regression(figure, now, median(before), len(before)))
    return sorted(found, key=lambda one: one.ratio, reverse=True)
