"""As much of the Hugging Face hub's HTTP interface as uploads use: the half of `hub_server` that writes.

Repositories and branches are made, files asked about before they are sent, large ones sent by the LFS protocol's basic
transfer, and commits made of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from tests.support.hub_server import FakeHub

LARGE = (".data", ".bin", ".safetensors", ".zst", ".gz")
"""What the hub keeps by its digest, and git only a pointer to it."""

TOKEN = "hf_secret"  # of nobody


@dataclass(frozen=True)
class Commit:
    """One commit that was made: where, what it says of itself, and the names it adds or changes."""

    repo_id: str
    branch: str
    message: str
    names: tuple[str, ...]


class Uploads(BaseHTTPRequestHandler):
    """Answers the requests that change something. What they answer with is in `hub_server`."""

    @property
    def hub(self) -> FakeHub:
        hub: FakeHub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def reply(self, status: int, body: bytes, with_body: bool, headers: dict[str, str]) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str, with_body: bool, message: str = "") -> None:
        raise NotImplementedError

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        actions: dict[str, Callable[..., None]] = {
            r"/api/repos/(?P<what>create)": self.create,
            r"/api/(?P<what>validate)-yaml": self.validate_card,
            r"/api/models/(?P<repo_id>[^/]+/[^/]+)/(?P<what>branch)/(?P<revision>[^/]+)": self.make_branch,
            r"/api/models/(?P<repo_id>[^/]+/[^/]+)/(?P<what>preupload)/(?P<revision>[^/]+)": self.preupload,
            r"/(?P<repo_id>[^/]+/[^/]+)\.git/info/(?P<what>lfs)/objects/batch": self.batch,
            r"/api/models/(?P<repo_id>[^/]+/[^/]+)/(?P<what>commit)/(?P<revision>[^/]+)": self.commit,
        }
        for pattern, action in actions.items():
            match = re.fullmatch(pattern, path)
            if match is None:
                continue
            named = match.groupdict()
            refusal = self.hub.write_refusals.get(named.pop("what"))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.refuse(401, "", True, "Invalid credentials in Authorization header")
            elif refusal is not None:
                self.refuse(refusal[0], "", True, refusal[1])
            else:
                action(body, **{name: unquote(value) for name, value in named.items()})
            return
        self.refuse(404, "", True, f"no such address: {path}")

    def do_PUT(self) -> None:
        """Take a large file, whose digest must be right. Whoever stores them is not told who sends."""
        oid = self.path.rpartition("/")[2]
        size = int(self.headers["Content-Length"])
        self.hub.leaked = self.hub.leaked or "Authorization" in self.headers
        if oid in self.hub.cut_uploads:
            self.rfile.read(min(size, self.hub.cut_uploads[oid]))
            self.close_connection = True
            return  # without an answer
        content = self.rfile.read(size)
        if hashlib.sha256(content).hexdigest() != oid:
            self.refuse(400, "", True, "the digest is another one")
            return
        self.hub.objects[oid] = content
        self.hub.received.append(oid)
        self.reply(200, b"", True, {})

    def create(self, body: bytes) -> None:
        fields = json.loads(body)
        repo_id = f"{fields['organization']}/{fields['name']}"
        if repo_id in self.hub.files or repo_id in self.hub.refusals:
            self.refuse(409, "", True, "You already created this model repo")
            return
        self.hub.files[repo_id] = {".gitattributes": b"*.data filter=lfs diff=lfs merge=lfs -text\n"}
        if fields.get("visibility") == "private" or fields.get("private"):
            self.hub.private.add(repo_id)
        self.answer_json({"url": f"{self.hub.url}/{repo_id}"})

    def validate_card(self, body: bytes) -> None:
        if "license: [" in json.loads(body)["content"]:
            self.answer_json({"errors": [{"message": "YAML Metadata Error"}], "warnings": []}, 400)
        else:
            self.answer_json({"errors": [], "warnings": []})

    def make_branch(self, body: bytes, repo_id: str, revision: str) -> None:
        found = self.hub.at(repo_id, json.loads(body).get("startingPoint", "main"))
        assert found is not None
        self.hub.branches.setdefault(repo_id, {})[revision] = dict(found[0])
        self.answer_json({})

    def preupload(self, body: bytes, repo_id: str, revision: str) -> None:
        found = self.hub.at(repo_id, revision)
        if found is None:
            self.refuse(404, "RevisionNotFound", True)
            return
        self.answer_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": file["path"] in self.hub.ignored,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def batch(self, body: bytes, repo_id: str) -> None:
        fields = json.loads(body)
        assert fields["operation"] == "upload"
        objects = []
        for wanted in fields["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/storage/{wanted['oid']}"}}
            objects.append(answer)
        self.answer_json({"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, repo_id: str, revision: str) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        found = self.hub.at(repo_id, revision)
        if found is None:
            self.refuse(404, "RevisionNotFound", True)
            return
        files, head = found
        if header.get("parentCommit", head) != head:
            self.refuse(412, "", True, "A commit has happened since. Please refresh and try again.")
            return
        added = {line["value"]["path"]: self.content(line["key"], line["value"]) for line in lines[1:]}
        if not added:
            self.refuse(400, "", True, "an empty commit")
            return
        files |= added
        self.hub.commits.append(Commit(repo_id, revision, header["summary"], tuple(added)))
        head = hashlib.sha1(f"{len(self.hub.commits)}".encode()).hexdigest()
        self.hub.heads[repo_id, revision] = head
        self.answer_json({"success": True, "commitOid": head, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{head}"})

    def content(self, key: str, value: dict[str, Any]) -> bytes:
        if key == "file":
            return base64.b64decode(value["content"])
        assert key == "lfsFile", key
        return self.hub.objects[value["oid"]]

    def answer_json(self, body: object, status: int = 200) -> None:
        self.reply(status, json.dumps(body).encode(), True, {"Content-Type": "application/json"})
