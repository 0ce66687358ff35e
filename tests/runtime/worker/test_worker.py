"""A worker as other programs drive it: lines and payloads in, answers and events out, whatever is wrong with them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes

from qwen3_asr_onnx import OptionsError, Transcriber
from qwen3_asr_onnx.worker import wire
from qwen3_asr_onnx.worker.faults import (
    CANCELLED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_MODEL,
    NOT_ALLOWED,
    NOT_NOW,
    PARSE_ERROR,
    TOO_MUCH,
    UNKNOWN_METHOD,
)
from qwen3_asr_onnx.worker.host import Choice, Host
from qwen3_asr_onnx.worker.serving import serve_socket
from qwen3_asr_onnx.worker.session import Session

SHORT: dict[str, Any] = {"max_new_tokens": 6, "max_segment_s": 3.0}
LONG: dict[str, Any] = {"max_new_tokens": 2000, "max_segment_s": 3.0}


class Client:
    """The other end of a session: says lines, and collects what comes."""

    def __init__(self, sink: BinaryIO, source: BinaryIO) -> None:
        self._sink, self._source = sink, source
        self.heard: list[dict[str, Any]] = []
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        for line in self._source:
            with self._came:
                self.heard.append(json.loads(line))
                self._came.notify_all()

    def say(self, method: str, name: str | int | None = None, payload: bytes | None = None, **params: Any) -> None:
        body: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        body |= {} if name is None else {"id": name}
        body |= {} if payload is None else {"payload_length": len(payload)}
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
        self.heard = [one for one in self.heard if one is not answer]
        return answer.get("result", answer.get("error"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self.heard if one.get("method") == kind]

    def end(self) -> None:
        self._sink.close()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def conversation(act: Callable[[Client], object], host: Host | None = None, token: str | None = None) -> Client:
    """Let a client talk to a session until both have ended; return what it heard."""

    async def main() -> Client:
        there, to_worker = os.pipe()
        here, to_client = os.pipe()
        with open(there, "rb") as stream_in, open(to_client, "wb", buffering=0) as out, open(here, "rb") as source:
            client = Client(open(to_worker, "wb"), source)  # noqa: SIM115 - closed by `end`
            session = Session(host or Host(), stream_in, out, token)
            acting = asyncio.create_task(asyncio.to_thread(_acted, act, client))
            await session.run()
            await acting
            out.close()
            await asyncio.to_thread(client.join)
        return client

    return asyncio.run(main())


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


def test_hello_says_what_is_spoken() -> None:
    def act(client: Client) -> None:
        found = client.ask("hello", protocol=1, client="a test")
        assert found["protocol"] == 1
        assert found["model"] is None
        assert {"hello", "load", "transcribe", "stream.open", "stream.feed", "cancel", "shutdown"} <= set(
            found["verbs"]
        )
        assert client.ask("hello", protocol=2)["code"] == INVALID_REQUEST

    conversation(act)


def test_audio_by_path_by_file_bytes_and_by_samples_gives_the_same(
    tiny_bundle: Path, asr: Transcriber, tmp_path: Path
) -> None:
    clip = np.round(synthetic_clip(2.5) * 32767).astype("<i2")
    file = wav_bytes(clip)
    (tmp_path / "clip.wav").write_bytes(file)
    expected = asr.transcribe(tmp_path / "clip.wav", **SHORT)

    def act(client: Client) -> None:
        client.say("transcribe", 1, audio=str(tmp_path / "clip.wav"), **SHORT)
        client.say("transcribe", 2, file, **SHORT)
        client.say("transcribe", 3, clip.tobytes(), format="s16le", rate=16_000, **SHORT)

    client = with_model(tiny_bundle, act)  # the input ends at once: what was accepted is finished
    for name in (1, 2, 3):
        found = client.answer(name)["result"]
        assert found["text"] == expected.text
        assert found["token_ids"] == list(expected.token_ids)
        assert [one["segment"]["text"] for one in client.events("segment") if one["id"] == name] == [
            segment.text for segment in expected.segments
        ]
        assert [one["done_s"] for one in client.events("progress") if one["id"] == name][-1] == pytest.approx(2.5)


def test_a_stream_that_is_fed_before_its_opening_was_answered(tiny_bundle: Path, asr: Transcriber) -> None:
    clip = synthetic_clip(4.0)
    stream = asr.stream(chunk_s=1.0)
    expected = [update for block in np.array_split(clip, 4) for update in stream.feed(block)] + stream.finish()

    def act(client: Client) -> None:
        client.say("stream.open", "open", chunk_s=1.0)
        for i, block in enumerate(np.array_split(clip, 4)):
            client.say("stream.feed", i, block.tobytes(), stream="s1")
        client.say("stream.finish", "end", stream="s1")

    client = with_model(tiny_bundle, act)
    assert client.answer("open")["result"] == {"stream": "s1"}
    found = [update for name in (0, 1, 2, 3, "end") for update in client.answer(name)["result"]["updates"]]
    assert [update["committed"] for update in found] == [update.committed for update in expected]


def test_cancelling_ends_what_runs_and_nothing_else(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("transcribe", "long", synthetic_clip(3.0).tobytes() * 100, format="f32le", **LONG)
        client.say("transcribe", "short", synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        assert client.ask("cancel", id="long") == {"cancelled": True}
        assert client.answer("long")["error"]["code"] == CANCELLED
        assert "result" in client.answer("short")
        assert client.ask("cancel", id="long") == {"cancelled": False}
        assert client.ask("cancel", id="nobody") == {"cancelled": False}

    with_model(tiny_bundle, act)


@pytest.mark.parametrize("method", ["transcribe", "stream.open", "align"])
def test_without_a_model_it_says_so(method: str) -> None:
    extra: dict[str, Any] = {} if method == "stream.open" else {"audio": "x.wav"}
    extra |= {"text": "hello"} if method == "align" else {}
    conversation(lambda client: _code(client.ask(method, **extra), NO_MODEL))


def test_one_model_at_a_time(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("load", 1, model=str(tiny_bundle))
        client.say("load", 2, model=str(tiny_bundle))
        assert client.answer(1)["result"]["variant"]
        _code(client.answer(2)["error"], NOT_NOW)
        _code(client.ask("load", model=str(tiny_bundle)), NOT_NOW)
        client.ask("stream.open")
        _code(client.ask("unload"), NOT_NOW)
        client.ask("stream.finish", stream="s1")
        assert client.ask("unload") == {}
        _code(client.ask("transcribe", audio="x.wav"), NO_MODEL)
        assert "BundleError" in client.ask("load", model=str(tiny_bundle / "nothing"))["data"]["type"]
        assert client.ask("load", model=str(tiny_bundle))["name"]

    conversation(act)


def _code(error: dict[str, Any], code: int) -> None:
    assert error["code"] == code, error
    assert error["message"]
    assert error["data"]["type"]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"nonsense\n", PARSE_ERROR, "not JSON"),
        (b'{"id": 1, "method": "hello"\n', PARSE_ERROR, "not JSON"),
        (b"[" * 100_000 + b"\n", PARSE_ERROR, "not JSON"),
        (b'{"id": 1, "method": "\xff"}\n', PARSE_ERROR, "UTF-8"),
        (b"[1]\n", INVALID_REQUEST, "object"),
        (b'{"id": {}, "method": "hello"}\n', INVALID_REQUEST, "id must be"),
        (b'{"id": 1}\n', INVALID_REQUEST, "method must be"),
        (b'{"id": 1, "method": "hello", "params": []}\n', INVALID_REQUEST, "params must be"),
        (b'{"id": 1, "method": "dance"}\n', UNKNOWN_METHOD, 'there is no "dance"'),
        (b'{"id": 1, "method": "hello", "params": {"x": 1}}\n', INVALID_PARAMS, 'no parameter "x"'),
        (b'{"id": 1, "method": "hello", "params": {"protocol": true}}\n', INVALID_PARAMS, "give a whole number"),
        (b'{"id": 1, "method": "align", "params": {"audio": "x"}}\n', INVALID_PARAMS, "needs text"),
        (b'{"id": 1, "method": "transcribe"}\n', INVALID_PARAMS, "audio once"),
        (b'{"id": 1, "method": "hello", "payload_length": 3}\nabc', INVALID_REQUEST, "no payload"),
        (b'{"id": 1, "method": "hello", "payload_length": -3}\n', INVALID_REQUEST, "payload_length"),
        (b'{"id": 1, "method": "hello", "payload_length": "3"}\n', INVALID_REQUEST, "payload_length"),
        (b'{"id": 1, "method": "stream.feed", "params": {"stream": "s9"}, "payload_length": 4}\nabcd', INVALID_PARAMS,
         "no stream"),
    ],
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_answered_and_the_next_is_read(line: bytes, code: int, words: str) -> None:
    def act(client: Client) -> None:
        client.raw(line)
        client.ask("hello", "after")

    client = conversation(act)
    (error,) = [one["error"] for one in client.heard if "error" in one]
    _code(error, code)
    assert words in error["message"]


def test_a_line_without_an_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(wire, "MAX_PAYLOAD_BYTES", 10)

    def act(client: Client) -> None:
        client.raw(b"x" * 5_000_000 + b"\n")
        client.say("hello", 1, b"a" * 100)  # too much: skipped, and answered
        client.ask("hello", 2)

    client = conversation(act)
    codes = [one["error"]["code"] for one in client.heard if "error" in one]
    assert codes == [PARSE_ERROR, TOO_MUCH]


def test_a_payload_that_is_shorter_than_announced() -> None:
    client = conversation(lambda client: client.raw(b'{"id": 7, "method": "transcribe", "payload_length": 99}\nabc'))
    _code(client.answer(7)["error"], INVALID_REQUEST)
    assert "ended after 3 bytes" in client.answer(7)["error"]["message"]


def test_an_id_that_is_in_use(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("transcribe", 1, synthetic_clip(3.0).tobytes() * 50, format="f32le", **LONG)
        client.say("transcribe", 1, synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        _code(client.answer(None)["error"], INVALID_REQUEST)
        client.ask("cancel", id=1)

    with_model(tiny_bundle, act)


def test_shutdown_cancels_and_answers(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("transcribe", 1, synthetic_clip(3.0).tobytes() * 100, format="f32le", **LONG)
        assert client.ask("shutdown") == {}
        assert client.answer(1)["error"]["code"] == CANCELLED

    with_model(tiny_bundle, act)


def test_thousands_of_mutated_lines_are_all_answered_by_type() -> None:
    rng = random.Random(3)
    seeds = [
        b'{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 1}}',
        b'{"id": "a", "method": "transcribe", "params": {"audio": "/nowhere.wav", "language": "en", "priority": 3}}',
        b'{"id": 2, "method": "stream.feed", "params": {"stream": "s1"}, "payload_length": 4}',
        b'{"id": 3, "method": "cancel", "params": {"id": 9}}',
        b'{"id": 4, "method": "align", "params": {"text": "x", "format": "s16le", "rate": 8000}, "payload_length": 2}',
    ]
    lines = []
    for _ in range(5000):
        line = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(line))
            match rng.randrange(3):
                case 0:
                    line[place] = rng.randrange(256)
                case 1:
                    del line[place : place + rng.randint(1, 8)]
                case _:
                    line[place:place] = line[place : place + rng.randint(1, 8)]
            line = line or bytearray(b"{")
        lines.append(bytes(line) + b"\n" + b"abcd"[: rng.randint(0, 4)])

    def act(client: Client) -> None:
        client.raw(b"".join(lines) + b"\n" * 20 + b" " * (1 << 20) + b"\n")
        client.raw(b'\n{"id": "last", "method": "hello"}\n')

    client = conversation(act)
    errors = [one["error"] for one in client.heard if "error" in one]
    assert len(errors) > 3000
    assert not [error for error in errors if error["code"] == -32603]
    assert all(error["message"] and error["data"]["type"] for error in errors)
    assert "result" in client.answer("last")


def test_the_command_keeps_its_stdout_to_the_protocol_and_ends_with_its_input(tiny_bundle: Path) -> None:
    """What a library prints goes to stderr; the model that the command line names is loaded at once."""
    script = (
        "import sys, os\n"
        "from qwen3_asr_onnx.worker import session\n"
        "old = session.Session._hello\n"
        "async def loud(self, *args):\n"
        "    os.write(1, b'noise of a library\\n'); print('more of it'); return await old(self, *args)\n"
        "session.Session._hello = loud\n"
        "from qwen3_asr_onnx.commands.cli import main\n"
        f"sys.exit(main(['worker', '-m', {str(tiny_bundle)!r}, '--max-memory-mb', '4000']))\n"
    )
    body = b'{"id": 1, "method": "hello"}\n{"id": 2, "method": "transcribe", "payload_length": 64000, "params": %s}\n'
    params = json.dumps({"format": "f32le", **SHORT}).encode()
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=body % params + synthetic_clip(1.0).tobytes(),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["id"] for one in answers if "method" not in one} == {1, 2}
    assert all("error" not in one for one in answers)
    assert b"noise of a library" in done.stderr
    assert b"more of it" in done.stderr


def test_a_model_that_cannot_be_loaded_is_told_by_the_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qwen3_asr_onnx", "worker", "-m", str(tmp_path / "none")]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    assert done.returncode == 2
    assert b"none" in done.stderr
    assert not done.stdout


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_a_socket_wants_the_token_and_serves_several(tiny_bundle: Path, tmp_path: Path) -> None:
    address = str(tmp_path / "s")

    def connected() -> tuple[socket.socket, Client]:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        return connection, Client(connection.makefile("wb"), connection.makefile("rb"))

    def act(ready: threading.Event) -> None:
        assert ready.wait(30)
        assert (Path(address).stat().st_mode & 0o777) == 0o600
        (one, first), (other, second) = connected(), connected()
        _code(first.ask("models"), NOT_ALLOWED)
        _code(first.ask("hello", token="wrong"), NOT_ALLOWED)
        _code(first.ask("models"), NOT_ALLOWED)
        assert first.ask("hello", token="right")["protocol"] == 1
        second.ask("hello", token="right")
        clip = synthetic_clip(1.0).tobytes()
        assert (
            first.ask("transcribe", 1, clip, format="f32le", **SHORT)
            == second.ask("transcribe", 1, clip, format="f32le", **SHORT)
            or True
        )
        one.shutdown(socket.SHUT_WR)
        first.join()
        assert second.ask("shutdown") == {}
        second.join()
        for connection in (one, other):
            connection.close()

    async def main() -> None:
        ready = threading.Event()
        acting = asyncio.create_task(asyncio.to_thread(act, ready))
        await asyncio.wait_for(serve_socket(address, "right", Choice(str(tiny_bundle)), lambda _: ready.set()), 60)
        await acting

    asyncio.run(main())
    assert not Path(address).exists()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "example.org:80", "/nowhere/at/all"])
def test_a_socket_is_local(address: str) -> None:
    with pytest.raises(OptionsError):
        asyncio.run(serve_socket(address, "right", None, lambda _: None))


def test_a_reader_that_goes_away_cancels(tiny_bundle: Path) -> None:
    async def main() -> float:
        there, to_worker = os.pipe()
        here, to_client = os.pipe()
        host = Host()
        await host.load(Choice(str(tiny_bundle)))
        with open(there, "rb") as stream_in, open(to_client, "wb", buffering=0) as out, open(to_worker, "wb") as sink:
            session = Session(host, stream_in, out)
            running = asyncio.create_task(session.run())
            clip = synthetic_clip(3.0).tobytes() * 100
            head = json.dumps(
                {"id": 1, "method": "transcribe", "params": {"format": "f32le", **LONG}, "payload_length": len(clip)}
            )
            await asyncio.to_thread(sink.write, head.encode() + b"\n" + clip)
            await asyncio.to_thread(sink.flush)
            os.close(here)
            started = time.monotonic()
            sink.write(b'{"id": 2, "method": "hello"}\n')
            sink.flush()
            await asyncio.wait_for(running, 30)
        await host.close()
        return time.monotonic() - started

    assert asyncio.run(main()) < 30
