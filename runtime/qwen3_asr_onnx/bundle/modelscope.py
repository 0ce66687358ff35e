"""Repositories of ModelScope, which is what can be reached from mainland China.

The interface is the one its SDK uses (modelscope_hub 0.5.1: `_legacy_api.py`, `list_repo_files` and `get_download_url`;
`config.py` for the variables). The SDK itself would bring 35 MB, cryptography among it, for two kinds of request.

MODELSCOPE_ENDPOINT, or MODELSCOPE_DOMAIN as older SDKs have it, names a mirror; MODELSCOPE_API_TOKEN lets in to private
models; MODELSCOPE_CACHE moves the downloads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from qwen3_asr_onnx.errors import BundleError, MissingExtra

from .hub import first_line, is_hub_id, meant, transfer_errors
from .json_text import MAX_JSON_BYTES, parse_json
from .manifest import FileRecord
from .transfers import Remote, check_possible, download, known_record, missing, remove_damaged, transfer_bar
from .writing import FULL_DISK, full_disk, readable_bytes

if TYPE_CHECKING:
    from urllib.error import HTTPError

__all__ = ["PREFIX", "ModelScopeRepository", "open_modelscope"]

PREFIX = "modelscope:"

ENDPOINT = "https://www.modelscope.cn"

BRANCH = "master"

TIMEOUT_S = 30.0

LISTING = "ModelScope's list of files"

CACHE_REMEDY = "set MODELSCOPE_CACHE to a folder on another disk"


@dataclass(frozen=True, slots=True)
class ModelScopeRepository:
    """A branch of a repository there.

    Attributes:
        repo_id: "owner/name".
        revision: branch or tag.
        files: file name -> size and digest; None when only what was downloaded before can be used.
    """

    repo_id: str
    revision: str
    files: Mapping[str, FileRecord] | None

    @property
    def label(self) -> str:
        """The id, and where it is."""
        return PREFIX + self.repo_id

    @property
    def name(self) -> str:
        """The name without its owner."""
        return self.repo_id.partition("/")[2]

    @property
    def commit(self) -> str:
        """Nothing: the list of files says no commit."""
        return ""

    @property
    def names(self) -> Collection[str]:
        """Its files, or what was downloaded of them."""
        return frozenset(path.name for path in self._folder.iterdir()) if self.files is None else self.files.keys()

    @property
    def hint(self) -> str:
        """The usual reason."""
        if self.files is None:
            return f"a part of it only is in {self._folder}, and {_endpoint()} cannot be reached"
        return "tell the owner of the repository"

    @property
    def _folder(self) -> Path:
        given = os.environ.get("MODELSCOPE_CACHE")
        cache = Path(given).expanduser() if given else Path.home() / ".cache" / "modelscope"
        return cache / "qwen3-asr-onnx" / self.repo_id / self.revision.replace("/", "-")

    def fetch(self, names: Collection[str], *, quiet: bool) -> Path:
        """Return the folder with these files in it.

        Raises:
            BundleError: a file cannot be fetched, or arrives damaged.
            LimitError: the disk is full.
        """
        folder = self._folder
        if self.files is None:
            return folder
        wanted = {name: self.files[name] for name in names}
        with self._explained():
            lacking = missing(folder, wanted, check=True, quiet=quiet)
            check_possible(self.label, folder, lacking, CACHE_REMEDY)
            with transfer_bar(self.label, lacking, quiet=quiet) as bar:
                for name, record in sorted(lacking.items()):
                    remove_damaged(folder / name)
                    url = f"{_api(self.repo_id)}?Revision={quote_plus(self.revision)}&FilePath={quote_plus(name)}"
                    download(Remote(self.label, name, url, record, LISTING, _headers()), folder / name, bar)
        return folder

    def left_behind(self) -> str | None:
        """Return how much the downloads take, and where."""
        n_bytes = sum(path.stat().st_size for path in self._folder.iterdir())
        return f"{readable_bytes(n_bytes)} of downloads stay in {self._folder}; remove that folder to free them"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the HTTP library raises into errors that say what to do."""
        try:
            wire_errors = transfer_errors()
        except ImportError as error:
            raise MissingExtra(
                f"{self.label}: getting models needs an extra: pip install 'qwen3-asr-onnx[get]'"
            ) from error
        try:
            yield
        except wire_errors as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise full_disk(self._folder, CACHE_REMEDY) from error
            raise BundleError(
                f"{self.label}: fetching it failed: {first_line(error)}; try again, it goes on from there"
            ) from error


def open_modelscope(repo_id: str, revision: str | None = None) -> ModelScopeRepository:
    """Return a repository of ModelScope; without a connection, what was downloaded of it before.

    Raises:
        BundleError: no such repository or revision, no access, or no connection and nothing downloaded.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    label = PREFIX + repo_id
    if not is_hub_id(repo_id):
        raise BundleError(f"{label}: not an id of ModelScope, which is owner/name")
    revision = revision or BRANCH
    url = f"{_api(repo_id)}/files?Revision={quote_plus(revision)}&Recursive=True"
    try:
        # Only a mirror that the user named is other than https.
        with urlopen(Request(url, headers=_headers()), timeout=TIMEOUT_S) as reply:  # noqa: S310
            body = parse_json(reply.read(MAX_JSON_BYTES).decode(), Path("repo", "files"))
    except HTTPError as error:
        raise BundleError(_refusal(label, revision, error)) from error
    except (OSError, ValueError) as error:
        stored = ModelScopeRepository(repo_id, revision, None)
        if stored._folder.is_dir():
            return stored
        raise BundleError(
            f"{label}: no earlier download of it, and {_endpoint()} gives no list of files ({error}); "
            "check the connection, or set MODELSCOPE_ENDPOINT to a mirror"
        ) from error
    return ModelScopeRepository(repo_id, revision, _records(label, body))


def _records(label: str, body: Any) -> dict[str, FileRecord]:
    """Return the files at the top of a repository."""
    data = body.get("Data") if isinstance(body, dict) else None
    listed = data.get("Files") if isinstance(data, dict) else data
    try:
        return {
            str(file["Path"]): known_record(label, str(file["Path"]), file["Size"], file["Sha256"])
            for file in listed or ()
            if file.get("Type") != "tree" and "/" not in file["Path"] and file.get("Sha256")
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{label}: {_endpoint()} gives a list of files that cannot be read ({error!r})") from error


def _refusal(label: str, revision: str, error: HTTPError) -> str:
    if error.code in (401, 403):
        return f"{label}: ModelScope refuses access ({error.code}); set MODELSCOPE_API_TOKEN to a token that has it"
    if error.code == 404:
        hint = meant(label.removeprefix(PREFIX)) or f"check the name, and that it has a revision {revision!r}"
        return f"{label}: ModelScope has no such model; {hint}".strip()
    return f"{label}: ModelScope answers with an error ({error.code} {error.reason}); try again later"


def _endpoint() -> str:
    given = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or ENDPOINT
    return (given if "://" in given else f"https://{given}").rstrip("/")


def _api(repo_id: str) -> str:
    return f"{_endpoint()}/api/v1/models/{repo_id}/repo"


def _headers() -> dict[str, str]:
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    agent = {"User-Agent": "qwen3-asr-onnx"}
    return agent | {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else agent
