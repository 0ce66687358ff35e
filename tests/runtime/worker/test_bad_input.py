"""What comes to a worker in lines that make no sense: each is answered by type, and the next is read as usual."""

from __future__ import annotations

import random

import pytest
from tests.support.worker_client import Client, conversation, refused

from qwen3_asr_onnx.worker import wire
from qwen3_asr_onnx.worker.faults import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_MODEL,
    PARSE_ERROR,
    TOO_MUCH,
    UNKNOWN_METHOD,
)


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
        (b'{"id": 1, "method": "cancel", "params": {"id": NaN}}\n', PARSE_ERROR, "NaN"),
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
    refused(error, code)
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
    refused(client.answer(7)["error"], INVALID_REQUEST)
    assert "ended after 3 bytes" in client.answer(7)["error"]["message"]


def test_a_payload_that_is_longer_than_announced_is_read_as_a_line() -> None:
    def act(client: Client) -> None:
        client.raw(b'{"id": 7, "method": "transcribe", "payload_length": 2}\nabcdef\n')
        client.ask("hello", "after")

    client = conversation(act)
    refused(client.answer(None)["error"], PARSE_ERROR)
    refused(client.answer(7)["error"], NO_MODEL)


def test_a_payload_beyond_the_limit_whose_end_never_comes() -> None:
    client = conversation(
        lambda client: client.raw(b'{"id": 7, "method": "transcribe", "payload_length": %d}\n' % 10**18)
    )
    refused(client.answer(7)["error"], TOO_MUCH)


def test_mutated_lines_are_all_answered_by_type() -> None:
    rng = random.Random(3)
    seeds = [
        b'{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": {"protocol": 1}}',
        b'{"id": "a", "method": "transcribe", "params": {"audio": "/nowhere.wav", "language": "en", "priority": 3}}',
        b'{"id": 2, "method": "stream.feed", "params": {"stream": "s1"}, "payload_length": 4}',
        b'{"id": 3, "method": "cancel", "params": {"id": 9}}',
        b'{"id": 4, "method": "align", "params": {"text": "x", "format": "s16le", "rate": 8000}, "payload_length": 2}',
    ]
    lines = []
    for _ in range(400):
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
    assert len(errors) > 240
    assert not [error for error in errors if error["code"] == -32603]
    assert all(error["message"] and error["data"]["type"] for error in errors)
    assert "result" in client.answer("last")
