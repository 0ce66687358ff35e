"""A worker as other programs drive it: lines and payloads in, answers and events out, whatever is wrong with them."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.clips import synthetic_clip, wav_bytes
from tests.support.recording_aligner import RecordingAligner
from tests.support.worker_client import LONG, SHORT, Client, conversation, refused, with_model

from qwen3_asr_onnx import OptionsError, Transcriber
from qwen3_asr_onnx.alignment.aligner import Words
from qwen3_asr_onnx.worker import host
from qwen3_asr_onnx.worker.faults import (
    CANCELLED,
    FAILED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_MODEL,
    NOT_ALLOWED,
    NOT_NOW,
)
from qwen3_asr_onnx.worker.host import Choice
from qwen3_asr_onnx.worker.serving import serve_socket


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
    conversation(lambda client: refused(client.ask(method, **extra), NO_MODEL))


def test_one_model_at_a_time(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("load", 1, model=str(tiny_bundle))
        client.say("load", 2, model=str(tiny_bundle))
        assert client.answer(1)["result"]["variant"]
        refused(client.answer(2)["error"], NOT_NOW)
        refused(client.ask("load", model=str(tiny_bundle)), NOT_NOW)
        client.ask("stream.open")
        refused(client.ask("unload"), NOT_NOW)
        client.ask("stream.finish", stream="s1")
        assert client.ask("unload") == {}
        refused(client.ask("transcribe", audio="x.wav"), NO_MODEL)
        assert "BundleError" in client.ask("load", model=str(tiny_bundle / "nothing"))["data"]["type"]
        assert client.ask("load", model=str(tiny_bundle))["name"]

    conversation(act)


def test_an_id_that_is_in_use(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("transcribe", 1, synthetic_clip(3.0).tobytes() * 50, format="f32le", **LONG)
        client.say("transcribe", 1, synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        refused(client.answer(None)["error"], INVALID_REQUEST)
        client.ask("cancel", id=1)

    with_model(tiny_bundle, act)


def test_a_stream_whose_block_was_cancelled_goes_on(tiny_bundle: Path, asr: Transcriber) -> None:
    """Listening cannot be stopped: the next block waits for it, and what it found is told with that."""
    blocks = np.array_split(synthetic_clip(4.0), 4)
    stream = asr.stream(chunk_s=1.0)
    expected = [update for block in blocks for update in stream.feed(block)] + stream.finish()

    def act(client: Client) -> None:
        client.ask("stream.open", chunk_s=1.0)
        client.say("stream.feed", 0, blocks[0].tobytes(), stream="s1")
        client.say("cancel", "stop", id=0)
        for i, block in enumerate(blocks[1:], 1):
            client.say("stream.feed", i, block.tobytes(), stream="s1")
        client.say("stream.finish", "end", stream="s1")

    client = with_model(tiny_bundle, act)
    answers = [client.answer(name) for name in (0, 1, 2, 3, "end")]
    updates = [update for one in answers for update in one.get("result", {"updates": []})["updates"]]
    assert "".join(update["committed"] for update in updates) == "".join(update.committed for update in expected)
    if client.answer("stop")["result"]["cancelled"]:
        refused(answers[0]["error"], CANCELLED)


def test_audio_for_a_stream_that_is_not_open(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        refused(client.ask("stream.feed", 1, b"abcd", stream="s1"), INVALID_PARAMS)
        assert client.ask("stream.open") == {"stream": "s1"}
        refused(client.ask("stream.feed", 2, b"abc", stream="s1"), INVALID_PARAMS)  # no whole sample
        refused(client.ask("stream.feed", 3, stream="s1"), INVALID_PARAMS)
        client.ask("stream.finish", stream="s1")
        refused(client.ask("stream.feed", 4, b"abcd", stream="s1"), INVALID_PARAMS)
        refused(client.ask("stream.finish", stream="s1"), INVALID_PARAMS)

    with_model(tiny_bundle, act)


def test_a_result_says_which_text_may_not_be_complete(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        clip = synthetic_clip(2.0).tobytes()
        found = client.ask("transcribe", 1, clip, format="f32le", max_new_tokens=2)
        assert found["warnings"] == ["segment 0: the text may not be complete: length"]
        client.ask("stream.open", "open", max_new_tokens=1)
        said = [client.ask("stream.feed", 2, clip * 3, stream="s1"), client.ask("stream.finish", stream="s1")]
        reasons = [update["segment"]["stop_reason"] for one in said for update in one["updates"] if update["segment"]]
        expected = [
            f"segment {i}: the text may not be complete: {why}" for i, why in enumerate(reasons) if why != "eos"
        ]
        assert [line for one in said for line in one["warnings"]] == [
            line for line in expected if not line.endswith(("no_speech", "context_leak"))
        ]

    with_model(tiny_bundle, act)


@pytest.mark.parametrize(("given", "name"), [(True, None), ("mine", "mine")])
def test_words_are_timed_by_the_aligner_that_was_loaded(
    given: bool | str, name: str | None, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetched(name: str | None, variant: str | None, device: str, family: str = "asr") -> Path:
        if family == "aligner":
            asked.append((name, variant))
        return tiny_bundle

    monkeypatch.setattr(host, "fetch_prepared", fetched)
    monkeypatch.setattr(host, "Aligner", lambda *_: StubAligner())

    def act(client: Client) -> None:
        assert client.ask("load", model=str(tiny_bundle), aligner=given, aligner_variant="int8")["aligner"] is True
        clip = synthetic_clip(1.0).tobytes()
        found = client.ask("align", 1, clip, format="f32le", text="one two", language="en")
        assert [word["text"] for word in found["words"]] == ["one", "two"]
        assert found["warnings"] == ["1 of 2 words: improbable"]
        words = client.ask("transcribe", 2, clip, format="f32le", timestamps="word", **SHORT)["words"]
        assert [event["segment"]["words"] for event in client.events("segment")] == [[]] == [words]

    conversation(act)
    assert asked == [(name, "int8")]


class StubAligner(RecordingAligner):
    def align(self, audio: Any, text: str, *_: Any, **__: Any) -> Words:
        first, *others = self.words(text, 0.0)
        return (replace(first, flags=("improbable",), start_char=0), *others)

    def resolve_language(self, language: str | None) -> str:
        return language or "English"

    def align_waveform(self, *_: Any, **__: Any) -> Words:
        return ()

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "extra"), [("transcribe", {"timestamps": "word"}), ("align", {"text": "hello", "language": "en"})]
)
def test_what_needs_an_aligner_says_how_to_load_one(method: str, extra: dict[str, str], tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        error = client.ask(method, 1, synthetic_clip(1.0).tobytes(), format="f32le", **extra)
        refused(error, INVALID_PARAMS)
        assert "load the model with aligner: true" in error["message"]

    with_model(tiny_bundle, act)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"max_new_tokens": 0}, "give at least 1, or leave it out"),
        ({"time_limit_s": -1}, "or leave it out"),
        ({"language": "tlhIngan"}, "tlhIngan"),
        ({"timestamps": "letter"}, "timestamps"),
        ({"channels": "up"}, "channels"),
        ({"max_segment_s": "3"}, 'max_segment_s is "3"; give a number'),
        ({"partials": 1}, "partials is 1; give a true or false"),
        ({"format": "s24le"}, "s16le"),
        ({"rate": 10**30}, "rate"),
        ({"channels_sent": 0}, "channels_sent"),
    ],
)
def test_a_wrong_value_is_told_in_the_words_of_the_protocol(
    extra: dict[str, Any], words: str, tiny_bundle: Path
) -> None:
    def act(client: Client) -> None:
        error = client.ask("transcribe", 1, synthetic_clip(1.0).tobytes(), **{"format": "f32le", **extra})
        refused(error, INVALID_PARAMS)
        assert words in error["message"]
        assert not any(word in error["message"] for word in ("None", "Transcriber", "Aligner", "int ", "str ", "float"))

    with_model(tiny_bundle, act)


@pytest.mark.parametrize("path", ["-", "data:audio/wav;base64,AAAA", "http://127.0.0.1:9/a.wav", "a\0b", "\ud800", ""])
def test_a_path_is_a_path_and_nothing_else(path: str, tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        error = client.ask("transcribe", 1, audio=path)
        assert error["code"] == FAILED
        assert error["data"]["type"] == "AudioError"

    with_model(tiny_bundle, act)


def test_a_load_that_was_cancelled_is_there_when_it_is_done(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("load", 1, model=str(tiny_bundle))
        client.say("cancel", 2, id=1)
        client.ask("transcribe", 3, synthetic_clip(1.0).tobytes(), format="f32le", **SHORT)
        assert client.ask("hello")["model"] is not None
        assert client.ask("unload") == {}

    conversation(act)


def test_shutdown_cancels_and_answers(tiny_bundle: Path) -> None:
    def act(client: Client) -> None:
        client.say("transcribe", 1, synthetic_clip(3.0).tobytes() * 100, format="f32le", **LONG)
        assert client.ask("shutdown") == {}
        assert client.answer(1)["error"]["code"] == CANCELLED

    with_model(tiny_bundle, act)


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
        refused(first.ask("models"), NOT_ALLOWED)
        refused(first.ask("hello", token="wrong"), NOT_ALLOWED)
        refused(first.ask("models"), NOT_ALLOWED)
        assert first.ask("hello", token="right")["protocol"] == 1
        second.ask("hello", token="right")
        clip = synthetic_clip(1.0).tobytes()
        texts = [one.ask("transcribe", 1, clip, format="f32le", **SHORT)["text"] for one in (first, second)]
        assert texts[0] == texts[1]
        one.shutdown(socket.SHUT_WR)
        first.join()
        assert second.ask("shutdown") == {}
        second.join()
        first.check()
        second.check()
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
