"""The verb `transcribe`: files, directories, URLs or stdin in; transcripts on stdout or in files out.

Without an output option the transcripts go to stdout and nothing else does: plain text while it is made, other formats
input by input. With one, each finished input is on disk before the next group is begun. A signal ends the run within
one token, a time limit too. Whatever ends it, finished pieces of inputs that are not are in their journals, and
`--resume` goes on there.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import Split, Timestamps, TranscribeOptions
from qwen3_asr_onnx.outputs.writers import FORMATS, writers
from qwen3_asr_onnx.results import Transcript

from .arguments import ALL, MODEL_FORMS, add_model_arguments, format_names, utf8_text
from .command import EXIT_FAILED, EXIT_OK, Command
from .console import say
from .delivery import Delivery, Shown, Tally, about, reason
from .excerpt_options import add_excerpt_arguments
from .jobs_file import JOB_FIELDS, chosen_sources
from .naming import add_naming_arguments
from .progress import audio_progress
from .remarks import remarks, timing
from .signals import exit_status, first_signal_asks
from .state import Records, forget_old_journals, stdout_journal
from .subtitle_options import ESTIMATE_HINT, add_subtitle_arguments, are_estimated, subtitle_style
from .transcribed import durations, transcribed
from .worklist import Destination, Job, Source, plan_jobs, remove_leftovers

if TYPE_CHECKING:
    from qwen3_asr_onnx.transcriber import Transcriber

__all__ = ["COMMAND", "add_arguments", "load_transcriber", "run"]

DEFAULTS = TranscribeOptions()

# Once the disk is full no later result can be saved either: stop instead of computing for nothing.
ERRORS_OF_A_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `transcribe` to its parser."""
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="*", help="audio file, directory of audio files, http(s) or data: URL, or -"
    )
    parser.add_argument(
        "--manifest", metavar="FILE", type=Path, help=f"inputs from a file of JSON lines, with {', '.join(JOB_FIELDS)}"
    )
    _add_output_arguments(parser)
    model = add_model_arguments(parser, "inputs")
    model.add_argument(
        "--aligner", metavar=MODEL_FORMS, help="forced aligner for --timestamps word (default: as `models` shows it)"
    )
    model.add_argument("--aligner-variant", metavar="VARIANT", help="variant of the aligner (default: its first)")
    add_excerpt_arguments(parser)
    _add_speech_arguments(parser)
    add_subtitle_arguments(parser)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output", "text on stdout unless one of --output-dir and --save is given")
    output.add_argument(
        "-f",
        "--format",
        dest="formats",
        metavar="FORMAT[,FORMAT]",
        type=format_names,
        action="extend",
        help=f"{', '.join(FORMATS)} (default txt), or {ALL}; json on stdout is one object per line",
    )
    place = output.add_mutually_exclusive_group()
    place.add_argument("-o", "--output-dir", metavar="DIR", type=Path, help="write NAME.FORMAT files into DIR")
    place.add_argument("--save", action="store_true", help="write NAME.FORMAT next to each input")
    add_naming_arguments(output)
    output.add_argument(
        "--times", action="store_true", help="txt: a line for each segment, behind its times: [00:25.0 --> 00:50.5]"
    )
    existing = output.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume",
        action="store_true",
        help="skip inputs whose output files exist, and go on inside the one that a run was ended in",
    )
    existing.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    told = output.add_mutually_exclusive_group()
    told.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")
    told.add_argument("-v", "--verbose", action="store_true", help="say what each stage of each input took")


def _add_speech_arguments(parser: argparse.ArgumentParser) -> None:
    speech = parser.add_argument_group("speech")
    speech.add_argument("-l", "--language", type=utf8_text, help='name or code, as "English" or "en" (default: detect)')
    context = speech.add_mutually_exclusive_group()
    context.add_argument(
        "--context", metavar="TEXT", type=utf8_text, default="", help="background, such as names that may occur"
    )
    context.add_argument("--context-file", metavar="FILE", type=Path, help="the same, from a UTF-8 text file")
    speech.add_argument("--max-new-tokens", metavar="N", type=int, help="token limit per segment (default: ample)")
    speech.add_argument(
        "--max-segment-seconds",
        metavar="S",
        type=float,
        default=DEFAULTS.max_segment_s,
        help="cut longer audio into pieces of about this length (default %(default)g)",
    )
    speech.add_argument(
        "--split",
        choices=get_args(Split),
        default=DEFAULTS.split,
        help="cut at quiet points, or at pauses found by voice activity detection, skipping silence "
        "(needs the vad extra; default %(default)s)",
    )
    speech.add_argument(
        "--timestamps",
        choices=get_args(Timestamps),
        default=DEFAULTS.timestamps,
        help="word: time every word, by the aligner (default %(default)s)",
    )
    speech.add_argument(
        "--batch-size", metavar="N", type=int, help="pieces decoded together (default: as many as memory allows)"
    )
    speech.add_argument(
        "--time-limit", metavar="S", type=float, help="stop after S seconds; what is finished is kept for --resume"
    )


