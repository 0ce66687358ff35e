"""The name of a repository in, what it holds on the hub out; and what the hub raises turned into what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.hub import LOG_IN, first_line, is_reachable, no_connection, transfer_errors
from qwen3_asr_onnx.bundle.json_text import MAX_JSON_BYTES
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.transfers import no_bars_of_small_files
from qwen3_asr_onnx.errors import BundleError, LimitError, MissingExtra, OptionsError, Qwen3AsrError

from .identity import Identity, read_identity

__all__ = ["AGAIN", "MAIN", "RemoteFile", "Repository", "explained", "listing", "look_up", "open_hub"]

MAIN = "main"

AGAIN = "run the same command again: what has arrived is not sent again"

_COMMIT = re.compile(r"[0-9a-f]{40}")

_ADVICE = {
    401: f"the hub does not know this token; {LOG_IN}",
    403: f"this token may not write there; check the owner, or {LOG_IN}, with a token that may write",
    404: f"no such owner, or a repository that this token does not see; check the spelling, or {LOG_IN}",
    409: "there is one already that this token does not see, or it is being changed; choose another name, or wait",
    412: f"somebody else has changed it meanwhile; {AGAIN}",
    429: f"too many requests; wait a while, then {AGAIN}",
}

SHOWN_CHARACTERS = 300

_NO_ROOM = frozenset({402, 413, 507})
_NO_ROOM_WORDS = ("storage", "quota", "too large")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What the hub says of one file.

    Attributes:
        size: bytes; None where a mirror does not say it.
        sha256: of a large file, else "".
        git_id: the id in git of a small file, "" where a mirror does not say it.
    """

    size: int | None
    sha256: str
    git_id: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of models, as it is now.

    Attributes:
        repo_id: "owner/name".
        branch: what is committed to.
        exists: whether the repository does.
        has_branch: whether the branch does.
        is_private: whether only its owner sees it.
        commit: what `files` is the state of: the end of the branch, or of the main branch where there is none yet.
        files: name -> file.
        identity: what its `config.json` says; None without one.
    """

    repo_id: str
    branch: str
    exists: bool = False
    has_branch: bool = False
    is_private: bool = False
    commit: str | None = None
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    identity: Identity | None = None


def open_hub(repo_id: str) -> Any:
    """Return the hub's interface, with a token.

    Raises:
        BundleError: there is none.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra(f"upload needs an extra: pip install 'qwen3-asr-onnx[hub]' ({error})") from error
    with explained(repo_id):
        token = huggingface_hub.get_token()
    if not token:
        raise BundleError(f"{repo_id}: nobody is logged in, and the hub takes files from its users only; {LOG_IN}")
    return huggingface_hub.HfApi(token=token, library_name="qwen3-asr-onnx", library_version=version("qwen3-asr-onnx"))


def look_up(api: Any, repo_id: str, revision: str | None) -> Repository:
    """Return what a repository holds; where there is none, or none that this user may see, that it does not exist.

    Args:
        api: a `huggingface_hub.HfApi`.
        repo_id: "owner/name".
        revision: the branch to commit to; None is the main branch.

    Raises:
        BundleError: the hub cannot be reached or does not answer.
        OptionsError: the revision is no branch.
    """
    from huggingface_hub import errors as hub_errors

    branch = revision or MAIN
    if not is_reachable():
        raise BundleError(f"{repo_id}: nothing can be sent: {no_connection()}; check the connection and {AGAIN}")
    with explained(repo_id):
        try:
            has_branch = branch == MAIN or _is_branch(api, repo_id, branch)
            info = api.model_info(repo_id, revision=branch if has_branch else MAIN, files_metadata=True)
        except hub_errors.GatedRepoError:
            raise
        except hub_errors.RepositoryNotFoundError as error:
            if error.response.status_code == 401:
                raise
            return Repository(repo_id, branch)
        files = listing(info)
        with no_bars_of_small_files():
            identity = _identity(api, info, files)
    return Repository(str(info.id), branch, True, has_branch, bool(info.private), info.sha, files, identity)


def listing(info: Any) -> dict[str, RemoteFile]:
    """Return the files of what `model_info` gave."""
    return {
        file.rfilename: RemoteFile(file.size, str(getattr(file.lfs, "sha256", "") or ""), str(file.blob_id or ""))
        for file in info.siblings or ()
    }


def _is_branch(api: Any, repo_id: str, name: str) -> bool:
    refs = api.list_repo_refs(repo_id)
    if name in (branch.name for branch in refs.branches):
        return True
    if _COMMIT.fullmatch(name) or name in (tag.name for tag in refs.tags):
        raise OptionsError(f"--revision {name}: a commit or a tag of {repo_id}, which stays as it is; name a branch")
    return False


def _identity(api: Any, info: Any, files: Mapping[str, RemoteFile]) -> Identity | None:
    """Return what its config says, which is fetched into the cache of the hub."""
    manifest = files.get(MANIFEST_FILE)
    if manifest is None:
        return None
    if manifest.size is not None and manifest.size > MAX_JSON_BYTES:
        return Identity("other", "")
    return read_identity(Path(api.hf_hub_download(info.id, MANIFEST_FILE, revision=info.sha)))


@contextlib.contextmanager
def explained(repo_id: str) -> Iterator[None]:
    """Turn what huggingface_hub raises while it writes into errors that say what to do; it is known to be installed.

    Raises:
        BundleError: the hub does not take it, or the connection broke.
        LimitError: the owner has no room for it.
        OptionsError: that cannot be the name of a repository.
    """
    from huggingface_hub import errors as hub_errors

    failures: tuple[type[Exception], ...] = (*transfer_errors(), RuntimeError, ValueError)
    try:
        yield
    except Qwen3AsrError:
        raise
    except hub_errors.HFValidationError as error:
        raise OptionsError(f"--repo {repo_id}: no name of a repository: {first_line(error)}") from error
    except failures as error:
        raise _explanation(repo_id, error) from error


def _explanation(repo_id: str, error: Exception) -> Qwen3AsrError:
    """Return what is told of an error."""
    # Of one of many files huggingface_hub says only which one failed, and the reason stands behind it.
    cause = error if hasattr(error, "response") or error.__cause__ is None else error.__cause__
    what = "" if cause is error else f"{first_line(error).rstrip('.')}: "
    status = getattr(getattr(cause, "response", None), "status_code", None)
    reason = what + (_one_line(str(getattr(cause, "server_message", "") or "")) or _one_line(_gist(cause)))
    if status in _NO_ROOM or any(word in reason.lower() for word in _NO_ROOM_WORDS):
        return LimitError(f"{repo_id}: its owner has no room for it on the hub ({reason}); free some there")
    if status is None:
        return BundleError(f"{repo_id}: the connection to the hub failed ({reason}); {AGAIN}{_without_xet(reason)}")
    if status >= 500:
        return BundleError(f"{repo_id}: the hub has a fault ({status}: {reason}); {AGAIN}")
    return BundleError(f"{repo_id}: {_ADVICE.get(status, 'the hub refuses it')} ({status}: {reason})")


def _gist(error: BaseException) -> str:
    """Return the first line of an HTTP error, whose others advertise, and all of any other."""
    return first_line(error) if hasattr(error, "response") else str(error)[:SHOWN_CHARACTERS] or type(error).__name__


def _without_xet(reason: str) -> str:
    """Return what helps where a mirror does not know how large files are sent today."""
    return "; where a mirror knows no Xet storage, set HF_HUB_DISABLE_XET=1" if "xet-write-token" in reason else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
