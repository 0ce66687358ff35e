"""The verb `transcribe`: files, directories, URLs or stdin in; transcripts on stdout or in files out.

Without an output option the transcripts go to stdout and nothing else does. With one, each finished input is on disk
before the next group is begun, so an interrupted run loses one group's work at most and `--resume` goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, Command
from .console import Bar, emit, progress_bar, say
from .errors import OptionsError
from .jobs import Destination, Job, find_sources, plan_jobs, write_atomically
from .outputs import WRITERS
from .session import DEVICES
from .types import TranscribeOptions, Transcript

if TYPE_CHECKING:
    from .audio import AudioSource
    from .transcriber import Transcriber

__all__ = ["COMMAND", "add_arguments", "load_transcriber", "run"]

DEFAULTS = TranscribeOptions()

# Once the disk is full no later result can be saved either: stop instead of computing for nothing.
ERRORS_OF_A_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})

WARNINGS = {
    "length": "the token limit was reached and text may be missing; raise --max-new-tokens",
    "repetition": "the model repeated itself; the repetition was collapsed, check the text",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `transcribe` to its parser."""
    parser.add_argument("bundle", metavar="BUNDLE", help="directory written by `qwen3-asr-onnx export`, or a hub id")
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="audio file, directory of audio files, http(s) or data: URL, or -"
    )

    output = parser.add_argument_group("output", "text on stdout unless one of --output-dir and --save is given")
    output.add_argument(
        "-f",
        "--format",
        dest="formats",
        metavar="FORMAT[,FORMAT]",
        type=_formats,
        action="extend",
        help=f"{', '.join(WRITERS)} (default txt); json on stdout is one object per line",
    )
    place = output.add_mutually_exclusive_group()
    place.add_argument("-o", "--output-dir", metavar="DIR", type=Path, help="write NAME.FORMAT files into DIR")
    place.add_argument("--save", action="store_true", help="write NAME.FORMAT next to each input")
    existing = output.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="skip inputs whose output files exist")
    existing.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    output.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")

    model = parser.add_argument_group("model")
    model.add_argument("--variant", help="variant of the bundle, as `info` lists them (default: the first)")
    model.add_argument("--device", choices=DEVICES, default="cpu", help="where to run (default cpu)")
    model.add_argument("--threads", metavar="N", type=_at_least_one, help="CPU threads (default: one per core)")

    speech = parser.add_argument_group("speech")
    speech.add_argument("-l", "--language", help='name or code, as "English" or "en" (default: detect)')
    context = speech.add_mutually_exclusive_group()
    context.add_argument("--context", metavar="TEXT", default="", help="background, such as names that may occur")
    context.add_argument("--context-file", metavar="FILE", type=Path, help="the same, from a UTF-8 text file")
    speech.add_argument("--max-new-tokens", metavar="N", type=int, help="token limit per segment (default: ample)")
    speech.add_argument(
        "--max-segment-seconds",
        metavar="S",
        type=float,
        default=DEFAULTS.max_segment_s,
        help="cut longer audio at quiet points (default %(default)g)",
    )
    speech.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=DEFAULTS.batch_size,
        help="segments decoded together (default %(default)d)",
    )


def load_transcriber(args: argparse.Namespace) -> Transcriber:
    """Open the bundle the arguments name. Tests put a stand-in here."""
    from .transcriber import Transcriber

    return Transcriber.from_pretrained(args.bundle, variant=args.variant, device=args.device, threads=args.threads)


def run(args: argparse.Namespace) -> int:
    """Transcribe what the arguments name and return the exit status.

    Raises:
        Qwen3AsrError: the options, the bundle or the device are wrong. What was finished before is kept.
        OSError: stdout cannot take the results.
    """
    options = _options(args)
    destination = _destination(args)
    sources, unusable = find_sources(args.inputs)
    tally = Tally(len(sources) + len(unusable))
    if destination is None:
        delivery = Delivery(_stdout_format(args, tally.n_inputs), tally)
        jobs = [Job(source, {}) for source in sources]
    else:
        delivery = Delivery("", tally)
        jobs = plan_jobs(sources, destination)
        tally.n_skipped = len(sources) - len(jobs)
    for item in unusable:
        tally.add_failure(item.label, item.reason)
    try:
        if jobs:
            _transcribe_all(args, jobs, options, delivery)
    except KeyboardInterrupt:
        say(f"interrupted: {tally.n_done + tally.n_skipped} of {tally.n_inputs} inputs are done{_how_to_go_on(args)}")
        tally.list_failures()
        return EXIT_INTERRUPTED
    if not args.quiet and (destination is not None or tally.n_inputs > 1):
        say(tally.summary())
    tally.list_failures()
    return EXIT_FAILED if tally.failed else EXIT_OK


