"""What this machine offers, and every place on it that the program writes to without being told where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.choices import home
from qwen3_asr_onnx.bundle.prepared import prepared_folder, prepared_size
from qwen3_asr_onnx.bundle.writing import readable_bytes
from qwen3_asr_onnx.errors import MissingExtra
from qwen3_asr_onnx.model import session

from .state import state_folder

__all__ = ["Machine", "table", "this_machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers.

    Attributes:
        cpus: CPUs this process may use.
        onnxruntime: its version; None when it is not installed.
        providers: its execution providers, best first.
        hint: how to install onnxruntime when it is missing, else "".
        places: what is kept -> where; none of the folders need exist.
    """

    cpus: int
    onnxruntime: str | None
    providers: tuple[str, ...]
    hint: str = ""
    places: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the description ready for `json.dumps`."""
        return asdict(self)

    def to_lines(self) -> list[str]:
        """Return the description for people to read."""
        installed = self.onnxruntime or f"not installed; {self.hint}"
        rows = [("cpus", str(self.cpus)), ("onnxruntime", installed)]
        if self.providers:
            rows.append(("providers", ", ".join(self.providers)))
        places = dict(self.places)
        size = prepared_size()
        if size:
            places["warm start"] += f" ({readable_bytes(size)}; may be deleted at any time)"
        kept = ["kept between runs", *(f"  {row}" for row in table(*places.items()))]
        return ["this machine", *(f"  {row}" for row in table(*rows)), *kept]


def this_machine() -> Machine:
    """Return what this machine offers; a missing onnxruntime is part of the answer, not an error."""
    cpus = session.usable_cores()
    try:
        return Machine(cpus, session.runtime_version(), session.available_providers(), places=_places())
    except MissingExtra as error:
        return Machine(cpus, None, (), str(error), _places())


def table(*rows: tuple[str, str]) -> list[str]:
    """Return rows of a name and a value as lines."""
    return [f"{key:<11}  {value}" for key, value in rows]


def _places() -> dict[str, str]:
    hub = os.environ.get("HF_HUB_CACHE") or str(
        Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()) / "hub"
    )
    return {
        "models": str(home()),
        "warm start": str(prepared_folder()),
        "journals": str(state_folder()),
        "hub": hub,
    }
