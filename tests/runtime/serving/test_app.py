from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from qwen3_asr_onnx import AudioError, MissingExtra
from qwen3_asr_onnx.errors import BusyError

from . import conftest
from .conftest import FakeEngine, make_state, wav

testclient = pytest.importorskip("starlette.testclient")

from qwen3_asr_onnx.serving.app import make_app  # noqa: E402

PATH = "/v1/audio/transcriptions"


def client(engine: Any, **settings: Any) -> Any:
    return testclient.TestClient(make_app(make_state(engine, **settings)), raise_server_exceptions=False)


def ask(engine: FakeEngine, fields: dict[str, Any] | None = None, **settings: Any) -> Any:
    return client(engine, **settings).post(PATH, files={"file": ("a.wav", wav())}, data=fields or {})


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines.get("event", ""), {} if lines["data"] == "[DONE]" else json.loads(lines["data"])))
    return found


def test_formats(engine: FakeEngine) -> None:
    body = ask(engine, {"include[]": "logprobs"}).json()
    assert body["text"] == "Hello there. Bye."
    assert body["languages"] == [{"code": "en"}]
    assert [entry["logprob"] for entry in body["logprobs"]] == [-0.1, -0.2, -0.3]
    assert body["usage"]["output_tokens"] == 3
    assert ask(engine, {"response_format": "text"}).text == "Hello there. Bye.\n"
    assert "00:00:00,000 --> " in ask(engine, {"response_format": "srt"}).text
    reply = ask(engine, {"response_format": "vtt"})
    assert reply.text.startswith("WEBVTT")
    assert reply.headers["content-type"].startswith("text/vtt")
    verbose = ask(engine, {"response_format": "verbose_json"}).json()
    assert verbose["language"] == "english"
    assert [(s["start"], s["end"], s["text"]) for s in verbose["segments"]] == [
        (0.0, 1.0, "Hello there."),
        (1.0, 2.0, "Bye."),
    ]
    assert "words" not in verbose


def test_fields_become_options(engine: FakeEngine) -> None:
    fields = {"language": "deu", "prompt": "P", "keywords[]": ["A", "B"], "context": "C", "max_segment_s": "12"}
    assert ask(engine, fields).status_code == 200
    options = engine.options[-1]
    assert (options.language, options.context, options.max_segment_s) == ("German", "C\nP\nA, B", 12.0)
    for languages, forced in ((["fr"], "French"), (["fr", "en"], None)):
        ask(engine, {"languages[]": languages})
        assert engine.options[-1].language == forced


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "xml"}, "response_format"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"language": "klingon"}, "language"),
        ({"languages[]": ["en", "xx"]}, "language"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": "1.5"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"timestamp_granularities[]": "word", "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"timestamp_granularities": "syllable"}, "timestamp_granularities"),
        ({"stream": "maybe"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"include": "secrets"}, "include"),
        ({"include": "logprobs", "response_format": "text"}, "include"),
        ({"chunking_strategy": "random"}, "chunking_strategy"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_names"),
        ({"to_language": "fr"}, "to_language"),
        ({"max_segment_s": "0"}, "max_segment_s"),
        ({"split": "words"}, "split"),
    ],
)
def test_a_wrong_field_is_named(engine: FakeEngine, fields: dict[str, Any], param: str) -> None:
    reply = ask(engine, fields)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert not engine.options


def test_word_times(engine: FakeEngine) -> None:
    both = {"response_format": "verbose_json", "timestamp_granularities[]": ["segment", "word"]}
    assert "--aligner" in ask(engine, both).json()["warnings"][0]  # what Subtitle Edit sends goes on working

    class WithAligner:
        aligner = object()

        def __getattr__(self, name: str) -> Any:
            return getattr(FakeEngine_transcriber, name)

    FakeEngine_transcriber = engine.transcriber  # noqa: N806
    engine.transcriber = WithAligner()
    assert ask(engine, both).json()["words"][0] == {"word": "Hello", "start": 0.1, "end": 0.4}
    reply = client(engine).post(
        "/v1/audio/alignments", files={"file": ("a.wav", wav())}, data={"text": "Hello", "language": "en"}
    )
    assert reply.json()["words"][1]["word"] == "there."


