"""The verb `upload`: a folder and a repository in, what has changed on the hub out; prints the repository's address."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qwen3_asr_onnx.commands.command import EXIT_OK, Command
from qwen3_asr_onnx.commands.console import emit, say

__all__ = ["COMMAND"]


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a bundle or model of the store, or what `export --layout` or `package` wrote; it is only read",
    )
    parser.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        required=True,
        help="repository on the Hugging Face hub; made if it is not there",
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to (default: the main branch)")
    parser.add_argument("--private", action="store_true", help="make a repository that only its owner sees")
    parser.add_argument("--overwrite", action="store_true", help="send even if the repository holds another model")
    parser.add_argument("--dry-run", action="store_true", help="print what would be made, sent and kept; send nothing")
    parser.add_argument("-m", "--message", metavar="TEXT", default="", help="message of the commit")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def _run(args: Namespace) -> int:
    from .plan import UploadOptions, plan_upload
    from .upload import send

    options = UploadOptions(
        repo_id=args.repo,
        revision=args.revision,
        private=args.private,
        overwrite=args.overwrite,
        message=args.message,
        quiet=args.quiet,
    )
    plan = plan_upload(args.folder, options)
    if not args.quiet:
        for line in plan.remarks():
            say(line)
    if args.dry_run:
        emit(plan.to_text())
        return EXIT_OK
    address = send(plan)
    if not args.quiet:
        say(plan.summary())
    emit(f"{address}\n")
    return EXIT_OK


COMMAND = Command(
    name="upload",
    help="publish a bundle, a layout or archives on the Hugging Face hub: only what has changed is sent",
    add_arguments=_add_arguments,
    run=_run,
)
