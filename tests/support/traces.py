"""Tracing takes 20 seconds and depends on dimensions alone: every export of a test run shares one trace per shape.

Traces of the shapes that the tests use lie in `tests/data/traces`, each under the digest of all that it depends on:
dimensions, the sources that are traced, and the versions of what traces them. Whatever else is asked for is traced, so
they save time and prove nothing. `STORE_TRACES=1 make test` writes those that are missing.
"""

from __future__ import annotations

import functools
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import onnx_ir as ir
import pytest
from filelock import FileLock

from qwen3_asr_onnx.bundle import names
from qwen3_asr_onnx_export import passes, trace, wrappers
from qwen3_asr_onnx_export.templates.released import graph_bytes

__all__ = ["STORED", "made_once", "shared_folder", "traced_once"]

STORED = Path(__file__).parents[1] / "data" / "traces"

STORE = "STORE_TRACES"
"""The variable of the environment that has missing traces written."""


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
            key = _key(tracer.__name__, arguments)
            stored = STORED / f"{key}.onnx.xz"

            def make(path: Path) -> None:
                content = lzma.decompress(stored.read_bytes()) if stored.exists() else graph_bytes(tracer(*arguments))
                if os.environ.get(STORE) and not stored.exists():
                    stored.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
                path.write_bytes(content)

            return ir.load(made_once(folder / f"trace-{key}.onnx", make))

        return load

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "trace_encoder", shared(trace.trace_encoder))
        patch.setattr(trace, "trace_decoder", shared(trace.trace_decoder))
        yield


def _key(what: str, arguments: tuple[object, ...]) -> str:
    """Return the digest of all that a trace depends on."""
    digest = sha256(f"{what}{arguments}{_versions()}".encode())
    for module in (trace, names):
        digest.update(Path(str(module.__file__)).read_bytes())
    for package in (wrappers, passes):
        for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(path.read_bytes())
    return f"{what.removeprefix('trace_')}-{digest.hexdigest()[:16]}"


@functools.cache
def _versions() -> list[str]:
    return [version(package) for package in ("torch", "onnx", "onnx_ir", "onnxscript")]
