"""The verb `stream`: a microphone, a pipe of samples or a file in; text out while it is spoken.

Committed text goes to stdout as it is committed, one line per segment; words that may still change are shown on a
terminal only. Whatever ends the input - the end of a pipe, Ctrl-C, a microphone that was unplugged - what was heard by
then is finished first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.audio.blocks import AudioStream, check_rate
from qwen3_asr_onnx.audio.microphone import list_microphones, open_microphone
from qwen3_asr_onnx.audio.raw_pcm import PCM_FORMATS, open_pcm
from qwen3_asr_onnx.errors import AudioError, OptionsError
from qwen3_asr_onnx.options import StreamOptions, TranscribeOptions
from qwen3_asr_onnx.stream.stream import POLICIES

from .arguments import add_model_arguments, utf8_text
from .command import EXIT_FAILED, EXIT_OK, Command
from .console import emit, say, show_warning
from .live_text import Display, JsonLines, Lines
from .remarks import about_untagged
from .signals import exit_status, handled_by

if TYPE_CHECKING:
    from qwen3_asr_onnx.stream.stream import Stream
    from qwen3_asr_onnx.stream.updates import StreamUpdate
    from qwen3_asr_onnx.transcriber import Transcriber

__all__ = ["COMMAND", "add_arguments", "load_transcriber", "run"]

DEFAULTS = StreamOptions()

LATE_S = 10.0
"""How far behind its input the stream may fall before the user is told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stream` to its parser."""
    parser.add_argument(
        "input", metavar="INPUT", nargs="?", help="audio file or URL, or - for samples on stdin (default: a microphone)"
    )

    source = parser.add_argument_group("input")
    source.add_argument("--microphone", metavar="NAME", help="number or part of the name (default: the system's)")
    source.add_argument("--list-microphones", action="store_true", help="list the microphones and exit")
    source.add_argument(
        "--fast", action="store_true", help="read a file as fast as possible, not as it would be spoken"
    )
    source.add_argument("--rate", metavar="HZ", type=int, default=SAMPLE_RATE, help="of stdin (default %(default)s)")
    source.add_argument(
        "--sample-format", choices=sorted(PCM_FORMATS), default="s16le", help="of stdin (default %(default)s)"
    )
    source.add_argument("--channels", metavar="N", type=int, default=1, help="of stdin (default %(default)s)")

    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object per update instead of text")
    output.add_argument("-q", "--quiet", action="store_true", help="no tentative words on the terminal, no messages")

    add_model_arguments(parser, "input")

    speech = parser.add_argument_group("speech")
    speech.add_argument("-l", "--language", type=utf8_text, help='name or code, as "English" or "en" (default: detect)')
    speech.add_argument(
        "--context", metavar="TEXT", type=utf8_text, default="", help="background, such as names that may occur"
    )
    speech.add_argument("--policy", choices=list(POLICIES), default=DEFAULTS.policy, help="see the README")
    speech.add_argument(
        "--split",
        choices=["energy", "vad"],
        default="energy",
        help="what tells speech from silence: loudness, or voice activity detection (default %(default)s)",
    )
    speech.add_argument(
        "--chunk-seconds",
        metavar="S",
        type=float,
        default=DEFAULTS.chunk_s,
        help="how much new audio makes a new hypothesis (default %(default)g)",
    )


def load_transcriber(args: argparse.Namespace) -> Transcriber:
    """Open the model the arguments name. Tests put a stand-in here."""
    from qwen3_asr_onnx.transcriber import Transcriber

    return Transcriber.from_pretrained(args.model, variant=args.variant, device=args.device, threads=args.threads)


def run(args: argparse.Namespace) -> int:
    """Transcribe a live input and return the exit status.

    Raises:
        Qwen3AsrError: the options, the bundle, the device or the input as a whole are wrong.
        OSError: stdout cannot take the text.
    """
    if args.list_microphones:
        emit("".join(f"{line}\n" for line in list_microphones()))
        return EXIT_OK
    if args.channels < 1:
        raise OptionsError(f"--channels is {args.channels}; give at least 1")
    if args.input == "-":
        _check_rate(args.rate)
    options = TranscribeOptions(language=args.language, context=args.context, split=args.split)
    streaming = StreamOptions(policy=args.policy, chunk_s=args.chunk_seconds)
    display: Display = JsonLines() if args.json else Lines(tentative=not args.quiet)
    with contextlib.closing(load_transcriber(args)) as transcriber:
        stream = transcriber.stream(options, streaming)
        with contextlib.ExitStack() as stack:
            source = _open(args, stack)
            return _listen(stream, source, display, args)


def _check_rate(rate: int) -> None:
    """Refuse a rate by the name of its option: what reads the samples would blame a header that is not there."""
    try:
        check_rate(rate, "--rate")
    except AudioError as error:
        raise OptionsError(str(error).partition(". ")[0]) from error


def _open(args: argparse.Namespace, stack: contextlib.ExitStack) -> AudioStream:
    """Return the input the arguments name, to be closed with `stack`."""
    if args.input is None:
        name = args.microphone
        device = int(name) if name is not None and name.isdecimal() else name
        source = stack.enter_context(open_microphone(device))
        if not args.quiet:
            say("listening; Ctrl-C ends")
        return source
    if args.microphone is not None:
        raise OptionsError(f"--microphone {args.microphone} and INPUT {args.input}: give one of them")
    if args.input == "-":
        if sys.stdin is None:
            raise AudioError("standard input is closed")
        stdin = sys.stdin.buffer
        assert isinstance(stdin, io.BufferedReader)
        return open_pcm(stdin, args.sample_format, args.rate, args.channels)
    from qwen3_asr_onnx.audio.loading import open_audio

    stack.enter_context(_warnings_said())
    blocks = stack.enter_context(open_audio(args.input)).blocks
    return AudioStream(SAMPLE_RATE, None, blocks if args.fast else _paced(blocks))


def _listen(stream: Stream, source: AudioStream, display: Display, args: argparse.Namespace) -> int:
    """Feed the stream until its input ends, finish it, and return the exit status."""
    status = EXIT_OK
    is_live = args.input is None or (args.input != "-" and not args.fast)
    lateness = _Lateness(quiet=args.quiet)
    interrupts = _Interrupts()
    with handled_by(interrupts.take):
        try:
            for block in source.blocks:
                late_s = lateness.after(stream.fed_s) if is_live else 0.0
                with interrupts.delayed():
                    for update in stream.feed(block, source.sample_rate, hurried=late_s > args.chunk_seconds):
                        _show(display, update)
        except KeyboardInterrupt as interrupt:
            status = exit_status(interrupt)
            if args.input is None and status == 128 + signal.SIGINT:
                status = EXIT_OK  # how else would one stop a microphone
        except AudioError as error:
            say(f"error: {error}; finishing what was heard")
            status = EXIT_FAILED
        for update in stream.finish():
            _show(display, update)
    display.end()
    for fault in source.faults:
        say(f"warning: {fault}")
        status = EXIT_FAILED
    return status


def _show(display: Display, update: StreamUpdate) -> None:
    display.show(update)
    untagged = None if update.segment is None else about_untagged([update.segment])
    if untagged is not None:
        say(f"warning: {untagged}")


class _Lateness:
    """Watches how far the stream falls behind an input that does not wait, and tells the user when it is much."""

    def __init__(self, *, quiet: bool) -> None:
        self._started = time.monotonic()
        self._told_s = float("inf") if quiet else LATE_S

    def after(self, fed_s: float) -> float:
        """Return how many seconds of input are waiting, given those that were taken in."""
        late_s = time.monotonic() - self._started - fed_s
        if late_s > self._told_s:
            say(f"warning: {late_s:.0f} s behind; a smaller variant or a larger --chunk-seconds needs less time")
            self._told_s = 2 * late_s
        return late_s


class _Interrupts:
    """Makes the signals that end a program wait while a chunk is computed, so that the stream can still be finished."""

    def __init__(self) -> None:
        self._delayed = False
        self._pending: int | None = None

    def take(self, number: int) -> None:
        """Take a signal: at once, or when the block is done."""
        if self._delayed and self._pending is None:
            self._pending = number
        else:
            raise KeyboardInterrupt(number)

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """Hold back the first interrupt until the block is done."""
        self._delayed = True
        try:
            yield
        finally:
            self._delayed = False
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise KeyboardInterrupt(number)


def _paced(blocks: Iterator[Any], sleep: Callable[[float], None] = time.sleep) -> Iterator[Any]:
    """Yield 16 kHz blocks when they would have been spoken."""
    started, n_samples = time.monotonic(), 0
    for block in blocks:
        n_samples += block.size
        sleep(max(0.0, started + n_samples / SAMPLE_RATE - time.monotonic()))
        yield block


@contextlib.contextmanager
def _warnings_said() -> Iterator[None]:
    """Turn warnings about the input into messages."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        yield


COMMAND = Command("stream", "turn live speech into text while it is spoken", add_arguments, run)
