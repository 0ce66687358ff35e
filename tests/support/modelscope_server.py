"""As much of ModelScope's HTTP interface as downloads use, on a local port, with faults on request.

`GET /api/v1/models/OWNER/NAME/repo/files?Revision=&Recursive=` is the list of files, `.../repo?Revision=&FilePath=` is
a file, with Range, redirected to a second host name as large files are there; as modelscope_hub 0.5.1 asks for them
(`_legacy_api.py`: `list_repo_files`, `get_download_url`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.local_server import served

LARGE = 1000
"""Bytes from which on a file lies on the second host."""


@dataclass
class FakeModelScope:
    """What the server has and how it behaves.

    Attributes:
        files: repository id -> file path -> content.
        url: address of the server.
        private: ids that want the token "ms-secret".
        cuts: file name -> bytes after which the connection is closed.
        sent_instead: file name -> content that is sent in place of the right one.
        asked: (file name, Range header) of every request for a file's content.
        leaked: whether the second host was sent the credentials of the first.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    url: str = ""
    private: set[str] = field(default_factory=set)
    cuts: dict[str, int] = field(default_factory=dict)
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    leaked: bool = False


class Handler(BaseHTTPRequestHandler):
    @property
    def scope(self) -> FakeModelScope:
        scope: FakeModelScope = self.server.scope  # type: ignore[attr-defined]
        return scope

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        parts = re.fullmatch(r"/(api/v1/models|cdn)/([^/]+/[^/]+)/repo(/files)?", address.path)
        if not parts or parts[2] not in self.scope.files:
            self.refuse(404, "the model does not exist")
        elif parts[1] == "cdn":
            self.scope.leaked |= "Authorization" in self.headers or "Cookie" in self.headers
            self.send(parts[2], query["FilePath"])
        elif parts[2] in self.scope.private and self.headers.get("Authorization") != "Bearer ms-secret":
            self.refuse(403, "no permission")
        elif query["Revision"] != "master":
            self.refuse(404, "the revision does not exist")
        elif parts[3]:
            self.list_files(parts[2])
        elif len(self.scope.files[parts[2]][query["FilePath"]]) >= LARGE:
            self.send_response(302)
            cdn = self.scope.url.replace("127.0.0.1", "localhost")
            self.send_header("Location", f"{cdn}/cdn/{parts[2]}/repo?{address.query}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send(parts[2], query["FilePath"])

    def list_files(self, repo_id: str) -> None:
        listed: list[dict[str, Any]] = [{"Type": "tree", "Path": "assets", "Name": "assets", "Size": 0, "Sha256": ""}]
        for path, content in self.scope.files[repo_id].items():
            digest = hashlib.sha256(content).hexdigest()
            listed.append(
                {"Type": "blob", "Path": path, "Name": path.rpartition("/")[2], "Size": len(content), "Sha256": digest}
            )
        self.reply(200, json.dumps({"Code": 200, "Success": True, "Message": "", "Data": {"Files": listed}}).encode())

    def send(self, repo_id: str, name: str) -> None:
        wanted = self.headers.get("Range", "")
        self.scope.asked.append((name, wanted))
        content = self.scope.sent_instead.get(name, self.scope.files[repo_id][name])
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if wanted else {}
        cut = max(0, self.scope.cuts[name] - first) if name in self.scope.cuts else None
        self.reply(206 if wanted else 200, content[first:], headers, cut)

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, json.dumps({"Code": 10010205001, "Message": message, "Success": False}).encode())

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@contextmanager
def fake_modelscope() -> Iterator[FakeModelScope]:
    """Run a server without repositories."""
    scope = FakeModelScope()
    with served(Handler, scope=scope) as scope.url:
        yield scope
