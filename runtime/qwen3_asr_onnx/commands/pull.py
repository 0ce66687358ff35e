"""The verb `pull`: the name of a bundle on the hub in, its files on this machine and checked; prints their folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from qwen3_asr_onnx.bundle.hub import is_hub_id
from qwen3_asr_onnx.bundle.pull import open_on_hub, pull_to_cache, pull_to_folder
from qwen3_asr_onnx.errors import BundleError

from .command import EXIT_OK, Command
from .console import emit, say

__all__ = ["COMMAND", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pull` to its parser."""
    parser.add_argument("repository", metavar="OWNER/NAME", help="a bundle on the Hugging Face hub")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--variant",
        dest="variants",
        metavar="NAME[,NAME]",
        action="append",
        help="variant to download (default: the first the bundle lists); may be repeated",
    )
    choice.add_argument("--all", action="store_true", help="download every variant")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit (default: the main branch)")
    parser.add_argument(
        "-o", "--output-dir", metavar="DIR", type=Path, help="make a bundle in DIR instead of the cache of the hub"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(args: argparse.Namespace) -> int:
    """Download what is missing, check everything, print the folder, and return the exit status.

    Raises:
        BundleError: there is no such bundle or variant, or it cannot be fetched.
        MissingExtra: huggingface_hub is not installed.
    """
    if not is_hub_id(args.repository):
        raise BundleError(f"{args.repository}: not the name of a repository on the hub, which is owner/name")
    found = open_on_hub(args.repository, args.revision)
    known = list(found.bundle.manifest.variants)
    asked = [name.strip() for text in args.variants or [] for name in text.split(",")]
    names = known if args.all else list(dict.fromkeys(asked)) or known[:1]
    if args.output_dir is None:
        folder = pull_to_cache(found, names, check=True, quiet=args.quiet)
    else:
        folder = pull_to_folder(found, names, args.output_dir, quiet=args.quiet)
    if not args.quiet:
        size = sum(record.size for record in found.needs(names).values())
        say(f"{args.repository}: {', '.join(names)}, {size / 1e6:,.1f} MB, digests checked, commit {found.commit[:12]}")
    emit(f"{folder}\n")
    return EXIT_OK


COMMAND = Command("pull", "download a bundle's variant from the Hugging Face hub and check it", add_arguments, run)
