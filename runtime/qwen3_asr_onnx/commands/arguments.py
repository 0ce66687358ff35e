"""How arguments are read: a parser whose complaints are one line, and the values that several verbs take."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from qwen3_asr_onnx.outputs.writers import FORMATS

from .command import EXIT_USAGE
from .console import say

__all__ = ["ALL", "Parser", "at_least_one", "format_names", "utf8_text"]

ALL = "all"
"""What stands for every format."""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and where to read more."""

    def error(self, message: str) -> NoReturn:
        """Say it on stderr and exit with the status of wrong usage."""
        say(f"error: {' '.join(message.split())}; see {self.prog} --help")
        self.exit(EXIT_USAGE)


def format_names(text: str) -> list[str]:
    """Return the formats that are meant by names with commas between them, or by "all"."""
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in FORMATS and name != ALL:
            raise argparse.ArgumentTypeError(f"unknown format {name!r}; choose from {', '.join(FORMATS)}, {ALL}")
    return list(FORMATS) if ALL in names else names


def at_least_one(text: str) -> int:
    """Return a whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def utf8_text(given: str) -> str:
    """Return words as they were typed: in a locale without an encoding for them Python hands over their bytes."""
    if not any("\udc80" <= character <= "\udcff" for character in given):
        return given
    try:
        return os.fsencode(given).decode("utf-8")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{given!a} is not UTF-8") from None
