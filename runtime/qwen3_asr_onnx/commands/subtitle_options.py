"""The options of subtitles that several verbs have."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import get_args

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.outputs.cues import DEFAULT_STYLE, SubtitleStyle, WordDisplay
from qwen3_asr_onnx.outputs.writers import FORMATS

__all__ = ["ESTIMATE_HINT", "add_subtitle_arguments", "are_estimated", "subtitle_style"]

ESTIMATE_HINT = "hint: subtitle times are estimated from pauses; --timestamps word with --aligner measures them"


def add_subtitle_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `subtitle_style` reads."""
    shaped = " and ".join(_shaped())
    group = parser.add_argument_group(
        "subtitles", f"{shaped}; without word times, those inside a segment are estimated"
    )
    group.add_argument(
        "--max-line-width",
        metavar="N",
        type=int,
        default=DEFAULT_STYLE.max_line_width,
        help="columns of a line; a Chinese, Japanese or Korean character takes two (default %(default)d)",
    )
    group.add_argument(
        "--max-lines",
        metavar="N",
        type=int,
        default=DEFAULT_STYLE.max_lines,
        help="lines of a cue (default %(default)d)",
    )
    group.add_argument(
        "--subtitle-words",
        choices=get_args(WordDisplay),
        default=DEFAULT_STYLE.words,
        help="karaoke: word times inside WebVTT cues; cues: one cue per word (default %(default)s)",
    )
    group.add_argument(
        "--subtitle-confidence", action="store_true", help="show the segment's mean token probability before each cue"
    )
    group.add_argument(
        "--no-estimate",
        dest="estimate",
        action="store_false",
        help="without word times, leave segments whole instead of cutting them at the pauses in the audio",
    )


def subtitle_style(args: argparse.Namespace, formats: Collection[str], *, word_times: bool) -> SubtitleStyle:
    """Return the style that the arguments ask for.

    Args:
        args: with the arguments of `add_subtitle_arguments`.
        formats: names of the formats that will be written.
        word_times: whether words will be timed.

    Raises:
        OptionsError: a number is out of range, or the formats or the lack of word times leave an option no meaning.
    """
    style = SubtitleStyle(
        max_line_width=args.max_line_width,
        max_lines=args.max_lines,
        words=args.subtitle_words,
        confidence=args.subtitle_confidence,
        estimate=args.estimate,
    )
    shaped = _shaped()
    if style != DEFAULT_STYLE and not set(shaped).intersection(formats):
        choices = " or ".join(f"--format {name}" for name in shaped)
        raise OptionsError(f"the subtitle options shape {' and '.join(shaped)}; add {choices}")
    if style.words == "karaoke" and "vtt" not in formats:
        raise OptionsError("--subtitle-words karaoke is for WebVTT; add --format vtt")
    if style.words != "off" and not word_times:
        raise OptionsError(f"--subtitle-words {style.words} needs word times; add --timestamps word")
    return style


def are_estimated(style: SubtitleStyle, formats: Collection[str], *, word_times: bool) -> bool:
    """Return whether subtitles will be written whose times are estimates."""
    return style.estimate and not word_times and not set(_shaped()).isdisjoint(formats)


def _shaped() -> list[str]:
    return [name for name, entry in FORMATS.items() if entry.is_subtitle]
