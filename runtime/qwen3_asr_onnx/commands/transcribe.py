"""The verb `transcribe`: files, directories, URLs or stdin in; transcripts on stdout or in files out.

Without an output option the transcripts go to stdout and nothing else does. With one, each finished input is on disk
before the next group is begun. A signal ends the run within one token: what there is of the inputs that were begun is
delivered as a partial result, as at a time limit, and `--resume` makes what is not finished.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from qwen3_asr_onnx.audio.loading import probe_duration
from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import Split, Timestamps, TranscribeOptions
from qwen3_asr_onnx.outputs.writers import FORMATS, writers
from qwen3_asr_onnx.results import StopReason, Transcript

from .arguments import ALL, MODEL_FORMS, add_model_arguments, format_names, utf8_text
from .command import EXIT_FAILED, EXIT_OK, Command
from .console import say
from .delivery import Delivery, Tally, about, about_untagged, reason
from .progress import AudioMeter, audio_progress
from .signals import Asked, exit_status, first_signal_asks
from .subtitle_options import ESTIMATE_HINT, add_subtitle_arguments, are_estimated, subtitle_style
from .worklist import Destination, Job, find_sources, plan_jobs, remove_leftovers

if TYPE_CHECKING:
    from qwen3_asr_onnx.audio.loading import AudioSource
    from qwen3_asr_onnx.transcriber import Transcriber

__all__ = ["COMMAND", "add_arguments", "load_transcriber", "run"]

DEFAULTS = TranscribeOptions()

# Once the disk is full no later result can be saved either: stop instead of computing for nothing.
ERRORS_OF_A_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})

WARNINGS: dict[StopReason, str] = {
    "length": "the token limit was reached and text may be missing; raise --max-new-tokens",
    "repetition": "the model repeated itself; the repetition was collapsed, check the text",
    "context_leak": "near-silent audio gave words of the context only; they were dropped",
}
RETRIED = "the model repeated itself and heard the piece again in two halves; check the text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `transcribe` to its parser."""
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="audio file, directory of audio files, http(s) or data: URL, or -"
    )
    _add_output_arguments(parser)
    model = add_model_arguments(parser, "inputs")
    model.add_argument(
        "--aligner", metavar=MODEL_FORMS, help="forced aligner for --timestamps word (default: as `models` shows it)"
    )
    model.add_argument("--aligner-variant", metavar="VARIANT", help="variant of the aligner (default: its first)")
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
    output.add_argument(
        "--keep-extension", action="store_true", help="call the result of a.mp3 a.mp3.txt: a.wav may lie beside it"
    )
    existing = output.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="skip inputs whose output files exist")
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
        "--time-limit", metavar="S", type=float, help="stop after S seconds and keep what is there, marked as partial"
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
    style = subtitle_style(args, formats, word_times=timed)
    chosen = writers(style)
    sources, unusable = find_sources(args.inputs)
    tally = Tally(len(sources) + len(unusable))
    if destination is None:
        delivery = Delivery(_stdout_format(args, tally.n_inputs), tally, chosen)
        jobs = [Job(source, {}) for source in sources]
    else:
        delivery = Delivery("", tally, chosen, args.overwrite)
        jobs = plan_jobs(sources, destination)
        remove_leftovers(sources, destination)
        tally.n_skipped = len(sources) - len(jobs)
    for item in unusable:
        tally.add_failure(item.label, item.reason)
    if jobs and not args.quiet and are_estimated(style, formats, word_times=timed):
        say(ESTIMATE_HINT)
    try:
        if jobs:
            _transcribe_all(args, jobs, options, delivery)
    except KeyboardInterrupt as interrupt:
        n_done = tally.n_done + tally.n_skipped
        say(f"interrupted: {n_done} of {tally.n_inputs} inputs are done{_how_to_go_on(args, n_done)}")
        tally.list_failures()
        return exit_status(interrupt)
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
    with audio_progress(_durations(jobs), len(jobs), quiet=args.quiet) as meter:
        meter.say("loading the model")
        with contextlib.closing(load_transcriber(args)) as transcriber, first_signal_asks() as asked:
            for job, result in _results(transcriber, jobs, options, meter, asked):
                n_begun += 1
                label = job.source.label
                if not isinstance(result, Transcript):
                    tally.add_failure(label, reason(result))
                    continue
                for warning in _warnings(result):
                    say(about(label, "warning", warning))
                if args.verbose:
                    say(f"{label}: {_timing(result)}")
                try:
                    delivery.deliver(job, result)
                except OSError as error:
                    if not job.outputs and asked.number is None:
                        raise  # stdout is gone, for every input
                    tally.add_failure(label, f"result not saved: {reason(error)}")
                    delivery.rescue(job, result)
                    if error.errno in ERRORS_OF_A_FULL_DISK:
                        say("stopping, because no later result could be saved either")
                        why = "the disk is full"
                        break
    if asked.number is not None:
        raise KeyboardInterrupt(asked.number)
    for job in jobs[n_begun:]:
        tally.add_failure(job.source.label, f"not begun: {why}")


