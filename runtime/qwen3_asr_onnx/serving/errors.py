"""What goes wrong -> the error body that OpenAI's clients know: {"error": {message, type, param, code}}."""

from __future__ import annotations

import math
import re
from typing import Any

from starlette.responses import JSONResponse

from qwen3_asr_onnx.errors import (
    AudioError,
    BusyError,
    LimitError,
    MissingExtra,
    OptionsError,
    Qwen3AsrError,
)

__all__ = ["ApiError", "as_api_error", "invalid_field", "reply_of"]

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


_IN_PYTHON = re.compile(r"(;|, or) raise AudioLimits\..*", re.DOTALL)


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: of HTTP.
        message: what is wrong and what to do.
        param: the field that is wrong.
        code: for programs.
        retry_after_s: seconds after which to try again.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float = 0
    ) -> None:
        message = message.encode("utf-8", "replace").decode()  # what is repeated of a request may be half a character
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return the body."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def invalid_field(param: str, why: str) -> ApiError:
    """Return what is said of a field whose value cannot be honoured."""
    return ApiError(400, f"{param}: {why}", param=param, code="invalid_value")


def as_api_error(error: Exception) -> ApiError:
    """Return what a client is told of an error of the package, or of the files of this machine.

    No path of this machine is in it: uploads are called by the name of their field.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="rate_limit_exceeded", retry_after_s=error.retry_after_s)
    if isinstance(error, LimitError):
        # How to raise a limit in Python is nothing that a client could do.
        return ApiError(413, _IN_PYTHON.sub("", str(error)), param="file", code="audio_too_long")
    if isinstance(error, AudioError):
        return ApiError(400, str(error), param="file", code="invalid_audio")
    if isinstance(error, OptionsError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, MissingExtra):
        return ApiError(501, f"this server lacks a package: {error}", code="missing_package")
    if isinstance(error, OSError):
        return ApiError(503, f"the server cannot keep the upload: {error.strerror}", code="no_space", retry_after_s=30)
    assert isinstance(error, Qwen3AsrError)
    return ApiError(503, "the server is closing, or its model failed; try again", code="unavailable", retry_after_s=5)


def reply_of(error: ApiError) -> JSONResponse:
    """Return the reply that says it."""
    headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if error.retry_after_s else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not wanted
    return JSONResponse(error.body(), error.status, headers)
