"""Where PyInstaller finds what it has to know of this package: the entry point `pyinstaller40` leads here."""

from __future__ import annotations

from pathlib import Path

__all__ = ["hook_folders"]


def hook_folders() -> list[str]:
    """Return the folders that hold hooks."""
    return [str(Path(__file__).parent / "hooks")]
