"""The command `qwen3-asr-onnx VERB`: finds the verb, runs it, turns errors into one line and an exit status.

The verbs that need no workshop are built in. Other verbs are plugged in by the workshops through the
entry-point group `qwen3_asr_onnx.commands`; only the verb asked for is imported, so `transcribe` never pays for what
`export` needs.

Exit status: 0 all well; 1 some input failed; 2 wrong usage, options or bundle; 128 and the number of the signal that
ended it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

from qwen3_asr_onnx.errors import Qwen3AsrError, import_errors_named

from . import align, get, info, models, pull, serve, stream, transcribe, worker
from .arguments import Parser, refuse_positional_model
from .command import EXIT_FAILED, EXIT_USAGE, Command
from .console import PROGRAM, abandon_stdout_if_broken, incomplete_display, say, show_warning, use_safe_encodings
from .delivery import reason
from .signals import ending_signals_raise, exit_status

__all__ = ["ended", "main", "parse_args", "run"]

GROUP = "qwen3_asr_onnx.commands"
BUILT_IN = {
    command.name: command
    for command in (
        transcribe.COMMAND,
        stream.COMMAND,
        align.COMMAND,
        get.COMMAND,
        models.COMMAND,
        info.COMMAND,
        pull.COMMAND,
        serve.COMMAND,
        worker.COMMAND,
    )
}
EXTRAS = {
    "export": "export",
    "quantize": "quantize",
    "sweep": "quantize",
    "bench": "eval",
    "eval": "eval",
    "report": "eval",
    "upload": "hub",
}
"""Plugged-in verb -> the extra that installs what it needs."""

EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as for any program whose reader went away


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: the entry point of `qwen3-asr-onnx`."""
    return ended(lambda: run(parse_args(sys.argv[1:] if argv is None else argv)))


def ended(call: Callable[[], int]) -> int:
    """Return the exit status of a call, whose errors and interrupts end in a line on stderr and a status of their own.

    Other command lines run verbs of ours by it.
    """
    use_safe_encodings()
    try:
        with ending_signals_raise(), warnings.catch_warnings():
            # Numbers that are none are told by name where they come from; numpy's own words would only come before.
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.showwarning = show_warning
            status = call()
        complaint = incomplete_display()
        if complaint is not None:
            say(f"error: {complaint}")
            status = status or EXIT_FAILED
        return status
    except KeyboardInterrupt as interrupt:
        say("interrupted")
        return exit_status(interrupt)
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except Qwen3AsrError as error:
        say(f"error: {error}")
        return EXIT_USAGE
    except OSError as error:
        say(f"error: {reason(error)}")
        return EXIT_FAILED
    finally:
        abandon_stdout_if_broken()


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; `.command` is the `Command` to run.

    Raises:
        OptionsError: a model stands where the first input should.
        SystemExit: wrong usage (2), or help or the version was asked for (0).
        MissingExtra: the verb is plugged in and a package it imports is missing.
    """
    parser = Parser(prog=PROGRAM, description="Speech to text with Qwen3-ASR on onnxruntime.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for command in _commands_for(argv[0] if argv else ""):
        subparser = verbs.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(command=command, parser=subparser)
    args, unknown = parser.parse_known_args(argv)
    refuse_positional_model(args, argv)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit status.

    Raises:
        Qwen3AsrError: the verb refuses; MissingExtra when a plugged-in verb lacks a package.
        OSError: files or stdout cannot be read or written.
    """
    command: Command = args.command
    if command.name in BUILT_IN:
        return command.run(args)
    with import_errors_named(command.name, _fix(command.name)):
        return command.run(args)


def _commands_for(first: str) -> Iterator[Command]:
    """Yield the verbs the parser must know when the command line begins with `first`."""
    yield from BUILT_IN.values()
    if first in BUILT_IN:
        return
    plugged_in = {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}
    if first in plugged_in:
        yield _load(plugged_in[first])
        return
    # Help, or a verb that does not exist: the parser will list them all, whether they can run here or not.
    for name in sorted(plugged_in):
        yield _load_for_listing(plugged_in[name])


def _load(point: EntryPoint) -> Command:
    with import_errors_named(point.name, _fix(point.name)):
        command = point.load()
    if not isinstance(command, Command):
        raise TypeError(f"{point.value} is a {type(command).__name__}; the group {GROUP} takes Command objects")
    return command


def _load_for_listing(point: EntryPoint) -> Command:
    try:
        return _load(point)
    except ImportError as error:  # even one that is a bug: the other verbs can still be listed
        # argparse formats help with %, so a literal one is doubled. The parser exits before anything is run.
        why = str(error).replace("%", "%%")
        return Command(point.name, f"not available: {why}", lambda _: None, lambda _: EXIT_USAGE)


def _fix(verb: str) -> str:
    """Return what to do where a verb misses a package."""
    extra = EXTRAS.get(verb)
    return f"pip install 'qwen3-asr-onnx[{extra}]'" if extra else "install what it needs"


def _version() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "(not installed)"
