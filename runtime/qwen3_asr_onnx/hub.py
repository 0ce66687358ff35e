"""A folder or a hub id in, a local folder out. The only place in the runtime that talks to the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

from .errors import BundleError, MissingExtra

__all__ = ["ModelKind", "is_hub_id", "resolve"]

ModelKind: TypeAlias = Literal["bundle", "checkpoint"]
"""An exported bundle, or the checkpoint it is exported from."""

_PATTERNS: dict[ModelKind, tuple[str, ...]] = {
    "bundle": ("*.json", "*.txt", "*.bin", "*.onnx", "*.data"),
    "checkpoint": ("*.json", "*.txt", "*.jinja", "*.safetensors"),
}
"""What each kind is read from; pictures, PyTorch pickles and GGUF files that lie beside it stay where they are."""

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def is_hub_id(name: str) -> bool:
    """Return whether `name` can only be meant for the hub: "owner/name", and nothing that looks like a path."""
    return _HUB_ID.fullmatch(name) is not None


def resolve(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    kind: ModelKind = "bundle",
    files: Sequence[str] | None = None,
) -> Path:
    """Return the local folder of a bundle or checkpoint, fetching it from the hub if it is a hub id.

    An existing folder always wins. A `Path`, and a string that looks like a path, never reaches the network.
    Environment variables of huggingface_hub (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE) have their usual meaning.

    Args:
        name_or_path: a folder, or "owner/name" on the hub.
        revision: branch, tag or commit on the hub; None is the main branch.
        kind: what it should be, which decides the files that are fetched.
        files: names or patterns to fetch instead of all that this kind may need, for example one variant of a bundle.

    Raises:
        BundleError: neither a folder nor a hub id; or the hub does not have it, does not give it, or cannot be reached.
        MissingExtra: it is a hub id and huggingface_hub is not installed.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise BundleError(f"{path}: this is a file; a {kind} is a folder, so name the folder it lies in")
    if isinstance(name_or_path, Path) or not is_hub_id(name_or_path):
        raise BundleError(f"{name_or_path}: no such folder, and not a hub id (owner/name) either")
    return _fetch(name_or_path, revision, kind, files)


def _fetch(repo_id: str, revision: str | None, kind: ModelKind, files: Sequence[str] | None) -> Path:
    try:
        import huggingface_hub  # the [hub] extra
        from huggingface_hub import errors as hub_errors
    except ImportError as error:
        raise MissingExtra(
            f"{repo_id}: no such folder; fetching it from the hub needs an extra: pip install 'qwen3-asr-onnx[hub]'"
        ) from error
    patterns = list(files if files is not None else _PATTERNS[kind])
    # A full disk is an OSError; what breaks on the wire is an error of the HTTP library, which is requests or httpx by
    # version of huggingface_hub, and of which its own HTTP error is a kind.
    transfer_errors = cast("tuple[type[Exception], ...]", (OSError, *hub_errors.HfHubHTTPError.__bases__))
    try:
        folder = Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=patterns))
    except hub_errors.GatedRepoError as error:
        raise BundleError(
            f"{repo_id}: access is gated; accept its conditions on the hub, then log in with: hf auth login"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{repo_id}: the hub has no revision {revision!r} of it; check the branch, tag or commit"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"{repo_id}: no such folder here, no such public model on the hub; check the spelling, or log in"
        ) from error
    except hub_errors.LocalEntryNotFoundError as error:
        raise BundleError(
            f"{repo_id}: no such folder, no earlier download of it, and the hub cannot be reached "
            f"({_first_line(error.__cause__) or 'HF_HUB_OFFLINE is set'}); check the connection, or give a folder"
        ) from error
    except transfer_errors as error:
        raise BundleError(f"{repo_id}: fetching it failed: {_first_line(error)}") from error
    if not (folder / "config.json").is_file() and files is None:
        raise BundleError(f"{repo_id}: the hub's copy has no config.json, so it is no {kind}; check the name")
    return folder


def _first_line(error: BaseException | None) -> str:
    """Return the gist of an error of the hub, whose later lines advertise help pages."""
    return "" if error is None else (str(error).strip() or type(error).__name__).split("\n")[0]
