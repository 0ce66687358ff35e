"""The recipes that come with the package. Nothing heavy is imported: `--help` lists them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["published_recipes"]


def published_recipes() -> dict[str, str]:
    """Return the TOML text of the recipes that come with the package, by name."""
    folder = resources.files(__package__)
    found = {Path(entry.name).stem: entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}
