"""A folder or a hub id in, a local folder out. With `hub_variant`, all that talks to the Hugging Face hub."""

from __future__ import annotations

import contextlib
import difflib
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import urlsplit

from qwen3_asr_onnx.audio.sources import at_home
from qwen3_asr_onnx.errors import BundleError, MissingExtra

from .json_text import parse_json, read_regular_text
from .manifest import MANIFEST_FILE
from .store import find, is_name, no_such_model
from .writing import FULL_DISK, full_disk

__all__ = [
    "ADAPTER_FILE",
    "FOREIGN",
    "LOG_IN",
    "OFFICIAL",
    "ModelKind",
    "explained",
    "first_line",
    "is_hub_id",
    "is_reachable",
    "local_folder",
    "meant",
    "no_connection",
    "refuse_checkpoint",
    "resolve",
    "transfer_errors",
]

FOREIGN = "no qwen3-asr-onnx bundle"

ModelKind: TypeAlias = Literal["bundle", "checkpoint"]
"""An exported bundle, or the checkpoint it is exported from."""

_PATTERNS: dict[ModelKind, tuple[str, ...]] = {
    "bundle": ("*.json", "*.txt", "*.jinja", "*.bin", "*.onnx", "*.data"),
    "checkpoint": ("*.json", "*.txt", "*.jinja", "*.safetensors"),
}
"""What each kind is read from; pictures, PyTorch pickles and GGUF files that lie beside it stay where they are."""

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")

ADAPTER_FILE = "adapter_config.json"
"""What a LoRA adapter has in place of a config; whoever opens it says what it is."""

REACH_S = 1.5
"""How long a connection may take. Even over a satellite one is made in a second."""

LOG_IN = "log in: hf auth login, or set HF_TOKEN"

OFFICIAL = ("Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-1.7B", "Qwen/Qwen3-ForcedAligner-0.6B")
"""The released checkpoints, for who misspells one."""

_REFUSALS = frozenset({401, 403})


def is_hub_id(name: str) -> bool:
    """Return whether `name` can only be meant for the hub: "owner/name", and nothing that looks like a path."""
    return _HUB_ID.fullmatch(name) is not None


def meant(name: str) -> str:
    """Return a question with the released checkpoint that was meant by a name like it, "" where none is like it."""
    folded = {known.lower(): known for known in OFFICIAL} | {
        known.partition("/")[2].lower(): known for known in OFFICIAL
    }
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.8)
    return f"did you mean {folded[close[0]]}? " if close and folded[close[0]] != name else ""


def local_folder(name_or_path: str | Path, kind: ModelKind = "bundle") -> Path | None:
    """Return the folder that is meant, None for a hub id. An existing folder always wins, then a model of the store.

    Raises:
        BundleError: neither a folder nor a model nor a hub id.
    """
    path = at_home(Path(name_or_path), str(name_or_path))
    if path.is_dir():
        return path
    if path.exists():
        raise BundleError(f"{path}: this is a file; a {kind} is a folder, so name the folder it lies in")
    if kind == "bundle" and isinstance(name_or_path, str) and is_name(name_or_path):
        found = find(name_or_path)
        if found is None:
            raise BundleError(
                f"{name_or_path}: no such folder, and not a hub id (owner/name) either; {no_such_model(name_or_path)}"
            )
        return found
    if isinstance(name_or_path, Path) or not is_hub_id(name_or_path):
        raise BundleError(f"{name_or_path}: no such folder, and not a hub id (owner/name) either")
    return None


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
    Of a bundle this fetches every variant; `hub_variant.fetch_variant` fetches one.

    Args:
        name_or_path: a folder, or "owner/name" on the hub.
        revision: branch, tag or commit on the hub; None is the main branch.
        kind: what it should be, which decides the files that are fetched.
        files: names or patterns to fetch instead of all that this kind may need.

    Raises:
        BundleError: neither a folder nor a hub id; or the hub does not have it, does not give it, or cannot be reached.
        MissingExtra: it is a hub id and huggingface_hub is not installed.
    """
    folder = local_folder(name_or_path, kind)
    if folder is not None:
        return folder
    return _fetch(str(name_or_path), revision, kind, files)


def _fetch(repo_id: str, revision: str | None, kind: ModelKind, files: Sequence[str] | None) -> Path:
    patterns = list(files if files is not None else _PATTERNS[kind])
    with explained(repo_id, revision):
        import huggingface_hub

        only_here = not is_reachable()
        folder = Path(
            huggingface_hub.snapshot_download(
                repo_id, revision=revision, allow_patterns=patterns, local_files_only=only_here
            )
        )
    known = (MANIFEST_FILE, ADAPTER_FILE) if kind == "checkpoint" else (MANIFEST_FILE,)
    if files is None and not any((folder / name).is_file() for name in known):  # a checkpoint's has the same name
        raise BundleError(f"{repo_id}: the hub's copy has no {MANIFEST_FILE}, so it is no {kind}; check the name")
    return folder


def is_reachable() -> bool:
    """Return whether the hub, or the proxy on the way to it, takes connections, within 1.5 s.

    huggingface_hub itself needs 25 s and eleven lines to find out that it is offline. False where it must not be asked.
    """
    from urllib.request import getproxies, proxy_bypass

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = urlsplit(constants.ENDPOINT)
    via = None if proxy_bypass(endpoint.hostname or "") else getproxies().get(endpoint.scheme)
    address = urlsplit(via) if via and "//" in via else endpoint
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    connected = threading.Event()

    def connect() -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            socket.create_connection((host, port), REACH_S),
        ):
            connected.set()

    # In a thread, because looking up a name knows no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_S)
    return connected.is_set()


def no_connection() -> str:
    """Return why the hub is not asked."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"no connection to {constants.ENDPOINT}"


