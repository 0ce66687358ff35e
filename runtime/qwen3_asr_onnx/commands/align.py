"""The verb `align`: an audio and its transcript in, when every word is spoken out, on stdout or in a file."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.errors import AudioError, LimitError, MissingExtra, OptionsError
from qwen3_asr_onnx.outputs.saving import remove_abandoned, write_atomically
from qwen3_asr_onnx.outputs.writers import FORMATS, writers
from qwen3_asr_onnx.results import Segment, Transcript, Word

from .arguments import add_model_arguments, utf8_text
from .command import EXIT_FAILED, EXIT_OK, Command
from .console import emit, progress_bar, say
from .delivery import reason
from .places import check_place
from .subtitle_options import add_subtitle_arguments, subtitle_style

if TYPE_CHECKING:
    from qwen3_asr_onnx.alignment.aligner import Aligner

__all__ = ["COMMAND", "add_arguments", "load_aligner", "run"]

DEFAULT_FORMAT = "tsv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `align` to its parser."""
    parser.add_argument("audio", metavar="AUDIO", help="audio file, or http(s) or data: URL")
    parser.add_argument(
        "text", metavar="TEXT", type=utf8_text, help="what is said in it, a UTF-8 text file with that, or - for stdin"
    )
    parser.add_argument(
        "-l", "--language", type=utf8_text, help='language of the text, name or code, as "English" or "en" (required)'
    )
    output = parser.add_argument_group("output", "on stdout unless --output is given")
    output.add_argument("-f", "--format", choices=_offered(), help="default: as --output is named, else tsv")
    output.add_argument("-o", "--output", metavar="FILE", type=Path, help="write FILE; replaces it if it exists")
    output.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_model_arguments(parser, "audio")
    add_subtitle_arguments(parser)


def load_aligner(args: argparse.Namespace) -> Aligner:
    """Open the aligner the arguments name."""
    from qwen3_asr_onnx.alignment.aligner import Aligner

    return Aligner.from_pretrained(args.model, variant=args.variant, device=args.device, threads=args.threads)


def run(args: argparse.Namespace) -> int:
    """Align what the arguments name and return the exit status.

    Raises:
        Qwen3AsrError: the options, the bundle or the device are wrong.
        OSError: stdout or the file cannot take the result.
    """
    format_name = _format(args)
    style = subtitle_style(args, [format_name], word_times=True)
    entry = FORMATS[format_name]
    writer = entry.write_words or writers(style)[format_name]
    named = [args.audio] if entry.names_input and writer is not entry.write_words else []
    text = _text(args.text)
    if args.output is not None:
        check_place(args.output)
        remove_abandoned(args.output.parent)
    try:
        waveform = load_audio(args.audio)
    except (AudioError, LimitError, MissingExtra, OSError) as error:
        say(f"{args.audio}: error: {reason(error)}")
        return EXIT_FAILED
    duration_s = waveform.size / SAMPLE_RATE
    with (
        progress_bar(total=duration_s, unit="s", quiet=args.quiet) as bar,
        contextlib.closing(load_aligner(args)) as aligner,
    ):
        words = aligner.align(waveform, text, args.language, progress=bar.update)
        language = aligner.resolve_language(args.language)
    _warn(words, waveform)
    result = writer(_transcript(text, language, duration_s, words), *named)
    if args.output is None:
        emit(result)
    else:
        write_atomically(args.output, result)
    return EXIT_OK


def _offered() -> list[str]:
    """Return the formats that can hold an alignment, the default one first."""
    timed = [name for name, entry in FORMATS.items() if entry.is_timed and name != DEFAULT_FORMAT]
    return [DEFAULT_FORMAT, *timed]


def _format(args: argparse.Namespace) -> str:
    if args.format is not None:
        return str(args.format)
    if args.output is None:
        return DEFAULT_FORMAT
    suffix: str = args.output.suffix.lower().lstrip(".")
    if suffix not in _offered():
        choices = "|".join(_offered())
        raise OptionsError(f"--output {args.output}: no format is called {suffix!r}; add --format {choices}")
    return suffix


def _text(given: str) -> str:
    """Return the transcript: the argument itself, the contents of the file it names, or stdin.

    Raises:
        OptionsError: the file is not text, or does not exist although the argument looks like a file's name.
    """
    try:
        if given == "-":
            if sys.stdin is None:
                raise OptionsError("text -: standard input is closed")
            content: str | bytes = getattr(sys.stdin, "buffer", sys.stdin).read()
            # UTF-8 as in files, whatever the locale says; a host program's stand-in may give text.
            return content if isinstance(content, str) else content.decode("utf-8-sig")
        path = Path(given)
        # A long text is no file name, and the system may refuse to look it up.
        if len(given) <= 1024 and "\n" not in given and path.is_file():
            return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"text {given}: {reason(error)}; give UTF-8 text") from error
    if path.suffix.lower() == ".txt" and not given.split()[1:]:
        raise OptionsError(f"text {given}: no such file")
    return given


def _transcript(text: str, language: str, duration_s: float, words: Sequence[Word]) -> Transcript:
    """Return the aligned text as a transcript of one segment, so that every writer knows what to do with it."""
    squeezed = " ".join(text.split())
    timed = tuple(replace(word, start_char=None) for word in words)  # their places were those in the text as given
    segment = Segment(0.0, duration_s, squeezed, language, (), "eos", 0.0, words=timed)
    segments = (segment,) if squeezed else ()
    return Transcript(squeezed, language, duration_s, segments, timed, (), "eos", 0.0)


def _warn(words: Sequence[Word], waveform: Waveform) -> None:
    if not words:
        say("warning: the text has no words: nothing to align")
        return
    from qwen3_asr_onnx.alignment.fit import median_probability, why_mismatched

    why = why_mismatched(words, waveform)
    if why is not None:
        say(
            f"warning: the text does not seem to be what is said: {why}, median probability "
            f"{median_probability(words):.2f}; is it the text of this audio?"
        )


COMMAND = Command("align", "find when every word of a known text is spoken", add_arguments, run)
