"""The options that choose from a recording, and how moments and channels are written."""

from __future__ import annotations

import argparse
import re

from qwen3_asr_onnx.options import Channels

from .arguments import at_least_one

__all__ = ["add_excerpt_arguments", "channels", "moment"]

_DIGITS = re.compile(r"[0-9]+")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


def add_excerpt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose from a recording: when, which track, which channels."""
    audio = parser.add_argument_group("audio", "of every input; times in results count from the start of the recording")
    audio.add_argument(
        "--start", metavar="TIME", type=moment, default=0.0, help="where to begin, in seconds or as [hh:]mm:ss"
    )
    audio.add_argument("--end", metavar="TIME", type=moment, help="where to end (default: the end of the recording)")
    audio.add_argument(
        "--track",
        metavar="N",
        type=at_least_one,
        help="audio track of a film, from 1 (needs ffmpeg; default: the first)",
    )
    audio.add_argument(
        "--channels",
        metavar="mix|left|right|N|split",
        type=channels,
        default="mix",
        help="mix them, take one (left is 1, right is 2), or transcribe each by itself and say which (default mix)",
    )


def moment(text: str) -> float:
    """Return seconds, written as such or as [hours:]minutes:seconds."""
    parts = text.split(":")
    if len(parts) <= 3 and all(_DIGITS.fullmatch(part) for part in parts[:-1]) and _SECONDS.fullmatch(parts[-1]):
        seconds = 0.0
        for part in parts:
            seconds = 60 * seconds + float(part)
        if len(parts) == 1 or float(parts[-1]) < 60:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no moment; give seconds, as 90.5, or [hh:]mm:ss, as 1:30.5")


def channels(text: str) -> Channels:
    """Return which channels are meant by a name or a number."""
    names: dict[str, Channels] = {"mix": "mix", "left": "left", "right": "right", "split": "split"}
    try:
        return names.get(text.lower()) or at_least_one(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no channel; give mix, left, right, split, or a number from 1"
        ) from None
