"""The other end of a worker: says lines, collects what comes, and holds both to docs/worker.schema.json."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from qwen3_asr_onnx.worker.host import Host
from qwen3_asr_onnx.worker.session import Session

__all__ = ["LONG", "SCHEMA", "SHORT", "Client", "conversation", "problem", "refused", "schema_body", "with_model"]

SHORT: dict[str, Any] = {"max_new_tokens": 6, "max_segment_s": 3.0}
LONG: dict[str, Any] = {"max_new_tokens": 2000, "max_segment_s": 3.0}

SCHEMA = Path(__file__).parents[2] / "docs" / "worker.schema.json"


def schema_body() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return body


@cache
def _validator(part: str) -> Any:
    """Return what validates by a definition, and by no member that it does not name; None where it is not to be had.

    For clients the schema is open: members may be added. What is sent today is all described.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return None  # beside the built wheel; test_schema.py is skipped there, and says so
    if not SCHEMA.is_file():
        return None
    closed = copy.deepcopy(schema_body())
    for name, definition in closed["$defs"].items():
        if not name.endswith("_members") and name != "request":  # others add to those; a request is closed
            _close(definition)
    return Draft202012Validator({**closed, "$ref": f"#/$defs/{part}", "anyOf": [True]})


def _close(schema: Any) -> None:
    if isinstance(schema, list):
        for one in schema:
            _close(one)
    elif isinstance(schema, dict):
        if schema.get("type") == "object" or "_members" in schema.get("$ref", ""):
            schema.setdefault("unevaluatedProperties", False)
        for one in schema.values():
            _close(one)


def problem(part: str, body: object) -> str | None:
    """Return how an object is not what a definition of the schema says; None where it is."""
    validator = _validator(part)
    errors = [] if validator is None else [error.message for error in validator.iter_errors(body)]
    return f"{part}: {errors[0]}: {json.dumps(body)[:500]}" if errors else None


class Client:
    """Says lines, and collects what comes. Whatever is said by `say` and does not fail, and whatever comes, is held to
    the schema at the end."""

    def __init__(self, sink: BinaryIO, source: BinaryIO) -> None:
        self._sink, self._source = sink, source
        self.heard: list[dict[str, Any]] = []
        self._came = threading.Condition()
        self._said: dict[str | int, dict[str, Any]] = {}
        self._all: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._source:
            with self._came:
                self.heard.append(json.loads(line))
                self._all.append(self.heard[-1])
                self._came.notify_all()

    def say(self, method: str, name: str | int | None = None, payload: bytes | None = None, **params: Any) -> None:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        body |= {} if name is None else {"id": name}
        body |= {} if payload is None else {"payload_length": len(payload)}
        if name is not None:
            self.check()  # an id may be used again: what was answered until now belongs to the former
            self._said[name] = body
        self.raw(json.dumps(body).encode() + b"\n" + (payload or b""))

    def raw(self, data: bytes) -> None:
        self._sink.write(data)
        self._sink.flush()

    def answer(self, name: str | int | None) -> dict[str, Any]:
        """Return the answer to a request, once it is there."""
        with self._came:
            assert self._came.wait_for(lambda: any("method" not in one and one["id"] == name for one in self.heard), 30)
            return next(one for one in self.heard if "method" not in one and one["id"] == name)

    def ask(self, method: str, name: str | int = "ask", payload: bytes | None = None, **params: Any) -> Any:
        self.say(method, name, payload, **params)
        answer = self.answer(name)
        with self._came:
            self.heard = [one for one in self.heard if one is not answer]
        return answer.get("result", answer.get("error"))

    def wait_for(self, kind: str, name: str | int) -> None:
        """Return when an event of a request has come."""
        with self._came:
            assert self._came.wait_for(
                lambda: any(one.get("method") == kind and one["params"]["id"] == name for one in self.heard), 30
            )

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self.heard if one.get("method") == kind]

    def end(self) -> None:
        self._sink.close()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def check(self) -> None:
        """Hold what came since the last check, and the requests that succeeded, to the schema."""
        with self._came:
            came, self._all = self._all, []
        assert [found for one in came if (found := self._problem(one))] == []

    def _problem(self, one: Mapping[str, Any]) -> str | None:
        if "method" in one:
            return problem("event", one)
        said = self._said.get(one["id"])
        if "result" not in one or said is None:
            return problem("answer", one)
        return problem("answer", one) or problem("request", said) or problem(f"{said['method']}.result", one["result"])


def refused(error: Mapping[str, Any], code: int) -> None:
    """Assert that an answer is an error of this code, and whole."""
    assert error["code"] == code, error
    assert error["message"]
    assert error["data"]["type"]


def conversation(act: Callable[[Client], object], host: Host | None = None, token: str | None = None) -> Client:
    """Let a client talk to a session until both have ended; return what it heard."""

    async def main() -> Client:
        there, to_worker = os.pipe()
        here, to_client = os.pipe()
        with os.fdopen(there, "rb") as stream_in, os.fdopen(to_client, "wb", 0) as out, os.fdopen(here, "rb") as source:
            client = Client(os.fdopen(to_worker, "wb"), source)
            session = Session(host or Host(), stream_in, out, token)
            acting = asyncio.create_task(asyncio.to_thread(_acted, act, client))
            try:
                await session.run()
                await acting
            finally:  # while its thread reads, nobody can close what it reads from
                out.close()
                await asyncio.to_thread(client.join)
        return client

    client = asyncio.run(main())
    client.check()
    return client


def _acted(act: Callable[[Client], object], client: Client) -> None:
    try:
        act(client)
    finally:
        client.end()


def with_model(bundle: Path, act: Callable[[Client], object]) -> Client:
    def loaded(client: Client) -> None:
        assert client.ask("load", model=str(bundle))["aligner"] is False
        act(client)

    return conversation(loaded)