def test_a_stream_has_names_deltas_segments_and_an_end(engine: FakeEngine) -> None:
    told = events(ask(engine, {"stream": "true", "include[]": "logprobs"}).text)
    deltas = [data["delta"] for name, data in told if name == "transcript.text.delta"]
    assert deltas == ["Hello", " there.", " By", "e."]
    assert [data["segment"]["text"] for name, data in told if name.endswith("segment")] == ["Hello there.", "Bye."]
    name, done = told[-1]
    assert (name, done["text"], len(done["segments"])) == ("transcript.text.done", "Hello there. Bye.", 2)
    engine.error = AudioError("broken in the middle")
    assert events(ask(engine, {"stream": "true"}).text)[-1][1]["error"]["message"] == "broken in the middle"


def test_a_stream_tells_at_its_end_what_may_be_incomplete(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = conftest.said()
    cut = replace(whole.segments[1], stop_reason="length")
    monkeypatch.setattr(conftest, "said", lambda **_: replace(whole, segments=(whole.segments[0], cut)))
    told = events(ask(engine, {"stream": "true"}).text)
    assert "segment 1" in told[-1][1]["warnings"][0]
    assert told[-1][1]["warnings"] == ask(engine).json()["warnings"]


def test_bodies_of_chats_are_limited_together(engine: FakeEngine) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(2.0)).decode(), "format": "wav"}}
    body = {"messages": [{"role": "user", "content": [sound]}]}
    calls = client(engine, max_memory_bytes=100_000)  # one of them is 85 kB
    assert [calls.post("/v1/chat/completions", json=body).status_code for _ in range(3)] == [200] * 3
    state = calls.app.state.server
    with state.memory.share() as take:
        take(50_000)
        reply = calls.post("/v1/chat/completions", json=body)
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"
    assert calls.post("/v1/chat/completions", json={"messages": 1}).status_code == 400
    assert calls.post("/v1/chat/completions", json=body).status_code == 200  # nothing was kept of the others
    assert ask(engine).status_code == 200


def test_probes_are_not_in_the_log(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="qwen3_asr_onnx.serving"):
        for path in ("/health", "/ready", "/metrics"):
            client(engine).get(path)
        assert not [record for record in caplog.records if record.name.startswith("qwen3_asr_onnx")]
    with caplog.at_level("DEBUG", logger="qwen3_asr_onnx.serving"):
        client(engine).get("/health")
    assert "GET /health 200" in caplog.text


def chat(engine: FakeEngine, part: Any = None, **fields: Any) -> Any:
    part = part or {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav()).decode(), "format": "wav"}}
    messages = [{"role": "system", "content": "names"}, {"role": "user", "content": [part]}]
    return client(engine).post("/v1/chat/completions", json={"messages": messages, **fields})


