"""The ASGI application: who may ask what, and what every reply and every line of the log has in common."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TypeAlias

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwen3_asr_onnx.errors import Qwen3AsrError

from .alignments import align
from .chat import complete
from .errors import ApiError, as_api_error, reply_of
from .keys import is_known
from .state import State, state_of
from .transcriptions import transcribe, translate

if TYPE_CHECKING:
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber

__all__ = ["make_app"]

Handler: TypeAlias = "Callable[[Request, AsyncTranscriber, AsyncExitStack], Awaitable[Response]]"

logger = logging.getLogger(__name__)

_PLAIN_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_OPEN_PATHS = ("/health", "/ready", "/metrics")


def make_app(state: State) -> Starlette:
    """Return the application."""
    routes = [
        Route("/v1/audio/transcriptions", _Endpoint(transcribe), methods=["POST"]),
        Route("/v1/audio/translations", _Endpoint(translate), methods=["POST"]),
        Route("/v1/audio/alignments", _Endpoint(align), methods=["POST"]),
        Route("/v1/chat/completions", _Endpoint(complete), methods=["POST"]),
        Route("/v1/models", _models),
        Route("/v1/models/{name:path}", _model),
        Route("/health", _health),
        Route("/ready", _ready),
        Route("/metrics", _metrics),
    ]
    cors = Middleware(
        CORSMiddleware, allow_origins=state.settings.cors_origins, allow_methods=["GET", "POST"], allow_headers=["*"]
    )
    middleware = [Middleware(_Guard, state=state), *([cors] if state.settings.cors_origins else [])]
    handlers = {HTTPException: _http_error, ApiError: _api_error, Exception: _unexpected}
    app = Starlette(
        routes=routes, middleware=[*middleware, Middleware(_Keys, state=state)], exception_handlers=handlers
    )
    app.state.server = state
    return app


class _Endpoint:
    """A route that needs the engine: admitted before its body is read, and to the end of its reply."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            async with state_of(request).admitted() as engine, AsyncExitStack() as stack:
                response = await self._handler(request, engine, stack)
                await response(scope, receive, send)
        except ClientDisconnect:
            logger.info("%s: the client went away", scope["state"]["request_id"])
        except (ApiError, Qwen3AsrError, OSError) as error:
            await reply_of(as_api_error(error))(scope, receive, send)


class _Guard:
    """Gives each request an id, and says in the log and the metrics what came of it."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        begun_s, status = time.monotonic(), 499

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.monotonic() - begun_s
            route = scope["path"] if "endpoint" in scope else "other"
            self._state.metrics.answered("/v1/models" if route.startswith("/v1/models/") else route, status, seconds)
            level = logging.DEBUG if route in _OPEN_PATHS else logging.INFO  # probes ask every few seconds
            logger.log(level, "%s %s %s %d %.0f ms", request_id, scope["method"], route, status, 1000 * seconds)
            text = scope["state"].get("text")
            if self._state.settings.log_text and text is not None:
                logger.info("%s text: %s", request_id, text)


class _Keys:
    """Refuses who has no key, where keys are needed. Whether the server lives is told to everybody."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._keys = app, state.settings.keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._keys and scope["path"] not in _OPEN_PATHS:
            given = Headers(scope=scope).get("authorization", "")
            if not is_known(given, self._keys):
                why = "no key was given; send Authorization: Bearer KEY" if not given else "this key is not accepted"
                await reply_of(ApiError(401, why, code="invalid_api_key"))(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _models(request: Request) -> Response:
    state = state_of(request)
    state.require_engine()
    return JSONResponse({"object": "list", "data": [_model_body(name) for name in state.names]})


async def _model(request: Request) -> Response:
    state = state_of(request)
    state.require_engine()
    state.check_model(request.path_params["name"])
    return JSONResponse(_model_body(request.path_params["name"]))


def _model_body(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "qwen3-asr-onnx"}


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    engine = state_of(request).require_engine()
    return JSONResponse({"status": "ready", "active": engine.n_active, "waiting": engine.n_waiting})


async def _metrics(request: Request) -> Response:
    state = state_of(request)
    return Response(state.metrics.page(state), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} is not for this path" if error.status_code == 405 else "no such path; see /v1/models"
    reply = reply_of(ApiError(error.status_code, what, code="method_not_allowed" if error.status_code == 405 else None))
    reply.headers.update(error.headers or {})
    return reply


async def _api_error(_: Request, error: Exception) -> Response:
    return reply_of(as_api_error(error))


async def _unexpected(request: Request, _: Exception) -> Response:
    request_id = request.scope.get("state", {}).get("request_id", "")
    return reply_of(ApiError(500, f"internal error of the server; its log has more under {request_id}"))