def _results(
    transcriber: Transcriber, jobs: Sequence[Job], options: TranscribeOptions, meter: AudioMeter, asked: Asked
) -> Iterator[tuple[Job, Transcript | Exception]]:
    """Yield each job's transcript, or the error that concerns this job alone, in order; fewer if the end came first."""
    label = ""

    def audios() -> Iterator[AudioSource]:
        nonlocal label
        for job in jobs:
            label = job.source.label
            yield job.source.audio

    def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        # Audio is read one input at a time, so a warning is about the input read last.
        say(about(label, "warning", str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        results = transcriber.transcribe_many(
            audios(), options, errors="return", progress=meter.add, cancel=asked.event
        )
        for job, result in zip(jobs, results, strict=False):
            yield job, result
            meter.input_done()


def _durations(jobs: Sequence[Job]) -> Iterator[float | None]:
    for job in jobs:
        yield probe_duration(job.source.audio) if isinstance(job.source.audio, Path) else None


def _warnings(transcript: Transcript) -> Iterator[str]:
    reasons = {segment.stop_reason for segment in transcript.segments} | {transcript.stop_reason}
    yield from (text for reason, text in WARNINGS.items() if reason in reasons)
    if any(segment.retried for segment in transcript.segments) and "repetition" not in reasons:
        yield RETRIED
    untagged = about_untagged(transcript.segments)
    if untagged is not None:
        yield untagged


def _timing(transcript: Transcript) -> str:
    """Return one line on where the time went."""
    spent = transcript.timings
    stages = [("audio", spent.audio_s), ("mel", spent.mel_s), ("encoder", spent.encoder_s)]
    stages += [("prefill", spent.prefill_s), ("decode", spent.decode_s)]
    rtf = sum(seconds for _, seconds in stages) / transcript.duration_s if transcript.duration_s else 0.0
    line = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages)
    return (
        f"{transcript.duration_s:.1f} s of audio, {len(transcript.segments)} segments, {spent.n_tokens} tokens; "
        f"load {spent.load_s:.2f} s, {line} ({spent.tokens_per_s:.1f} tokens/s); RTF {rtf:.3f}"
    )


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
    )


def _destination(args: argparse.Namespace) -> Destination | None:
    """Return where files go, None for stdout."""
    if args.output_dir is None and not args.save:
        if args.resume or args.overwrite or args.keep_extension:
            option = "--keep-extension is" if args.keep_extension else "--resume and --overwrite are"
            raise OptionsError(f"{option} about output files; add --output-dir or --save")
        return None
    if args.output_dir is not None and args.output_dir.exists() and not args.output_dir.is_dir():
        raise OptionsError(f"--output-dir {args.output_dir} is not a directory")
    # dict.fromkeys drops repeated formats and keeps their order.
    formats = tuple(dict.fromkeys(args.formats or ["txt"]))
    return Destination(formats, args.output_dir, args.resume, args.overwrite, args.keep_extension)


def _how_to_go_on(args: argparse.Namespace, n_done: int) -> str:
    if args.output_dir is None and not args.save:
        return ""
    kept = "; what is finished is kept" if n_done else ""
    # --resume would take the outputs that were still to be replaced for finished ones.
    return kept if args.overwrite else f"{kept or ';'}{',' if n_done else ''} --resume makes the rest"


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
