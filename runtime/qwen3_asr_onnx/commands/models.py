"""The verb `models`: the model store in, a table of it out; or one model made the default, or removed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from qwen3_asr_onnx.bundle.choices import home
from qwen3_asr_onnx.bundle.store import Entry, Family, default_name, entries, remove, set_default
from qwen3_asr_onnx.bundle.writing import readable_bytes
from qwen3_asr_onnx.errors import OptionsError

from .command import EXIT_OK, Command
from .console import emit, say

__all__ = ["COMMAND", "add_arguments", "run"]

ACTIONS = ("list", "default", "remove")
HEADER = ("name", "kind", "size", "variants", "default", "from")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `models` to its parser."""
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="what to do (default: list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the model that becomes its kind's default, or goes")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no messages")


def run(args: argparse.Namespace) -> int:
    """Do what is asked and return the exit status.

    Raises:
        BundleError: there is no such model, it is broken or being made; or the store cannot be written.
        OptionsError: a name is missing, or one too many.
    """
    if (args.name is None) != (args.action == "list"):
        fault = "takes no name" if args.action == "list" else "needs the name of a model"
        raise OptionsError(f"models {args.action} {fault}; qwen3-asr-onnx models lists them")
    if args.action == "list":
        _list(entries(), as_json=args.json, quiet=args.quiet)
        return EXIT_OK
    if args.action == "default":
        family = set_default(args.name)
        message = f"{args.name} is the default {_purpose(family)} now"
    else:
        size = remove(args.name)
        message = f"{args.name} is removed; {readable_bytes(size)} are free again"
    if not args.quiet:
        say(message)
    return EXIT_OK


def _list(models: Sequence[Entry], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        emit(json.dumps([_fields(entry) for entry in models], ensure_ascii=False, indent=2) + "\n")
        return
    if models:
        emit(_table([HEADER, *map(_row, models)]))
    if quiet:
        return
    for entry in models:
        if entry.problem:
            say(
                f"warning: {entry.name} is broken: {entry.problem}; or remove it: "
                f"qwen3-asr-onnx models remove {entry.name}"
            )
    if not models:
        say(f"no models in {home()}; get one: qwen3-asr-onnx get Qwen/Qwen3-ASR-0.6B")
    families: tuple[Family, ...] = ("asr", "aligner")
    for family in families:
        if default_name(family) is None and any(_kind(entry) == family for entry in models):
            say(f"no {_purpose(family)} is the default; choose one: qwen3-asr-onnx models default NAME")


def _fields(entry: Entry) -> dict[str, Any]:
    origin = entry.origin
    return {
        "name": entry.name,
        "path": str(entry.path),
        "kind": _kind(entry),
        "size": entry.size,
        "variants": list(entry.manifest.variants) if entry.manifest else [],
        "default": entry.is_default,
        "source": origin.source if origin else None,
        "revision": (origin.revision or None) if origin else None,
        "problem": entry.problem or None,
    }


def _row(entry: Entry) -> tuple[str, ...]:
    variants = ", ".join(entry.manifest.variants) if entry.manifest else "-"
    origin = entry.origin.source if entry.origin else "-"
    default = "default" if entry.is_default else "-"
    return entry.name, _kind(entry), readable_bytes(entry.size), variants or "-", default, origin


def _kind(entry: Entry) -> str:
    return "broken" if entry.problem or entry.manifest is None else entry.manifest.kind


def _purpose(family: Family) -> str:
    return "model" if family == "asr" else "aligner"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


COMMAND = Command("models", "list the models of this machine, choose the default, remove one", add_arguments, run)
