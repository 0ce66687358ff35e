"""Tracing takes seconds and depends on dimensions alone: exports of one shape can share a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest

from qwen3_asr_onnx_export import pipeline, trace

__all__ = ["traced_once"]

_encoder = lru_cache(trace.trace_encoder)
_decoder = lru_cache(trace.trace_decoder)


@contextmanager
def traced_once() -> Iterator[None]:
    """Give every export inside a copy of one trace per shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "trace_encoder", lambda dims, n_mels: _encoder(dims, n_mels).clone())
        patch.setattr(pipeline, "trace_decoder", lambda dims, head_rows: _decoder(dims, head_rows).clone())
        yield