def load_transcriber(args: argparse.Namespace) -> Transcriber:
    """Open the models the arguments name. Tests put a stand-in here."""
    from qwen3_asr_onnx.alignment.aligner import Aligner
    from qwen3_asr_onnx.transcriber import Transcriber

    aligner: Aligner | None = None
    if args.timestamps == "word":
        aligner = Aligner.from_pretrained(
            args.aligner, variant=args.aligner_variant, device=args.device, threads=args.threads
        )
    return Transcriber.from_pretrained(
        args.model, variant=args.variant, device=args.device, threads=args.threads, aligner=aligner
    )


def run(args: argparse.Namespace) -> int:
    """Transcribe what the arguments name and return the exit status.

    Raises:
        Qwen3AsrError: the options, the bundle or the device are wrong. What was finished before is kept.
        OSError: stdout cannot take the results.
    """
    options = _options(args)
    destination = _destination(args)
    formats, timed = args.formats or ["txt"], options.timestamps == "word"
    _check_times(args, formats)
    style = subtitle_style(args, formats, word_times=timed)
    sources, unusable = chosen_sources(args.inputs, args.manifest, options)
    tally, records = Tally(len(sources) + len(unusable)), Records()
    stdout_format = "" if destination is not None else _stdout_format(args, tally.n_inputs)
    delivery = Delivery(
        stdout_format, tally, writers(style, times=args.times), _shown(args, sources, stdout_format, tally), records
    )
    if destination is None:
        jobs = [Job(source, {}, stdout_journal(source.audio, anew=not args.resume)) for source in sources]
    else:
        jobs = plan_jobs(sources, destination, records)
        remove_leftovers(sources, destination, records)
        tally.n_skipped = len(sources) - len(jobs)
    tally.add_unusable(unusable)
    for label, path in ((job.source.label, path) for job in jobs for path in job.stale):
        say(about(label, "warning", f"{path} is of what this recording was before; it is made again"))
    if jobs and not args.quiet and are_estimated(style, formats, word_times=timed):
        say(ESTIMATE_HINT)
    try:
        if jobs:
            _transcribe_all(args, jobs, options, delivery)
    except KeyboardInterrupt as interrupt:
        n_done = tally.n_done + tally.n_skipped
        kept = n_done > 0 or any(job.journal.is_on_disk and job.journal.kept_s for job in jobs)
        say(f"interrupted: {n_done} of {tally.n_inputs} inputs are done{_how_to_go_on(args, kept=kept)}")
        tally.list_failures()
        return exit_status(interrupt)
    finally:
        for job in jobs:
            job.journal.close()
        if destination is None:
            forget_old_journals()
    if not args.quiet and (destination is not None or tally.n_inputs > 1):
        say(tally.summary())
    tally.list_failures()
    return EXIT_FAILED if tally.failed else EXIT_OK


def _transcribe_all(
    args: argparse.Namespace, jobs: Sequence[Job], options: TranscribeOptions, delivery: Delivery
) -> None:
    """Load the model and deliver every job's result, reporting the jobs that fail.

    Raises:
        KeyboardInterrupt: a signal ended the work; what there was by then is delivered.
    """
    tally = delivery.tally
    n_begun = 0
    why = "the time limit was reached before"
    with audio_progress(durations(jobs, options), len(jobs), quiet=args.quiet) as meter:
        meter.say("loading the model")
        with contextlib.closing(load_transcriber(args)) as transcriber, first_signal_asks() as asked:
            for job, result in transcribed(transcriber, jobs, options, meter, asked, delivery.shown):
                n_begun += 1
                if not isinstance(result, Transcript):
                    delivery.fail(job, result)
                    continue
                try:
                    delivery.deliver(job, result)
                except OSError as error:
                    if not job.outputs and asked.number is None:
                        raise  # stdout is gone, for every input
                    tally.add_failure(job.source.label, f"result not saved: {reason(error)}")
                    delivery.rescue(job, result)
                    if error.errno in ERRORS_OF_A_FULL_DISK:
                        say("stopping, because no later result could be saved either")
                        why = "the disk is full"
                        break
                _remark(args, job, result)
    if asked.number is not None:
        raise KeyboardInterrupt(asked.number)
    for job in jobs[n_begun:]:
        tally.add_failure(job.source.label, f"not begun: {why}")


