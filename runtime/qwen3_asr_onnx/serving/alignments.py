"""POST /v1/audio/alignments, an extension: audio and its text in, when every word is spoken out."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .bodies import word_bodies
from .errors import ApiError
from .state import state_of, while_connected
from .uploads import read_form

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

__all__ = ["align"]


async def align(request: Request, engine: AsyncTranscriber, stack: AsyncExitStack) -> Response:
    """Answer an alignment."""
    if engine.transcriber.aligner is None:
        raise ApiError(400, "this server has no forced aligner; start it with --aligner", code="no_aligner")
    form = await read_form(request, state_of(request).settings)
    stack.callback(form.close)
    text, language = form.text("text"), form.text("language")
    if not text.strip():
        raise ApiError(400, "text: give what is said in the audio", param="text", code="missing_field")
    words = await while_connected(request, engine.align(form.file("file"), text, language))
    return JSONResponse({"text": text, "words": word_bodies(words)})
