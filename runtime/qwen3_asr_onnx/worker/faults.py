"""What goes wrong -> the error object of the protocol: a code, a message, and the kind of error by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from qwen3_asr_onnx.errors import (
    AudioError,
    BundleError,
    BusyError,
    LimitError,
    MissingExtra,
    OptionsError,
    ProviderError,
    Qwen3AsrError,
    StreamError,
)

__all__ = [
    "CANCELLED",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "NOT_ALLOWED",
    "NOT_NOW",
    "NO_MODEL",
    "PARSE_ERROR",
    "TOO_MUCH",
    "UNKNOWN_METHOD",
    "Fault",
    "fault_of",
]

PARSE_ERROR, INVALID_REQUEST, UNKNOWN_METHOD, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
"""Codes of JSON-RPC 2.0."""

LOG = logging.getLogger(__name__)

NO_MODEL, NOT_NOW, NOT_ALLOWED, TOO_MUCH, CANCELLED, FAILED = -32001, -32002, -32003, -32004, -32005, -32006
"""Codes of this protocol."""

_CODES: Mapping[type[Exception], int] = {
    BusyError: NOT_NOW,
    OptionsError: INVALID_PARAMS,
    LimitError: TOO_MUCH,
    AudioError: FAILED,
    BundleError: FAILED,
    MissingExtra: FAILED,
    ProviderError: FAILED,
    StreamError: NOT_NOW,
    Qwen3AsrError: FAILED,
    OSError: FAILED,
    MemoryError: TOO_MUCH,
}
"""The first that fits counts."""


class Fault(Exception):  # noqa: N818 - an answer of the protocol, not an error of this program
    """An answer that says what is wrong with a request."""

    def __init__(self, code: int, message: str, **data: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def to_dict(self) -> dict[str, Any]:
        """Return the error object of a response."""
        return {"code": self.code, "message": self.message, "data": {"type": "ProtocolError", **self.data}}


def fault_of(error: Exception) -> Fault:
    """Return what an exception is to the client."""
    if isinstance(error, Fault):
        return error
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    if code is None:
        LOG.error("a fault of ours", exc_info=error)
        return Fault(INTERNAL, f"a fault of the worker; its messages on stderr have more ({error!r})", type="Fault")
    if isinstance(error, MemoryError):
        return Fault(
            code, "there is not enough memory for this; give shorter pieces, or allow more", type="MemoryError"
        )
    retry = {"retry_after_s": error.retry_after_s} if isinstance(error, BusyError) else {}
    name = "OSError" if isinstance(error, OSError) else type(error).__name__
    # How to raise a limit in Python is nothing that a client could do.
    return Fault(code, str(error).partition("; raise AudioLimits.")[0], type=name, **retry)
