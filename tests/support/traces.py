"""Tracing takes seconds and depends on dimensions alone: every export of a test run shares one trace per shape."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import onnx_ir as ir
import pytest
from filelock import FileLock

from qwen3_asr_onnx_export import trace
from qwen3_asr_onnx_export.templates.released import graph_bytes

__all__ = ["made_once", "shared_folder", "traced_once"]


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all processes of this test run have in common."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return the path after `make(path)`, called by whichever process comes first; the others wait for it.

    What is half made, because `make` failed, is made again by the next.
    """
    done = path.with_name(f"{path.name}.done")
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not done.exists():
            make(path)
            done.touch()
    return path


@contextmanager
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give every export inside a copy of one trace per shape, whichever process of this run has made it."""
    folder = shared_folder(tmp_path_factory)

    def shared(tracer: Callable[..., ir.Model]) -> Callable[..., ir.Model]:
        def load(*arguments: object) -> ir.Model:
            key = sha256(f"{tracer.__name__}{arguments}".encode()).hexdigest()[:16]
            path = folder / f"trace-{key}.onnx"
            return ir.load(made_once(path, lambda path: path.write_bytes(graph_bytes(tracer(*arguments)))))

        return load

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "trace_encoder", shared(trace.trace_encoder))
        patch.setattr(trace, "trace_decoder", shared(trace.trace_decoder))
        yield
