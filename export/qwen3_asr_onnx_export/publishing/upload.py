"""A plan in, the repository as planned out: what has changed is sent to the hub in one commit.

An interrupted run leaves no commit, and the large files that had arrived are there for the next one.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from qwen3_asr_onnx.errors import BundleError

from .plan import UploadPlan
from .repository import MAIN, RemoteFile, explained, listing, open_hub

__all__ = ["send"]


def send(plan: UploadPlan) -> str:
    """Make the repository what was planned, if it is not, and return its address.

    Raises:
        BundleError: the hub does not take it, the connection broke, a file was changed, or not all has arrived.
        LimitError: the owner has no room for it.
    """
    repository, options = plan.repository, plan.options
    api = open_hub(repository.repo_id)
    operations = _operations(plan)
    with explained(repository.repo_id), _bars_for_people(quiet=options.quiet):
        if not repository.exists:
            api.create_repo(repository.repo_id, private=options.private or None)
        if not repository.has_branch and repository.branch != MAIN:
            api.create_branch(repository.repo_id, branch=repository.branch, revision=repository.commit)
        if operations:
            # One file after the other: whatever breaks, at most one has to be sent again.
            commit = api.create_commit(
                repository.repo_id,
                operations,
                commit_message=options.message.strip() or _message(plan),
                revision=repository.branch,
                parent_commit=repository.commit,
                num_threads=1,
            )
            _check_arrived(plan, listing(api.model_info(repository.repo_id, revision=commit.oid, files_metadata=True)))
    return plan.address


def _operations(plan: UploadPlan) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    operations = []
    for name in plan.sent:
        operation = CommitOperationAdd(path_in_repo=name, path_or_fileobj=plan.folder.require_unchanged(name))
        if name in plan.digests:  # or huggingface_hub would read the file for it once more
            operation.upload_info.sha256 = bytes.fromhex(plan.digests[name])
        operations.append(operation)
    return operations


def _message(plan: UploadPlan) -> str:
    name = plan.folder.identity.name if plan.folder.identity else plan.folder.path.resolve().name
    return f"{name}, by qwen3-asr-onnx {version('qwen3-asr-onnx')}"


def _check_arrived(plan: UploadPlan, files: Mapping[str, RemoteFile]) -> None:
    """Raise where the hub has left something out, as it does with what the repository's `.gitignore` names."""
    for name in plan.folder.files:
        if name not in files or files[name].size not in (None, plan.folder.sizes[name]):
            raise BundleError(
                f"{plan.repository.repo_id}: {name} has not arrived as it is here; does a .gitignore there name it, or "
                "was it changed while it was sent?"
            )


@contextlib.contextmanager
def _bars_for_people(*, quiet: bool) -> Iterator[None]:
    """Show the bars of huggingface_hub on a terminal only."""
    from huggingface_hub import constants

    utils: Any = importlib.import_module("huggingface_hub.utils")
    is_watched = sys.stderr is not None and sys.stderr.isatty()
    # Where the variable decides, huggingface_hub does not let programs change it.
    decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled()
    if decided or (is_watched and not quiet):
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
