"""The verb `get`: the name of a checkpoint, an adapter or a bundle anywhere in, a model of the store out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.bundle.choices import read_choices
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.writing import readable_bytes
from qwen3_asr_onnx.errors import OptionsError

from .arguments import at_least_one
from .command import EXIT_OK, Command
from .console import emit, say, say_warnings
from .worklist import find_sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qwen3_asr_onnx.arrays import Waveform

__all__ = ["COMMAND", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `get` to its parser."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="checkpoint, LoRA adapter or ready bundle: a hub id such as Qwen/Qwen3-ASR-0.6B, modelscope:OWNER/NAME, a "
        "directory; or, in a clone, mini or mini-aligner",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE",
        help="published recipe, or .toml file (default: fast where processor and memory suit it, else int4); of a "
        "ready bundle, its variant",
    )
    parser.add_argument("--name", help="what to call the model (default: as its source)")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: the main branch)")
    parser.add_argument("--base", metavar="SOURCE", help="checkpoint of an adapter (default: what the adapter says)")
    parser.add_argument("--keep-float32", action="store_true", help="keep the float32 variant too, which is large")
    parser.add_argument(
        "--calibration", metavar="DIR", nargs="+", default=[], help="audio for recipes that are calibrated"
    )
    parser.add_argument("--check", action="store_true", help="compare with transformers, as export does; needs torch")
    parser.add_argument("--overwrite", action="store_true", help="make a model that is there already anew")
    parser.add_argument(
        "--warm", action="store_true", help="prepare its weights for this machine: it then loads faster"
    )
    parser.add_argument("--threads", metavar="N", type=at_least_one, help="cores to use (default: all)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(args: argparse.Namespace) -> int:
    """Put the model into the store, print its name, and return the exit status.

    Raises:
        Qwen3AsrError: as `get_model`.
    """
    from qwen3_asr_onnx.bundle.getting import GetOptions, get_model
    from qwen3_asr_onnx.model.recommended import recommended_recipe

    options = GetOptions(
        recipe=args.recipe,
        name=args.name,
        revision=args.revision,
        base=args.base,
        keep_float32=args.keep_float32,
        calibration=_waveforms(args.calibration),
        check=args.check,
        overwrite=args.overwrite,
        quiet=args.quiet,
        threads=args.threads,
        recommend=recommended_recipe,
    )
    folder = get_model(args.source, options, (lambda _: None) if args.quiet else say)
    if args.warm:
        _prepare(folder)
    if not args.quiet:
        say(_summary(folder))
    emit(f"{folder.name}\n")
    return EXIT_OK


def _prepare(folder: Path) -> None:
    """Prepare the first variant for this machine, which is the one that is loaded if nobody names another."""
    from qwen3_asr_onnx.model.warm import prepare

    say_warnings()
    bundle = Bundle.open(folder)
    prepare(bundle, bundle.variant(next(iter(bundle.manifest.variants))))


def _waveforms(inputs: Sequence[str]) -> list[Waveform]:
    """Return the audio to calibrate with."""
    sources, unusable = find_sources(inputs)
    if unusable:
        raise OptionsError(f"--calibration {unusable[0].label}: {unusable[0].reason}")
    return [load_audio(source.audio) for source in sources]


def _summary(folder: Path) -> str:
    """Return what there is now, and how to use it."""
    manifest = Bundle.open(folder).manifest
    size = readable_bytes(sum(record.size for record in manifest.files.values()))
    is_default = read_choices().defaults.get(manifest.kind) == folder.name
    verb = "transcribe talk.mp3" if manifest.kind == "asr" else "transcribe talk.mp3 --timestamps word"
    option = "" if is_default else f" {'-m' if manifest.kind == 'asr' else '--aligner'} {folder.name}"
    what = f"the default {'model' if manifest.kind == 'asr' else 'aligner'}" if is_default else manifest.kind
    return f"{folder.name}: {size}, {', '.join(manifest.variants)}, {what}; use it: qwen3-asr-onnx {verb}{option}"


COMMAND = Command("get", "get a model: from a checkpoint anywhere to a variant in the model store", add_arguments, run)