def _remark(args: argparse.Namespace, job: Job, transcript: Transcript) -> None:
    label = job.source.label
    for warning in remarks(transcript):
        say(about(label, "warning", warning))
    if job.journal.recalled_s and not args.quiet:
        say(f"{label}: {job.journal.recalled_s:.1f} s of it were done by an earlier run")
    if args.verbose:
        say(f"{label}: {timing(transcript)}")


def _options(args: argparse.Namespace) -> TranscribeOptions:
    for option, given in (("--aligner", args.aligner), ("--aligner-variant", args.aligner_variant)):
        if given is not None and args.timestamps == "none":
            raise OptionsError(f"{option} is for the times of words; add --timestamps word")
    context = args.context
    if args.context_file is not None:
        try:
            context = args.context_file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionsError(f"--context-file {args.context_file}: {reason(error)}") from error
    return TranscribeOptions(
        language=args.language,
        context=context,
        max_new_tokens=args.max_new_tokens,
        max_segment_s=args.max_segment_seconds,
        split=args.split,
        timestamps=args.timestamps,
        batch_size=args.batch_size,
        time_limit_s=args.time_limit,
        start_s=args.start,
        end_s=args.end,
        track=args.track,
        channels=args.channels,
    )


def _destination(args: argparse.Namespace) -> Destination | None:
    """Return where files go, None for stdout."""
    if args.output_dir is None and not args.save:
        if args.overwrite or args.keep_extension or args.name_template:
            given = {
                "--keep-extension": args.keep_extension,
                "--name-template": args.name_template,
                "--overwrite": True,
            }
            option = next(name for name, value in given.items() if value)
            raise OptionsError(f"{option} is about output files; add --output-dir or --save")
        return None
    if args.output_dir is not None and args.output_dir.exists() and not args.output_dir.is_dir():
        raise OptionsError(f"--output-dir {args.output_dir} is not a directory")
    # dict.fromkeys drops repeated formats and keeps their order.
    formats = tuple(dict.fromkeys(args.formats or ["txt"]))
    return Destination(
        formats,
        args.output_dir,
        args.resume,
        args.overwrite,
        args.keep_extension,
        args.name_template,
        args.language or "",
    )


def _how_to_go_on(args: argparse.Namespace, *, kept: bool) -> str:
    # --resume would take the outputs that were still to be replaced for finished ones, and what was shown is not kept.
    offers = kept if args.output_dir is None and not args.save else not args.overwrite
    parts = (["what is finished is kept"] if kept else []) + (["--resume makes the rest"] if offers else [])
    return f"; {', '.join(parts)}" if parts else ""


def _check_times(args: argparse.Namespace, formats: Sequence[str]) -> None:
    if args.times and not any(FORMATS[name].takes_times for name in formats):
        takers = " or ".join(f"--format {name}" for name, entry in FORMATS.items() if entry.takes_times)
        raise OptionsError(f"--times is for plain text; add {takers}")


def _shown(args: argparse.Namespace, sources: Sequence[Source], stdout_format: str, tally: Tally) -> Shown:
    grow = FORMATS[stdout_format].grow if stdout_format else None
    chosen = {args.channels, *(source.options.channels for source in sources if source.options is not None)}
    splits = "split" in chosen
    # What several channels say is in order only when all of them were heard.
    growing = None if grow is None or splits else partial(grow, times=args.times)
    return Shown(growing, named=tally.n_inputs > 1)


def _stdout_format(args: argparse.Namespace, n_inputs: int) -> str:
    """Return the one format for stdout.

    Raises:
        OptionsError: what was asked for makes no sense in one stream.
    """
    formats: list[str] = args.formats or ["txt"]
    first, *others = dict.fromkeys(formats)
    if others:
        raise OptionsError("stdout takes one format; add --output-dir or --save for several")
    if n_inputs > 1 and not FORMATS[first].can_follow:
        raise OptionsError(f"stdout takes {first} of one input only; add --output-dir or --save for {n_inputs} inputs")
    return first


COMMAND = Command("transcribe", "turn speech in files, URLs or stdin into text", add_arguments, run)