def test_chat_answers_as_the_model_writes(engine: FakeEngine) -> None:
    body = chat(engine).json()
    assert body["choices"][0]["message"]["content"] == "language English<asr_text>Hello there. Bye."
    assert engine.options[-1].context == "names"
    url = "data:audio/wav;base64," + base64.b64encode(wav()).decode()
    told = chat(engine, {"type": "audio_url", "audio_url": {"url": url}}, stream=True, language="en").text
    chunks = [data for _, data in events(told) if data]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == "language English<asr_text>Hello there. Bye."
    assert engine.options[-1].language == "English"
    assert told.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "no audio"},
        {"type": "audio_url", "audio_url": {"url": "file:///etc/passwd"}},
        {"type": "audio_url", "audio_url": {"url": "http://127.0.0.1/a.wav"}},
        {"type": "audio_url", "audio_url": "data:"},
        {"type": "input_audio", "input_audio": {"data": "???"}},
        {"type": "input_audio", "input_audio": {"data": ""}},
    ],
)
def test_chat_refuses(engine: FakeEngine, part: dict[str, Any]) -> None:
    reply = chat(engine, part)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "messages"


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"messages": 1}', '{"messages": [1]}', '{"messages": [{"content": 1}]}']
)
def test_chat_bodies_that_are_none(engine: FakeEngine, body: str) -> None:
    reply = client(engine).post("/v1/chat/completions", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"


def test_uploads_that_are_none(engine: FakeEngine) -> None:
    calls = client(engine, max_upload_bytes=20000)
    assert calls.post(PATH, data={"model": "tiny"}).status_code == 415
    assert calls.post(PATH, files={"other": b"x"}).json()["error"]["code"] == "missing_file"
    assert calls.post(PATH, files={"file": ("a.wav", b"")}).json()["error"]["code"] == "empty_file"
    reply = calls.post(PATH, files={"file": ("a.wav", b"x" * 30000)})
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")
    damaged = {"Content-Type": "multipart/form-data; boundary=B"}
    for body in (b"garbage", b"--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--\r\n", b"--B\r\nContent-Disp"):
        assert calls.post(PATH, content=body, headers=damaged).json()["error"]["code"] == "invalid_form"
    assert not engine.options

    def unannounced() -> Any:
        yield from [b"x" * 15000] * 2

    assert calls.post("/v1/chat/completions", content=unannounced()).status_code == 413


def test_models(engine: FakeEngine) -> None:
    calls = client(engine, aliases=("whisper-1", "mine/own"))
    assert [entry["id"] for entry in calls.get("/v1/models").json()["data"]] == ["tiny", "whisper-1", "mine/own"]
    assert calls.get("/v1/models/mine/own").json()["id"] == "mine/own"
    assert calls.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    reply = ask(engine, {"model": "other"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (404, "model")


def test_translations_paths_and_methods(engine: FakeEngine) -> None:
    calls = client(engine)
    assert calls.post("/v1/audio/translations").json()["error"]["code"] == "unsupported_task"
    assert calls.get("/nowhere").json()["error"]["type"] == "invalid_request_error"
    assert calls.get(PATH).status_code == 405
    assert calls.post("/v1/audio/alignments").json()["error"]["code"] == "no_aligner"


def test_keys(engine: FakeEngine) -> None:
    calls = client(engine, keys=("secret", "other"))
    for header in ("", "Bearer wrong", "Bearer", "Basic secret", "secret"):
        reply = calls.get("/v1/models", headers={"Authorization": header})
        assert (reply.status_code, reply.json()["error"]["type"]) == (401, "authentication_error")
    assert calls.get("/v1/models", headers={"Authorization": "Bearer other"}).status_code == 200
    assert calls.get("/health").json() == {"status": "ok"}


def test_what_is_full_says_when_to_come_back(engine: FakeEngine) -> None:
    engine.waiting_s = 10.0
    reply = ask(engine, max_waiting_s=5.0)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
    engine.waiting_s, engine.error = 0.0, BusyError("later", 7.2)
    reply = ask(engine)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "8")
    assert reply.json()["error"]["type"] == "rate_limit_error"
    engine.error = MissingExtra("pip install x")
    assert ask(engine).status_code == 501


def test_before_the_model_is_loaded(engine: FakeEngine) -> None:
    state = make_state(engine)
    state.engine = None
    calls = testclient.TestClient(make_app(state))
    assert calls.get("/health").status_code == 200
    for reply in (calls.get("/ready"), calls.post(PATH), calls.get("/v1/models")):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "loading")


def test_a_bug_tells_a_stranger_nothing_but_its_id(engine: FakeEngine) -> None:
    engine.error = ZeroDivisionError("secret detail")
    reply = client(engine).post(PATH, files={"file": wav()}, headers={"X-Request-ID": "abc-1"})
    assert reply.status_code == 500
    assert "abc-1" in reply.text
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text


def test_request_ids_and_metrics(engine: FakeEngine) -> None:
    calls = client(engine)
    assert calls.get("/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert len(calls.get("/health", headers={"X-Request-ID": "a b\t"}).headers["x-request-id"]) == 32
    pytest.importorskip("prometheus_client")
    assert 'qwen3_asr_requests_total{route="/health",status="200"} 2.0' in calls.get("/metrics").text


def test_other_pages_may_ask_only_where_they_are_named(engine: FakeEngine) -> None:
    page = {"Origin": "https://a.example"}
    assert "access-control-allow-origin" not in client(engine).get("/v1/models", headers=page).headers
    calls = client(engine, cors_origins=("https://a.example",), keys=("k",))
    asked = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert calls.options(PATH, headers=asked).status_code == 200
    other = calls.get("/v1/models", headers={"Origin": "https://b.example", "Authorization": "Bearer k"})
    assert "access-control-allow-origin" not in other.headers


def test_texts_are_logged_only_if_asked(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="qwen3_asr_onnx.serving"):
        ask(engine)
        assert "POST /v1/audio/transcriptions 200" in caplog.text
        assert "Hello" not in caplog.text
        ask(engine, log_text=True)
        assert "Hello there" in caplog.text


def test_what_is_not_complete_is_told(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = conftest.said()
    cut = replace(whole.segments[1], stop_reason="length")
    monkeypatch.setattr(conftest, "said", lambda **_: replace(whole, segments=(whole.segments[0], cut)))
    assert "segment 1" in ask(engine).json()["warnings"][0]
