"""How arguments are read: a parser whose complaints are one line, and the values that several verbs take."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from qwen3_asr_onnx.bundle.hub import OFFICIAL
from qwen3_asr_onnx.bundle.store import find, got_from, is_bundle
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.model.session import DEVICES
from qwen3_asr_onnx.outputs.writers import FORMATS

from .command import EXIT_USAGE
from .console import PROGRAM, say

__all__ = [
    "ALL",
    "MODEL_FORMS",
    "Parser",
    "add_aligner_arguments",
    "add_model_arguments",
    "at_least_one",
    "format_names",
    "refuse_positional_model",
    "utf8_text",
]

ALL = "all"
"""What stands for every format."""

MODEL_FORMS = "NAME|DIR|OWNER/NAME"
"""How a model is named: one of the store, a bundle's directory, or a bundle on the hub."""


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


def add_model_arguments(parser: argparse.ArgumentParser, first_input: str) -> argparse._ArgumentGroup:
    """Add what chooses a model and where it runs, and return the group, for what else a verb loads.

    Args:
        parser: that of the verb.
        first_input: name of the verb's first positional, which `refuse_positional_model` looks at.
    """
    model = parser.add_argument_group("model")
    model.add_argument(
        "-m",
        "--model",
        metavar=MODEL_FORMS,
        help="model of the store, bundle's directory, or bundle on the hub (default: as `models` shows it)",
    )
    model.add_argument("--variant", help="variant of the model, as `info` lists them (default: its first)")
    model.add_argument("--device", choices=DEVICES, default="cpu", help="where to run (default cpu)")
    model.add_argument("--threads", metavar="N", type=at_least_one, help="CPU threads (default: one per core)")
    parser.set_defaults(first_input=first_input)
    return model


def add_aligner_arguments(group: argparse._ArgumentGroup) -> None:
    """Add what loads a forced aligner beside the model, for a verb that is asked later what to time.

    `args.aligner` is then the name that was given, True for the default one, or False.
    """
    group.add_argument(
        "--aligner",
        metavar=MODEL_FORMS,
        nargs="?",
        const=True,
        default=False,
        help="load a forced aligner, for word times (alone: as `models` shows it)",
    )
    group.add_argument("--aligner-variant", metavar="VARIANT", help="variant of the aligner (default: its first)")


def refuse_positional_model(args: argparse.Namespace, argv: Sequence[str]) -> None:
    """Refuse a model where a verb that takes `-m` expects its first input.

    Args:
        args: what was parsed.
        argv: the command line it was parsed from, the verb first.

    Raises:
        OptionsError: the first input is a model; the message shows the line to type.
    """
    given = getattr(args, getattr(args, "first_input", ""), None)
    first = next(iter(given), None) if isinstance(given, list) else given
    if not isinstance(first, str) or first not in argv or first.startswith("-"):
        return
    path = Path(first)
    try:
        is_model = (
            is_bundle(path) if path.exists() else find(first) is not None or first in OFFICIAL or bool(got_from(first))
        )
    except (OSError, ValueError):
        return  # no file can have that name
    if is_model:
        rest = [word for i, word in enumerate(argv[1:], 1) if i != argv.index(first, 1)]
        line = shlex.join([PROGRAM, argv[0], "-m", first, *rest])
        raise OptionsError(f"{first} is a model, which is named with -m: {line}")
