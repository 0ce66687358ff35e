"""OpenAI's own clients, unmodified, against the server."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import FakeEngine, running, wav

pytestmark = pytest.mark.conformance

SCRIPT = """
import OpenAI, { toFile } from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const file = async () => toFile(Buffer.from(process.argv[3], "base64"), "a.wav");
const model = "whisper-1";
const plain = await client.audio.transcriptions.create({ file: await file(), model });
const response_format = "verbose_json";
const verbose = await client.audio.transcriptions.create({ file: await file(), model, response_format });
let text = "";
for await (const event of await client.audio.transcriptions.create({ file: await file(), model, stream: true }))
  if (event.type === "transcript.text.delta") text += event.delta;
let code = "";
try { await client.audio.transcriptions.create({ file: await file(), model: "none" }); } catch (e) { code = e.code; }
console.log([plain.text, verbose.segments.length, text, code].join("|"));
"""


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with running(engine) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as made:
        yield made


def test_python(client: Any, engine: FakeEngine) -> None:
    import openai

    given: dict[str, Any] = {"file": ("a.wav", wav()), "model": "whisper-1"}
    create = client.audio.transcriptions.create
    assert create(**given).text == "Hello there. Bye."
    assert create(**given, response_format="srt").startswith("1\n00:00:00,000 -->")
    verbose = create(**given, response_format="verbose_json", language="en", extra_body={"context": "names"})
    assert [segment.text for segment in verbose.segments] == ["Hello there.", "Bye."]
    assert engine.options[-1].context == "names"
    told = list(create(**given, stream=True, include=["logprobs"]))
    deltas = [event.delta for event in told if event.type == "transcript.text.delta"]
    assert "".join(deltas) == told[-1].text == "Hello there. Bye."
    for change, kind in (({"model": "none"}, openai.NotFoundError), ({"language": "xx"}, openai.BadRequestError)):
        with pytest.raises(kind):
            create(**{**given, **change})
    with pytest.raises(openai.BadRequestError, match="does not translate"), pytest.deprecated_call():
        client.audio.translations.create(**given)
    assert client.models.retrieve("whisper-1").id in [model.id for model in client.models.list()]


def test_python_chat(client: Any) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}
    messages = [{"role": "user", "content": [sound]}]
    reply = client.chat.completions.create(model="tiny", messages=messages)
    assert reply.choices[0].message.content == "language English<asr_text>Hello there. Bye."
    chunks = client.chat.completions.create(
        model="tiny", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    told = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in told if c.choices) == reply.choices[0].message.content
    assert told[-1].usage.completion_tokens == 3


def test_python_comes_back_when_it_is_told_to(engine: FakeEngine) -> None:
    openai = pytest.importorskip("openai")
    with running(engine, max_waiting_s=5.0) as address:
        engine.waiting_s = 10.0
        with (
            openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as caught,
        ):
            client.audio.transcriptions.create(file=("a.wav", wav()), model="whisper-1")
    assert caught.value.response.headers["retry-after"] == "5"


@pytest.mark.program("npm")
def test_node(engine: FakeEngine, tmp_path: Path) -> None:
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai"]
    if subprocess.run(install, cwd=tmp_path, timeout=120, check=False, capture_output=True).returncode:
        pytest.skip("npm cannot install openai here")
    (tmp_path / "ask.mjs").write_text(SCRIPT, encoding="utf-8")
    with running(engine) as address:
        command = ["node", "ask.mjs", f"{address}/v1", base64.b64encode(wav()).decode()]
        done = subprocess.run(command, cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "Hello there. Bye.|2|Hello there. Bye.|model_not_found", done.stderr


def test_whatever_is_sent_is_answered_with_an_error_of_the_protocol(engine: FakeEngine) -> None:
    """A fuzzer over fields and bodies: never a status of 500, always the protocol's body."""
    pytest.importorskip("hypothesis")
    import httpx2
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    names = ("language", "response_format", "temperature", "stream", "include[]", "prompt", "model", "split", "n\0")
    texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["json", "true", "en"])
    scalars: Any = st.none() | st.booleans() | st.integers() | texts
    keys = st.sampled_from(["messages", "role", "content", "type", "audio_url", "url", "input_audio", "data", "model"])
    bodies = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))

    with running(engine) as address, httpx2.Client(base_url=address) as asker:

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(fields=st.dictionaries(st.sampled_from(names), texts), body=bodies, raw=st.binary(max_size=40))
        def check(fields: dict[str, str], body: Any, raw: bytes) -> None:
            multipart = {"Content-Type": "multipart/form-data; boundary=B"}
            replies = [
                asker.post("/v1/audio/transcriptions", data=fields, files={"file": ("a.wav", wav(0.1))}),
                asker.post("/v1/chat/completions", json=body),
                asker.post("/v1/chat/completions", content=raw),
                asker.post("/v1/audio/transcriptions", content=b"--B\r\n" + raw, headers=multipart),
            ]
            for reply in replies:
                assert reply.status_code < 500, reply.text
                if reply.status_code >= 400:
                    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}

        check()