@dataclass(slots=True)
class Tally:
    """What became of the inputs so far."""

    n_inputs: int
    n_done: int = 0
    n_skipped: int = 0
    failed: list[str] = field(default_factory=list)

    def add_failure(self, label: str, reason: str) -> None:
        """Report a failed input at once and remember it."""
        self.failed.append(label)
        say(_about(label, "error", reason))

    def list_failures(self) -> None:
        """Name the failed inputs again: the first reports may have scrolled away."""
        if self.failed and self.n_inputs > 1:
            say("\n  ".join([f"{len(self.failed)} of {self.n_inputs} inputs failed:", *self.failed]))

    def summary(self) -> str:
        """Return one line of counts."""
        skipped = f", {self.n_skipped} skipped (done before)" if self.n_skipped else ""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.n_done} transcribed{skipped}{failed}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """Hands results over: into the job's output files, or to stdout when it has none."""

    stdout_format: str
    tally: Tally

    def deliver(self, job: Job, transcript: Transcript) -> None:
        """Write one result.

        Raises:
            OSError: an output file or stdout cannot take it.
        """
        if job.outputs:
            for name, path in job.outputs.items():
                write_atomically(path, WRITERS[name](transcript))
        else:
            emit(self._stdout_text(job.source.label, transcript))
        self.tally.n_done += 1

    def _stdout_text(self, label: str, transcript: Transcript) -> str:
        if self.stdout_format == "json":
            return json.dumps({"input": label, **transcript.to_dict()}, ensure_ascii=False) + "\n"
        text = WRITERS[self.stdout_format](transcript)
        if self.tally.n_inputs == 1:
            return text
        separator = "\n" if self.tally.n_done else ""
        return f"{separator}==> {label} <==\n{text}"  # as head and tail mark several files


def _transcribe_all(
    args: argparse.Namespace, jobs: Sequence[Job], options: TranscribeOptions, delivery: Delivery
) -> None:
    """Load the model and deliver every job's result, reporting the jobs that fail."""
    tally = delivery.tally
    with progress_bar(total=len(jobs), unit="file", quiet=args.quiet) as bar:
        bar.set_postfix_str("loading the bundle")
        with contextlib.closing(load_transcriber(args)) as transcriber:
            for job, result in _results(transcriber, jobs, options, bar):
                label = job.source.label
                if not isinstance(result, Transcript):
                    tally.add_failure(label, _reason(result))
                    continue
                if result.stop_reason in WARNINGS:
                    say(_about(label, "warning", WARNINGS[result.stop_reason]))
                try:
                    delivery.deliver(job, result)
                except OSError as error:
                    if not job.outputs:
                        raise  # stdout is gone, for every input
                    tally.add_failure(label, f"result not saved: {_reason(error)}")
                    if error.errno in ERRORS_OF_A_FULL_DISK:
                        say("stopping, because no later result could be saved either")
                        return


def _results(
    transcriber: Transcriber, jobs: Sequence[Job], options: TranscribeOptions, bar: Bar
) -> Iterator[tuple[Job, Transcript | Exception]]:
    """Yield each job's transcript, or the error that concerns this job alone, in order."""
    meter = Meter(bar)

    def audios() -> Iterator[AudioSource]:
        for job in jobs:
            meter.label = job.source.label
            yield job.source.audio

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        # Audio is read one input at a time, so a warning is about the input read last.
        say(_about(meter.label, "warning", str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        results = transcriber.transcribe_many(audios(), options, errors="return", progress=meter.add)
        for job, result in zip(jobs, results, strict=True):
            yield job, result
            bar.update()


@dataclass(slots=True)
class Meter:
    """Shows how many seconds of audio are done. `label` names the input that was read last."""

    bar: Bar
    label: str = ""
    done_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count audio just finished."""
        self.done_s += seconds
        self.bar.set_postfix_str(f"{self.done_s:.0f} s of audio")


def _options(args: argparse.Namespace) -> TranscribeOptions:
    context = args.context
    if args.context_file is not None:
        try:
            context = args.context_file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionsError(f"--context-file {args.context_file}: {_reason(error)}") from error
    return TranscribeOptions(
        language=args.language,
        context=context,
        max_new_tokens=args.max_new_tokens,
        max_segment_s=args.max_segment_seconds,
        batch_size=args.batch_size,
    )


def _destination(args: argparse.Namespace) -> Destination | None:
    """Return where files go, None for stdout."""
    if args.output_dir is None and not args.save:
        if args.resume or args.overwrite:
            raise OptionsError("--resume and --overwrite are about output files; add --output-dir or --save")
        return None
    if args.output_dir is not None and args.output_dir.exists() and not args.output_dir.is_dir():
        raise OptionsError(f"--output-dir {args.output_dir} is not a directory")
    # dict.fromkeys drops repeated formats and keeps their order.
    return Destination(tuple(dict.fromkeys(args.formats or ["txt"])), args.output_dir, args.resume, args.overwrite)


def _how_to_go_on(args: argparse.Namespace) -> str:
    if args.output_dir is None and not args.save:
        return ""
    # --resume would take the outputs that were still to be replaced for finished ones.
    return "; what is finished is kept" + ("" if args.overwrite else ", --resume goes on from there")


def _stdout_format(args: argparse.Namespace, n_inputs: int) -> str:
    """Return the one format for stdout.

    Raises:
        OptionsError: what was asked for makes no sense in one stream.
    """
    formats: list[str] = args.formats or ["txt"]
    first, *others = dict.fromkeys(formats)
    if others:
        raise OptionsError("stdout takes one format; add --output-dir or --save for several")
    if n_inputs > 1 and first not in {"txt", "json"}:
        raise OptionsError(f"stdout takes {first} of one input only; add --output-dir or --save for {n_inputs} inputs")
    return first


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"unknown format {name!r}; choose from {', '.join(WRITERS)}")
    return names


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _about(label: str, kind: str, reason: str) -> str:
    """Return one line about an input; library errors often name it already."""
    line = " ".join(reason.split())
    return f"{kind}: {line}" if line.startswith(f"{label}:") else f"{kind}: {label}: {line}"


COMMAND = Command("transcribe", "turn speech in files, URLs or stdin into text", add_arguments, run)