@contextlib.contextmanager
def explained(repo_id: str, revision: str | None, extra: str = "hub") -> Iterator[None]:
    """Turn what huggingface_hub raises into errors that say what to do.

    Raises:
        BundleError: the hub does not have it, does not give it, or cannot be reached.
        LimitError: the disk is full.
        MissingExtra: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import constants
        from huggingface_hub import errors as hub_errors
    except ImportError as error:
        raise MissingExtra(
            f"{repo_id}: no such folder; fetching it from the hub needs an extra: pip install 'qwen3-asr-onnx[{extra}]'"
        ) from error
    try:
        yield
    except hub_errors.GatedRepoError as error:
        raise BundleError(f"{repo_id}: access is gated; accept its conditions on the hub, then {LOG_IN}") from error
    except hub_errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{repo_id}: the hub has no revision {revision!r} of it; check the branch, tag or commit"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        hint = f"{meant(repo_id)}check the spelling, or {LOG_IN}"
        raise BundleError(f"{repo_id}: no such folder here, no such public model on the hub; {hint}") from error
    except hub_errors.LocalEntryNotFoundError as error:
        if _status(error.__cause__) in _REFUSALS:
            raise _refused(repo_id, error.__cause__) from error
        raise BundleError(
            f"{repo_id}: no such folder, no earlier download of it, and the hub cannot be reached "
            f"({first_line(error.__cause__) or no_connection()}); check the connection, or give a folder"
        ) from error
    except transfer_errors() as error:
        if _status(error) in _REFUSALS:
            raise _refused(repo_id, error) from error
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise full_disk(Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder on another disk") from error
        raise BundleError(f"{repo_id}: fetching it failed: {first_line(error)}") from error


def transfer_errors() -> tuple[type[Exception], ...]:
    """Return what breaks on the wire, huggingface_hub known to be installed.

    That is an error of the HTTP library, which is requests or httpx by version of huggingface_hub, and of which its own
    HTTP error is a kind. The rest are OSErrors.
    """
    from huggingface_hub import errors as hub_errors

    return cast("tuple[type[Exception], ...]", (OSError, *hub_errors.HfHubHTTPError.__bases__))


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status behind an error, None when it is of another kind."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _refused(repo_id: str, error: BaseException | None) -> BundleError:
    return BundleError(f"{repo_id}: the hub refuses access ({_status(error)}); {LOG_IN}, as somebody who has it")


def first_line(error: BaseException | None) -> str:
    """Return the gist of an error of the hub, whose later lines advertise help pages."""
    return "" if error is None else (str(error).strip() or type(error).__name__).split("\n")[0]


def refuse_checkpoint(repo_id: str, manifest: Path) -> None:
    """Raise where the config.json that was fetched is that of a checkpoint.

    Raises:
        BundleError: it is.
    """
    try:
        body = parse_json(read_regular_text(manifest), manifest)
    except (OSError, BundleError):
        return  # which the reader of manifests will report
    if isinstance(body, dict) and "format" not in body and ("model_type" in body or "architectures" in body):
        raise BundleError(f"{repo_id}: {FOREIGN} but a checkpoint; make a model of it: qwen3-asr-onnx get {repo_id}")
