"""POST /v1/chat/completions with audio, as vLLM serves Qwen3-ASR: the answer is `language X<asr_text>text`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qwen3_asr_onnx.audio.downloads import decode_data_url
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.results import Partial, Segment, Transcript
from qwen3_asr_onnx.text.answer import named_language

from .bodies import token_usage
from .errors import ApiError, invalid_field
from .events import EventStream, Growing, message
from .fields import make_options
from .state import state_of, while_connected
from .uploads import Upload, read_body
from .urls import Fetcher

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

__all__ = ["complete"]

_MAX_JSON_BYTES = 64 << 20
_PREFILL = re.compile(r"language\s+([\w ]+)<asr_text>")


@dataclass(frozen=True, slots=True)
class _Question:
    """What a chat asks; the body that it came in is gone.

    Attributes:
        model: as the client calls it.
        options: how to transcribe.
        audio: a file, which the caller closes.
        stream: whether the answer is told as it goes.
        wants_usage: whether a stream ends with what was used.
    """

    model: str
    options: TranscribeOptions
    audio: BinaryIO
    stream: bool
    wants_usage: bool


async def complete(request: Request, engine: AsyncTranscriber, stack: AsyncExitStack) -> Response:
    """Answer a chat."""
    state = state_of(request)
    question = await _question(request, engine)
    audio, options = question.audio, question.options
    stack.callback(audio.close)
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": question.model}
    if question.stream:
        chunks = _told(request, engine, audio, options, head, question.wants_usage)
        return EventStream(request, chunks, state.settings.send_timeout_s)
    transcript = await while_connected(request, engine.transcribe(audio, options))
    state.metrics.transcribed(transcript)
    request.state.text = transcript.text
    answer = {"role": "assistant", "content": _head_of(transcript.language) + transcript.text}
    choice = {"index": 0, "message": answer, "finish_reason": _finish(transcript), "logprobs": None}
    usage = _usage(transcript, options, engine)
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _question(request: Request, engine: AsyncTranscriber) -> _Question:
    """Return what the body asks; it is held in memory no longer than this takes."""
    state = state_of(request)
    with state.memory.share() as take:
        most = min(_MAX_JSON_BYTES, state.settings.max_upload_bytes)
        body = _parsed(await read_body(request, state.settings, most, take))
        model = body.get("model") or ""
        if not isinstance(model, str):
            raise invalid_field("model", "it is not text")
        state.check_model(model)
        context, language, part = _heard(body)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 1 << 20):
            raise invalid_field("max_completion_tokens", "it is not a whole number above 0")
        if body.get("n") not in (None, 1):
            raise invalid_field("n", "there is one answer")
        languages = engine.transcriber.manifest.languages
        options = make_options(languages, [language], context=context, max_new_tokens=limit)
        fetcher = Fetcher(state.settings.url_hosts, state.settings.max_upload_bytes)
        audio = await asyncio.get_running_loop().run_in_executor(state.fetchers, _audio, part, fetcher)
    wants_usage = isinstance(given := body.get("stream_options"), dict) and given.get("include_usage") is True
    return _Question(model or state.names[0], options, audio, bool(body.get("stream")), wants_usage)


async def _told(
    request: Request,
    engine: AsyncTranscriber,
    audio: BinaryIO,
    options: TranscribeOptions,
    head: Mapping[str, Any],
    wants_usage: bool,
) -> AsyncGenerator[bytes]:
    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return message({**head, "object": "chat.completion.chunk", "choices": [choice]})

    growing, named = Growing(), False
    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(engine.events(audio, options)) as events:
        async for event in events:
            if isinstance(event, Transcript):
                if not named:
                    yield chunk({"content": _head_of(event.language)})
                yield chunk({}, _finish(event))
                if wants_usage:
                    usage = _usage(event, options, engine)
                    yield message({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
                yield b"data: [DONE]\n\n"
                state_of(request).metrics.transcribed(event)
                continue
            delta = growing.grown(event)
            if delta:
                front = "" if named else _head_of(_language(event, options))
                named = True
                yield chunk({"content": front + delta})


def _language(event: Partial | Segment, options: TranscribeOptions) -> str:
    if isinstance(event, Segment):
        return event.language
    return options.language or named_language(event.raw)


def _head_of(language: str) -> str:
    return f"language {language or 'None'}<asr_text>"


def _finish(transcript: Transcript) -> str:
    return "length" if transcript.stop_reason in ("length", "time_limit") else "stop"


def _usage(transcript: Transcript, options: TranscribeOptions, engine: AsyncTranscriber) -> dict[str, int]:
    used = token_usage(transcript, options, engine.transcriber)
    read, written = used["input_tokens"], used["output_tokens"]
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _parsed(content: bytearray) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    return body


def _heard(body: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]]:
    """Return context, language and the part that holds the audio. Text beside the audio is not read by the model."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(entry, dict) for entry in messages):
        raise invalid_field("messages", "it is not a list of messages")
    language = body.get("language") or ""
    if not isinstance(language, str):
        raise invalid_field("language", "it is not text")
    contexts: list[str] = []
    sounds: list[Mapping[str, Any]] = []
    for entry in messages:
        content = entry.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise invalid_field("messages", "the content is neither text nor a list of parts")
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if entry.get("role") in ("system", "developer"):
            contexts += texts
        elif entry.get("role") == "assistant" and (named := _PREFILL.match("".join(texts))):
            language = language or named[1]
        sounds += [part for part in parts if part.get("type") in ("audio_url", "input_audio")]
    if len(sounds) != 1:
        raise invalid_field("messages", f"{len(sounds)} parts are audio_url or input_audio; send exactly one")
    return "\n".join(contexts), language, sounds[0]


def _audio(part: Mapping[str, Any], fetcher: Fetcher) -> BinaryIO:
    """Return the audio of a part as a file, which the caller closes."""
    kind = part["type"]
    given = part.get(kind)
    content = given.get("url" if kind == "audio_url" else "data") if isinstance(given, dict) else None
    if not isinstance(content, str):
        raise invalid_field(
            "messages", f"{kind} is an object with the text '{'url' if kind == 'audio_url' else 'data'}'"
        )
    if kind == "audio_url" and content[:5].lower() != "data:":
        return fetcher.fetch(content)
    if kind == "audio_url":
        data = decode_data_url(content, fetcher.max_bytes)
    else:
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise invalid_field("messages", "input_audio.data is not base64") from None
    if not data:
        raise ApiError(400, "messages: the audio is empty", param="messages", code="empty_file")
    file = Upload(1 << 20)
    file.write(data)
    file.seek(0)
    return file  # type: ignore[return-value]
