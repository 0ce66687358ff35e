"""How output files are called: a template and an input in, the name of a file out."""

from __future__ import annotations

import argparse
import string
from collections.abc import Mapping

__all__ = ["FIELDS", "add_naming_arguments", "fill_template", "name_template"]

FIELDS: Mapping[str, str] = {
    "stem": "the input's name without its suffix",
    "name": "the input's name",
    "parent": "the folder it lies in",
    "lang": "code of the language that was asked for",
    "ext": "the format",
}
"""What a template may hold."""


def add_naming_arguments(output: argparse._ArgumentGroup) -> None:
    """Add the arguments that decide how results are called."""
    names = output.add_mutually_exclusive_group()
    names.add_argument(
        "--keep-extension", action="store_true", help="call the result of a.mp3 a.mp3.txt: a.wav may lie beside it"
    )
    fields = "; ".join(f"{{{name}}} is {meaning}" for name, meaning in FIELDS.items())
    names.add_argument(
        "--name-template", metavar="NAME", type=name_template, help=f"as '{{stem}}.{{lang}}.{{ext}}'. {fields}"
    )


def name_template(text: str) -> str:
    """Return a template that makes a name of its own for every format; the `type` of an argument."""
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    for literal, field, specification, conversion in parts:
        if "/" in literal or "\\" in literal:
            raise argparse.ArgumentTypeError(f"{text!r} names a folder; give the name of a file, and --output-dir")
        if field is not None and (field not in FIELDS or specification or conversion):
            offers = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise argparse.ArgumentTypeError(f"{text!r}: there is no field {{{field}}}; there are {offers}")
    if "ext" not in {field for _, field, _, _ in parts}:
        raise argparse.ArgumentTypeError(
            f"{text!r} gives all formats one name; add {{ext}}, as in {{stem}}.{{lang}}.{{ext}}"
        )
    return text


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """Return the name that a template of `name_template` makes."""
    return template.format_map(values)
