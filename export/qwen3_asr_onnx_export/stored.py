"""The tensors of a checkpoint for the check of its export, by safetensors alone: by nothing that the export went by.

Names go the other way here: the check knows what it wants, and asks each layout for it by that layout's own name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["StoredTensors"]

ORIGINAL = "thinker."

NATIVE = {
    "audio_tower.proj1": "model.multi_modal_projector.linear_1",
    "audio_tower.proj2": "model.multi_modal_projector.linear_2",
    "audio_tower": "model.audio_tower",
    "model": "model.language_model",
}
"""Beginnings of names in the original layout, without its prefix, and in transformers' own; longer ones first."""

TABLE, HEADS = "model.embed_tokens.weight", ("lm_head.weight", "score.weight")


class StoredTensors:
    """Every tensor in the weight files of a folder."""

    def __init__(self, folder: Path) -> None:
        """List the tensors; the files are known to be sound."""
        import safetensors

        single = folder / "model.safetensors"
        if single.is_file():
            names = {single.name}
        else:
            index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
            names = set(index["weight_map"].values())
        self._file_of: dict[str, Path] = {}
        for name in sorted(names):
            with safetensors.safe_open(folder / name, framework="pt") as file:
                self._file_of.update(dict.fromkeys(file.keys(), folder / name))
        self._is_original = any(key.startswith(ORIGINAL) for key in self._file_of)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return rows [start, stop) of a tensor in float32, by its name in the original layout without prefix."""
        import safetensors

        key = self._stored_name(name)
        with safetensors.safe_open(self._file_of[key], framework="pt") as file:
            rows: torch.Tensor = file.get_slice(key)[start:stop]
            return rows.float()

    def head(self, start: int, stop: int, *, tied: bool) -> torch.Tensor:
        """Return rows of the head, which is the table where it is `tied` to it."""
        if tied:
            return self.rows(TABLE, start, stop)
        stored = [name for name in HEADS if self._stored_name(name) in self._file_of]
        return self.rows(stored[0], start, stop)

    def _stored_name(self, name: str) -> str:
        if self._is_original:
            return ORIGINAL + name
        for beginning, native in NATIVE.items():
            if name.startswith(f"{beginning}."):
                return native + name[len(beginning) :]
        return name
