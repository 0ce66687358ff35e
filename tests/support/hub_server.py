"""As much of the Hugging Face hub's HTTP interface as we use, on a local port, with faults on request.

HEAD and GET of `/OWNER/NAME/resolve/REVISION/FILE` with ETag, Range and redirects to a second host name, as large files
have on the hub; model info and file lists under `/api/models/`. What writes is in `hub_uploads`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.support.hub_uploads import LARGE, TOKEN, Commit, Uploads
from tests.support.local_server import served

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_id(content: bytes) -> str:
    """Return by what name git keeps a small file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def large(content: bytes) -> dict[str, Any]:
    """Return what the list of files says of a large one."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}


@dataclass
class FakeHub:
    """What the server has and how it behaves.

    Attributes:
        files: repository id -> file name -> content.
        url: address of the server.
        refusals: repository id -> HTTP status and value of X-Error-Code.
        sent_instead: file name -> content that is sent in place of the right one.
        cuts: file name -> bytes after which the connection is closed; 0 closes it before the first byte.
        held: file names whose sending stops in the middle until `release` is set.
        asked: (method, file name, Range header) of every request for a file.
        ranges: whether parts of a file can be had.
        leaked: whether the second host was sent the credentials of the first.
        branches: repository id -> branch other than main -> its files.
        tags: repository id -> names, each of the main branch as it is.
        heads: (repository id, branch) -> id of the last commit that was made here; before any it is `COMMIT`.
        private: repositories that only their owner sees.
        commits: those that were made, in order.
        objects: digest -> large file that was sent.
        received: digests of the large files that were sent whole, in order.
        cut_uploads: digest -> bytes of a large file after which the connection is closed.
        write_refusals: what was asked for ("create", "commit"...) -> HTTP status and what is said.
        ignored: names that a .gitignore lists.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    ranges: bool = True
    leaked: bool = False
    branches: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    heads: dict[tuple[str, str], str] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    commits: list[Commit] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    received: list[str] = field(default_factory=list)
    cut_uploads: dict[str, int] = field(default_factory=dict)
    write_refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)

    def at(self, repo_id: str, revision: str) -> tuple[dict[str, bytes], str] | None:
        """Return the files of a branch, which may be written to, and its last commit; the revision is either."""
        for branch, files in {"main": self.files[repo_id], **self.branches.get(repo_id, {})}.items():
            head = self.heads.get((repo_id, branch), COMMIT)
            if unquote(revision) in (branch, head):
                return files, head
        return None

    def fetched(self) -> list[str]:
        """Return the names of the files that were sent, whole or in part, in order."""
        return [name for method, name, _ in self.asked if method == "GET"]


class Handler(Uploads, BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        on_cdn = re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path)
        if on_cdn:
            if "Authorization" in self.headers:
                self.hub.leaked = True
            self.send_file(on_cdn[1], on_cdn[2], on_cdn[3], with_body)
            return
        parts = re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)/(revision|tree|resolve|refs)/?([^/]*)/?(.*)", path)
        if not parts or parts[1] not in (*self.hub.files, *self.hub.refusals):
            self.refuse(404, "RepoNotFound", with_body)
        elif parts[1] in self.hub.refusals:
            self.refuse(*self.hub.refusals[parts[1]], with_body)
        elif parts[2] == "refs":
            self.list_refs(parts[1], with_body)
        elif self.hub.at(parts[1], parts[3]) is None:
            self.refuse(404, "RevisionNotFound", with_body)
        elif parts[2] == "resolve":
            self.resolve(parts[1], parts[3], parts[4], with_body)
        else:
            self.describe(parts[1], parts[3], parts[2], with_body)

    def list_refs(self, repo_id: str, with_body: bool) -> None:
        branches = ["main", *self.hub.branches.get(repo_id, {})]
        kinds = {"branches": branches, "tags": self.hub.tags.get(repo_id, []), "converts": []}
        body = {
            kind: [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": COMMIT} for name in names]
            for kind, names in kinds.items()
        }
        self.reply(200, json.dumps(body).encode(), with_body, {"Content-Type": "application/json"})

    def resolve(self, repo_id: str, revision: str, name: str, with_body: bool) -> None:
        found = self.hub.at(repo_id, revision)
        assert found is not None
        content, head = found[0].get(name), found[1]
        if content is None:
            self.refuse(404, "EntryNotFound", with_body)
            return
        digest = hashlib.sha256(content).hexdigest()
        if name.endswith(LARGE):  # large files lie elsewhere, and their etag is their digest
            self.hub.asked.append((f"{self.command} ->", name, self.headers.get("Range", "")))
            cdn = self.hub.url.replace("127.0.0.1", "localhost")
            headers = {"Location": f"{cdn}/cdn/{repo_id}/{head}/{name}", "X-Linked-Etag": f'"{digest}"'}
            self.reply(302, b"", with_body, headers | {"X-Linked-Size": str(len(content)), "X-Repo-Commit": head})
        else:
            self.send_file(repo_id, head, name, with_body)

    def send_file(self, repo_id: str, revision: str, name: str, with_body: bool) -> None:
        wanted = self.headers.get("Range", "")
        self.hub.asked.append((self.command, name, wanted))
        found = self.hub.at(repo_id, revision)
        assert found is not None
        right, head = found[0][name], found[1]
        content = self.hub.sent_instead.get(name, right) if with_body else right
        headers = {"ETag": f'"{git_id(right)}"', "X-Repo-Commit": head, "Accept-Ranges": "bytes"}
        status, first = 200, 0
        if wanted and self.hub.ranges:
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if with_body and name in self.hub.cuts:
            self.reply(status, content[first:], False, headers)
            self.wfile.write(content[first : max(first, self.hub.cuts[name])])
            return  # and the connection closes
        if with_body and name in self.hub.held:
            self.reply(status, content[first:], False, headers)
            self.wfile.write(content[first : self.hub.held[name]])
            self.wfile.flush()
            self.hub.reached.set()
            self.hub.release.wait(60)
            return
        self.reply(status, content[first:], with_body, headers)

    def describe(self, repo_id: str, revision: str, what: str, with_body: bool) -> None:
        found = self.hub.at(repo_id, revision)
        assert found is not None
        files, head = found
        body: Any
        if what == "revision":
            siblings = [
                {"rfilename": name, "size": len(data), "blobId": git_id(data)}
                | ({"lfs": large(data)} if name.endswith(LARGE) else {})
                for name, data in files.items()
            ]
            body = {"id": repo_id, "sha": head, "siblings": siblings, "tags": [], "downloads": 0}
            body["private"] = repo_id in self.hub.private
        else:
            body = [
                {"type": "file", "path": name, "size": len(data), "oid": git_id(data)} for name, data in files.items()
            ]
        self.reply(200, json.dumps(body).encode(), with_body, {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, with_body: bool, message: str = "") -> None:
        said = {"X-Error-Message": message} if message else {}
        self.reply(status, b"{}", with_body, ({"X-Error-Code": code} if code else {}) | said)

    def reply(self, status: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a hub without repositories."""
    hub = FakeHub()
    with served(Handler, hub=hub) as hub.url:
        try:
            yield hub
        finally:
            hub.release.set()


@contextmanager
def used_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run a hub, with huggingface_hub pointed at it; without that package the test is skipped."""
    pytest.importorskip("huggingface_hub", "1.5", reason="needs the hub extra")
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # A broken connection loses the piece that was on its way: pieces of a size that suits the files here.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        yield hub
