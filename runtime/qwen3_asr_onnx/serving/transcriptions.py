"""POST /v1/audio/transcriptions and /v1/audio/translations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from qwen3_asr_onnx.outputs.writers import to_srt, to_txt, to_vtt
from qwen3_asr_onnx.results import Segment, Transcript

from .bodies import plain_body, segment_body, verbose_body
from .errors import ApiError
from .events import EventStream, Growing, message
from .fields import Wish, wish_of
from .state import state_of, while_connected
from .uploads import read_form

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

__all__ = ["transcribe", "translate"]


async def transcribe(request: Request, engine: AsyncTranscriber, stack: AsyncExitStack) -> Response:
    """Answer a transcription."""
    state = state_of(request)
    form = await read_form(request, state.settings)
    stack.callback(form.close)
    state.check_model(form.text("model"))
    wish = wish_of(form, engine.transcriber)
    audio = form.file("file")
    if wish.stream:
        return EventStream(request, _told(engine, audio, wish, request), state.settings.send_timeout_s)
    transcript = await while_connected(request, engine.transcribe(audio, wish.options))
    state.metrics.transcribed(transcript)
    request.state.text = transcript.text
    return _reply(transcript, wish, engine)


async def translate(request: Request, engine: AsyncTranscriber, stack: AsyncExitStack) -> Response:
    """Refuse a translation, in the words of the protocol."""
    del request, engine, stack
    why = "this model writes what is said in the language it is said in; it does not translate: use transcriptions"
    raise ApiError(400, why, code="unsupported_task")


def _reply(transcript: Transcript, wish: Wish, engine: AsyncTranscriber) -> Response:
    if wish.response_format == "text":
        return PlainTextResponse(to_txt(transcript))
    if wish.response_format == "srt":
        return PlainTextResponse(to_srt(transcript))
    if wish.response_format == "vtt":
        return Response(to_vtt(transcript), media_type="text/vtt")
    if wish.response_format == "verbose_json":
        return JSONResponse(verbose_body(transcript, wish))
    return JSONResponse(plain_body(transcript, wish, engine.transcriber))


async def _told(engine: AsyncTranscriber, audio: BinaryIO, wish: Wish, request: Request) -> AsyncGenerator[bytes]:
    growing, n_segments = Growing(), 0
    async with aclosing(engine.events(audio, wish.options)) as events:
        async for event in events:
            if isinstance(event, Transcript):
                yield _done(event, wish, engine)
                state_of(request).metrics.transcribed(event)
                request.state.text = event.text
                continue
            delta = growing.grown(event)
            if delta:
                yield message({"type": "transcript.text.delta", "delta": delta}, "transcript.text.delta")
            if isinstance(event, Segment):
                yield _segment(n_segments, event)
                n_segments += 1


def _segment(number: int, segment: Segment) -> bytes:
    shown = {"id": str(number), "start": segment.start_s, "end": segment.end_s, "text": segment.text, "speaker": ""}
    # Subtitle Edit reads what is nested, OpenAI's clients what is flat.
    kind = "transcript.text.segment"
    return message({"type": kind, **shown, "segment": segment_body(number, segment)}, kind)


def _done(transcript: Transcript, wish: Wish, engine: AsyncTranscriber) -> bytes:
    kind = "transcript.text.done"
    segments = [segment_body(number, segment) for number, segment in enumerate(transcript.segments)]
    return message({"type": kind, **plain_body(transcript, wish, engine.transcriber), "segments": segments}, kind)
